//! LLaMA: pre-norm decoder, RMS norms, rotary positions, grouped-query attention, gated MLP.
//! Sources: arXiv:2302.13971; transformers `models/llama/modeling_llama.py`.

use castiron_ir::Value;
use castiron_ir::op::NormKind;

use super::{ModelError, rope};
use crate::blocks::{
    Attention, Decoder, GatedMlp, Inventory, Linear, ModelBuilder, Norm, Projections, Rotary, Size, Tokens,
};
use crate::config::ConfigReader;

/// Widest head, since the builder makes a list of its frequencies.
const MOST_CHANNELS: usize = 1 << 16;

pub(super) struct Llama {
    prefix: String,
    layers: usize,
    vocab: Size,
    width: Size,
    attention: Attention,
    mlp: GatedMlp,
    norm: Norm,
    rotary: Rotary,
    embedding: String,
    head: String,
}

/// Tensors of older checkpoints that no computation needs.
pub(super) const KNOWN_UNUSED: &[&str] = &["*.rotary_emb.inv_freq"];

impl Llama {
    pub(super) fn read(config: &ConfigReader<'_>, tensors: &Inventory<'_>) -> Result<Llama, ModelError> {
        let (width, heads) = (config.extent("hidden_size")?, config.extent("num_attention_heads")?);
        let kv_heads = config.size("num_key_value_heads")?.unwrap_or(heads.value());
        let head_dim = config.size("head_dim")?.unwrap_or(width.value() / heads.value());
        if head_dim == 0 || head_dim > MOST_CHANNELS || !head_dim.is_multiple_of(2) {
            let expected = format!("an even width of heads up to {MOST_CHANNELS}, not {head_dim}");
            return Err(config.invalid("head_dim", &expected).into());
        }
        if !heads.value().is_multiple_of(kv_heads) {
            return Err(config.invalid("num_key_value_heads", "a divisor of num_attention_heads").into());
        }
        if config.flag("rope_interleaved", false)? {
            return Err(config.invalid("rope_interleaved", "false").into());
        }
        let activation = config.activation("hidden_act", "silu")?;
        let (attention_bias, mlp_bias) = (config.flag("attention_bias", false)?, config.flag("mlp_bias", false)?);
        let max_positions = config.size("max_position_embeddings")?.unwrap_or(2048);
        let eps = config.positive("rms_norm_eps")?.unwrap_or(1e-6);
        let prefix = tensors.prefix("model.");
        let tie = config.flag("tie_word_embeddings", false)?;
        let (embedding, head) = tensors.tied(&format!("{prefix}embed_tokens.weight"), "lm_head.weight", tie);
        let linear = Linear::with_bias(attention_bias);
        Ok(Llama {
            prefix,
            layers: config.layers("num_hidden_layers")?,
            vocab: config.extent("vocab_size")?,
            attention: Attention {
                width: width.clone(),
                heads,
                kv_heads: Size::new(kv_heads, "num_key_value_heads"),
                head_dim: Size::new(head_dim, "head_dim"),
                projections: Projections::Separate(["q_proj", "k_proj", "v_proj"]),
                linear,
                output: ("o_proj", linear),
                scale: 1.0 / (head_dim as f64).sqrt(),
                divide_by_layer: false,
                causal: true,
            },
            mlp: GatedMlp {
                width: width.clone(),
                inner: config.extent("intermediate_size")?,
                activation,
                bias: mlp_bias,
            },
            norm: Norm { kind: NormKind::Rms, width: width.clone(), eps },
            rotary: rope::rotary(config, head_dim, max_positions)?,
            width,
            embedding,
            head,
        })
    }
}

impl Decoder for Llama {
    fn layers(&self, m: &ModelBuilder<'_>, tokens: &Tokens) -> Value {
        let m = m.with_rotary(&self.rotary, tokens);
        let x = m.embed(&self.embedding, &self.vocab, &self.width, &tokens.ids);
        m.scope(&self.prefix).repeat("layers", self.layers, &x, |m, x| {
            let x = x + m.attention("self_attn", &m.norm("input_layernorm", x, &self.norm), &self.attention);
            &x + m.gated_mlp("mlp", &m.norm("post_attention_layernorm", &x, &self.norm), &self.mlp)
        })
    }

    fn final_norm(&self, m: &ModelBuilder<'_>, x: &Value) -> Value {
        m.scope(&self.prefix).norm("norm", x, &self.norm)
    }

    fn logits(&self, m: &ModelBuilder<'_>, x: &Value) -> Value {
        x.linear(&m.param(&self.head, &[&self.vocab, &self.width]))
    }
}
