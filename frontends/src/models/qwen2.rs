//! Qwen2 and Qwen2.5: LLaMA with biases of queries, keys and values, and windows in the upper layers.
//! Sources: arXiv:2407.10671; transformers `models/qwen2/modeling_qwen2.py`.

use super::ModelError;
use super::family::{Family, Head, Request};
use super::layer_types;
use super::llama::{self, Defaults};
use crate::blocks::{Decoder, LinearKind};

pub(super) const FAMILY: Family = Family {
    model_type: "qwen2",
    architectures: &[
        ("Qwen2Model", Head::None),
        ("Qwen2ForCausalLM", Head::LanguageModel),
        ("Qwen2ForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&read(request)?),
};

fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let mut model = llama::decoder(request, &Defaults::LLAMA)?;
    windows(request, &mut model)?;
    for layer in &mut model.layers {
        layer.attention_mut().linear = LinearKind::BIASED;
    }
    Ok(model)
}

/// The windows of Qwen's models: `sliding_window` where `use_sliding_window` asks for them, from layer
/// `max_window_layers` on unless `layer_types` says otherwise.
pub(super) fn windows(request: &Request<'_>, model: &mut Decoder) -> Result<(), ModelError> {
    let config = request.config;
    let (used, window) = (config.flag("use_sliding_window", false)?, config.size("sliding_window")?);
    let window = window.filter(|_| used);
    let first = config.size_or_zero("max_window_layers")?.unwrap_or(28);
    let sliding = layer_types::sliding(config, model.layers.len(), |i| window.is_some() && i >= first)?;
    if window.is_none() && sliding.contains(&true) {
        return Err(config.invalid("sliding_window", "the width of the windows that layer_types asks for").into());
    }
    for (layer, sliding) in model.layers.iter_mut().zip(sliding) {
        layer.attention_mut().window = window.filter(|_| sliding);
    }
    Ok(())
}
