//! What the models of flash-linear-attention have in common: names around their layers, and keys.
//! Source: flash-linear-attention `fla/models`.

use super::ModelError;
use super::family::{Head, Request};
use crate::blocks::{Decoder, Embedding, Layer, Norm, Scores, Size};
use crate::config::{ConfigError, ConfigReader};

/// A decoder of such layers; `before` is a norm between the embeddings and the first layer.
pub(super) fn decoder(
    request: &Request<'_>,
    norm: &Norm,
    before: bool,
    layers: Vec<Layer>,
) -> Result<Decoder, ModelError> {
    let (config, tensors) = (request.config, request.tensors);
    config.disregard(HARMLESS);
    for key in ["attn", "attnres_block_size"] {
        if config.get(key).is_some() {
            return Err(config.invalid(key, "null, as such layers are not implemented").into());
        }
    }
    let vocab = config.extent_or("vocab_size", 32_000)?;
    let prefix = tensors.prefix("model.");
    let tie = config.flag("tie_word_embeddings", false)?;
    let (table, matrix) = tensors.tied(&format!("{prefix}embeddings.weight"), "lm_head.weight", tie);
    Ok(Decoder {
        embedding: Embedding {
            norm: before.then(|| ("layers.0.pre_norm", norm.clone())),
            ..Embedding::plain(table, &vocab, &norm.width)
        },
        rotary: vec![],
        alibi: None,
        layers_name: "layers",
        layers,
        final_norm: Some(("norm", norm.clone())),
        projection: None,
        scores: Scores::plain(matrix),
        max_positions: None, // all context is in the states
        known_unused: &[],
        prefix,
        width: norm.width.clone(),
    })
}

/// The heads of an architecture's two models, the one that generates first.
pub(super) const fn architectures(names: [&'static str; 2]) -> [(&'static str, Head); 2] {
    [(names[0], Head::LanguageModel), (names[1], Head::None)]
}

/// Keys that say how a model is computed or trained.
const HARMLESS: &[&str] = &[
    "attn_mode",
    "fuse_cross_entropy",
    "fuse_linear_cross_entropy",
    "fuse_norm",
    "fuse_swiglu",
    "initializer_range",
    "use_l2warp",
];

/// Width of a head whose channels are `expand` times the model's, in equal parts.
pub(super) fn head_width(
    config: &ConfigReader<'_>,
    [width, heads]: [&Size; 2],
    (key, default): (&str, f64),
) -> Result<Size, ConfigError> {
    let channels = config.positive(key)?.unwrap_or(default) * width.value() as f64;
    let whole = channels.round();
    let parts = whole as usize / heads.value();
    if (channels - whole).abs() > 1e-6 * channels || parts == 0 || !(whole as usize).is_multiple_of(heads.value()) {
        return Err(config.invalid(key, "a factor that makes hidden_size a multiple of num_heads"));
    }
    Ok(Size::new(parts, format!("{key} · hidden_size / num_heads")))
}

/// `intermediate_size`, or else `ratio · hidden_size` rounded up to a multiple.
pub(super) fn inner(config: &ConfigReader<'_>, width: &Size, ratio: f64, multiple: usize) -> Result<Size, ConfigError> {
    let default = ((width.value() as f64 * ratio) as usize).next_multiple_of(multiple);
    config.extent_or("intermediate_size", default)
}
