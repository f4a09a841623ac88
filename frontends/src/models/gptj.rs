//! GPT-J: parallel layers, interleaved rotary positions on part of each head.
//! Sources: github.com/kingoflolz/mesh-transformer-jax; transformers `models/gptj/modeling_gptj.py`.

use super::family::{Family, Head, Request};
use super::{ModelError, rope};
use crate::blocks::{Attention, Decoder, Embedding, FeedForward, Layer, LinearKind, Mlp, Norm, Rotary, Scores, Size};

pub(super) const FAMILY: Family = Family {
    model_type: "gptj",
    architectures: &[
        ("GPTJModel", Head::None),
        ("GPTJForCausalLM", Head::LanguageModel),
        ("GPTJForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&read(request)?),
};

fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let (config, tensors) = (request.config, request.tensors);
    let (width, vocab) = (config.extent("n_embd")?, config.extent("vocab_size")?);
    let heads = config.equal_heads("n_head", "n_embd", &width)?;
    let rotary_dim = config.required_size("rotary_dim")?;
    if rotary_dim > heads.head_dim.value() || !rotary_dim.is_multiple_of(2) {
        return Err(config.invalid("rotary_dim", "an even number of channels of a head").into());
    }
    let prefix = tensors.prefix("transformer.");
    let tie = config.flag("tie_word_embeddings", false)?;
    let (table, matrix) = tensors.tied(&format!("{prefix}wte.weight"), "lm_head.weight", tie);
    let norm = Norm::layer(&width, config.positive("layer_norm_epsilon")?.unwrap_or(1e-5));
    let attention = Attention {
        output: ("out_proj", LinearKind::PLAIN),
        rotary: Some(0),
        ..Attention::causal(&width, &heads.heads, &heads.head_dim)
    };
    let mlp = Mlp {
        width: width.clone(),
        inner: config.size("n_inner")?.map_or_else(|| &width * 4, |n| Size::new(n, "n_inner")),
        activation: config.activation("activation_function", "gelu_new")?,
        layers: ["fc_in", "fc_out"],
        linear: LinearKind::BIASED,
    };
    let layer = Layer::parallel(("attn", attention), ("mlp", FeedForward::Plain(mlp)), "ln_1", &norm);
    let max_positions = config.required_size("n_positions")?;
    let defaults = rope::Defaults { head_dim: rotary_dim, share: 1.0, theta: 10_000.0, max_positions };
    Ok(Decoder {
        embedding: Embedding::plain(table, &vocab, &width),
        rotary: vec![Rotary { interleaved: true, ..rope::unscaled(&defaults) }],
        alibi: None,
        layers_name: "h",
        layers: vec![layer; config.layers("n_layer")?],
        final_norm: Some(("ln_f", norm)),
        projection: None,
        scores: Scores { bias: Some("lm_head.bias"), ..Scores::plain(matrix) },
        max_positions: Some(max_positions),
        known_unused: &["*.attn.bias", "*.attn.masked_bias"],
        prefix,
        width,
    })
}
