//! GPT-2: pre-norm decoder, layer norms, learned positions, joint projection of queries, keys and values.
//! Sources: Radford et al. 2019; transformers `models/gpt2/modeling_gpt2.py`.

use castiron_ir::Value;
use castiron_ir::op::NormKind;

use super::ModelError;
use crate::blocks::{Attention, Decoder, Inventory, Linear, Mlp, ModelBuilder, Norm, Projections, Size, Tokens};
use crate::config::ConfigReader;

pub(super) struct Gpt2 {
    prefix: String,
    layers: usize,
    vocab: Size,
    positions: Size,
    width: Size,
    attention: Attention,
    mlp: Mlp,
    norm: Norm,
    embedding: String,
    head: String,
}

/// Tensors of older checkpoints that no computation needs.
pub(super) const KNOWN_UNUSED: &[&str] = &["*.attn.bias", "*.attn.masked_bias"];

impl Gpt2 {
    pub(super) fn read(config: &ConfigReader<'_>, tensors: &Inventory<'_>) -> Result<Gpt2, ModelError> {
        let (width, heads) = (config.extent("n_embd")?, config.extent("n_head")?);
        if !width.value().is_multiple_of(heads.value()) {
            return Err(config.invalid("n_head", "a divisor of n_embd").into());
        }
        if config.flag("add_cross_attention", false)? {
            return Err(config.invalid("add_cross_attention", "false").into());
        }
        // The order in which a product and its scaling are computed does not change the numbers.
        config.flag("reorder_and_upcast_attn", false)?;
        let head_dim = Size::new(width.value() / heads.value(), "n_embd / n_head");
        let scaled = config.flag("scale_attn_weights", true)?;
        let inner = config.size("n_inner")?.map_or_else(|| &width * 4, |n| Size::new(n, "n_inner"));
        let prefix = tensors.prefix("transformer.");
        let tie = config.flag("tie_word_embeddings", true)?;
        let (embedding, head) = tensors.tied(&format!("{prefix}wte.weight"), "lm_head.weight", tie);
        Ok(Gpt2 {
            prefix,
            layers: config.layers("n_layer")?,
            vocab: config.extent("vocab_size")?,
            positions: config.extent("n_positions")?,
            attention: Attention {
                width: width.clone(),
                kv_heads: heads.clone(),
                heads,
                scale: if scaled { 1.0 / (head_dim.value() as f64).sqrt() } else { 1.0 },
                head_dim,
                projections: Projections::Joint("c_attn"),
                linear: Linear::conv1d,
                output: ("c_proj", Linear::conv1d),
                divide_by_layer: config.flag("scale_attn_by_inverse_layer_idx", false)?,
                causal: true,
            },
            mlp: Mlp {
                width: width.clone(),
                inner,
                activation: config.activation("activation_function", "gelu_new")?,
                layers: ["c_fc", "c_proj"],
                linear: Linear::conv1d,
            },
            norm: Norm {
                kind: NormKind::Layer,
                width: width.clone(),
                eps: config.positive("layer_norm_epsilon")?.unwrap_or(1e-5),
            },
            width,
            embedding,
            head,
        })
    }
}

impl Decoder for Gpt2 {
    fn layers(&self, m: &ModelBuilder<'_>, tokens: &Tokens) -> Value {
        let x = m.embed(&self.embedding, &self.vocab, &self.width, &tokens.ids);
        let m = m.scope(&self.prefix);
        let x = x + m.embed("wpe.weight", &self.positions, &self.width, &tokens.positions);
        m.repeat("h", self.layers, &x, |m, x| {
            let x = x + m.attention("attn", &m.norm("ln_1", x, &self.norm), &self.attention);
            &x + m.mlp("mlp", &m.norm("ln_2", &x, &self.norm), &self.mlp)
        })
    }

    fn final_norm(&self, m: &ModelBuilder<'_>, x: &Value) -> Value {
        m.scope(&self.prefix).norm("ln_f", x, &self.norm)
    }

    fn logits(&self, m: &ModelBuilder<'_>, x: &Value) -> Value {
        x.linear(&m.param(&self.head, &[&self.vocab, &self.width]))
    }
}
