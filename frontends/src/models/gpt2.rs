//! GPT-2: pre-norm decoder, layer norms, learned positions, joint projection of queries, keys and values.
//! Sources: Radford et al. 2019; transformers `models/gpt2/modeling_gpt2.py`.

use super::ModelError;
use super::family::{Family, Head, Request};
use crate::blocks::{
    Attention, Decoder, Embedding, FeedForward, Layer, LinearKind, Mlp, Norm, Positions, Projections, Scores, Size,
};

pub(super) const FAMILY: Family = Family {
    model_type: "gpt2",
    architectures: &[
        ("GPT2Model", Head::None),
        ("GPT2LMHeadModel", Head::LanguageModel),
        ("GPT2ForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&decoder(request, "gelu_new")?),
};

/// A decoder with GPT-2's names and keys; `activation` is its default.
pub(super) fn decoder(request: &Request<'_>, activation: &str) -> Result<Decoder, ModelError> {
    let (config, tensors) = (request.config, request.tensors);
    let (width, vocab) = (config.extent("n_embd")?, config.extent("vocab_size")?);
    let heads = config.equal_heads("n_head", "n_embd", &width)?;
    if config.flag("add_cross_attention", false)? {
        return Err(config.invalid("add_cross_attention", "false").into());
    }
    // The order in which a product and its scaling are computed does not change the numbers.
    config.flag("reorder_and_upcast_attn", false)?;
    let inner = config.size("n_inner")?.map_or_else(|| &width * 4, |n| Size::new(n, "n_inner"));
    let prefix = tensors.prefix("transformer.");
    let tie = config.flag("tie_word_embeddings", true)?;
    let (table, matrix) = tensors.tied(&format!("{prefix}wte.weight"), "lm_head.weight", tie);
    let norm = Norm::layer(&width, config.positive("layer_norm_epsilon")?.unwrap_or(1e-5));
    let scaled = config.flag("scale_attn_weights", true)?;
    let plain = Attention::causal(&width, &heads.heads, &heads.head_dim);
    let attention = Attention {
        projections: Projections::Joint("c_attn"),
        linear: LinearKind::CONV1D,
        output: ("c_proj", LinearKind::CONV1D),
        scale: if scaled { plain.scale } else { 1.0 },
        divide_by_layer: config.flag("scale_attn_by_inverse_layer_idx", false)?,
        ..plain
    };
    let mlp = Mlp {
        width: width.clone(),
        inner,
        activation: config.activation("activation_function", activation)?,
        layers: ["c_fc", "c_proj"],
        linear: LinearKind::CONV1D,
    };
    let layer = Layer::pre_norm(("attn", attention), ("mlp", FeedForward::Plain(mlp)), ["ln_1", "ln_2"], &norm);
    let rows = config.extent("n_positions")?;
    let max_positions = Some(rows.value());
    let positions = Some(Positions { table: "wpe", rows, offset: 0, skip_padding: false });
    Ok(Decoder {
        embedding: Embedding { positions, ..Embedding::plain(table, &vocab, &width) },
        rotary: vec![],
        alibi: None,
        layers_name: "h",
        layers: vec![layer; config.layers("n_layer")?],
        final_norm: Some(("ln_f", norm)),
        projection: None,
        scores: Scores::plain(matrix),
        max_positions,
        known_unused: &["*.attn.bias", "*.attn.masked_bias"],
        prefix,
        width,
    })
}
