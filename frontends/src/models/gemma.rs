//! Gemma 1, 2 and 3: LLaMA with scaled embeddings and norms whose weights are centred at zero; the second
//! adds norms after each part, caps of scores, and windows in every other layer; the third norms of queries
//! and keys in place of caps, and other rotary frequencies within windows.
//! Sources: arXiv:2403.08295, 2408.00118, 2503.19786; transformers `models/gemma*/modeling_gemma*.py`.

use super::ModelError;
use super::family::{Family, Head, Request};
use super::llama::{self, Defaults};
use super::{layer_types, rope};
use crate::blocks::{Decoder, HeadNormScope, HeadNorms, Norm, NormWeight, Size};

pub(super) const GEMMA: Family = Family {
    model_type: "gemma",
    architectures: &[
        ("GemmaModel", Head::None),
        ("GemmaForCausalLM", Head::LanguageModel),
        ("GemmaForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&first(request)?),
};

pub(super) const GEMMA2: Family = Family {
    model_type: "gemma2",
    architectures: &[
        ("Gemma2Model", Head::None),
        ("Gemma2ForCausalLM", Head::LanguageModel),
        ("Gemma2ForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&second(request)?),
};

pub(super) const GEMMA3: Family = Family {
    model_type: "gemma3_text",
    architectures: &[
        ("Gemma3TextModel", Head::None),
        ("Gemma3ForCausalLM", Head::LanguageModel),
        ("Gemma3TextForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&third(request)?),
};

const DEFAULTS: Defaults =
    Defaults { activation: ("hidden_activation", "gelu_pytorch_tanh"), tie: true, norm: centred, ..Defaults::LLAMA };

/// Root mean square with a weight that is stored centred at zero.
pub(super) fn centred(width: &Size, eps: f64) -> Norm {
    Norm { weight: NormWeight::PlusOne, ..Norm::rms(width, eps) }
}

/// What all three have in common.
fn decoder(request: &Request<'_>, defaults: &Defaults) -> Result<Decoder, ModelError> {
    let config = request.config;
    // Where both keys are, this one is the older, and not meant.
    config.text("hidden_act")?;
    if config.flag("use_bidirectional_attention", false)? {
        return Err(config.invalid("use_bidirectional_attention", "false").into());
    }
    let mut model = llama::decoder(request, defaults)?;
    model.embedding.scale = (model.width.value() as f64).sqrt();
    llama::attention_biases(request, &mut model)?;
    Ok(model)
}

fn first(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let newer = request.config.text(DEFAULTS.activation.0)?.is_some();
    let key = if newer { DEFAULTS.activation.0 } else { "hidden_act" };
    decoder(request, &Defaults { activation: (key, DEFAULTS.activation.1), ..DEFAULTS })
}

fn second(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let mut model = decoder(request, &DEFAULTS)?;
    sandwiched(request, &mut model)?;
    let sliding = layer_types::sliding(request.config, model.layers.len(), |i| i % 2 == 0)?;
    let window = request.config.size("sliding_window")?.unwrap_or(4096);
    for (layer, sliding) in model.layers.iter_mut().zip(sliding) {
        layer.attention_mut().window = sliding.then_some(window);
    }
    Ok(model)
}

fn third(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let config = request.config;
    let defaults = Defaults { theta: 1_000_000.0, ..DEFAULTS };
    let mut model = decoder(request, &defaults)?;
    sandwiched(request, &mut model)?;
    let head_dim = &model.layers[0].attention().head_dim;
    let eps = config.positive("rms_norm_eps")?.unwrap_or(1e-6);
    let norms = HeadNorms { names: ["q_norm", "k_norm"], norm: centred(head_dim, eps), scope: HeadNormScope::EachHead };
    let of_all = llama::rope_defaults(request, &defaults, head_dim)?;
    let near = rope::Defaults { theta: config.positive("rope_local_base_freq")?.unwrap_or(10_000.0), ..of_all };
    let (older, newer) = (config.size("sliding_window_pattern")?, config.size("_sliding_window_pattern")?);
    let period = older.or(newer).unwrap_or(6);
    let sliding = layer_types::sliding(config, model.layers.len(), |i| (i + 1) % period != 0)?;
    let window = config.size("sliding_window")?.unwrap_or(4096);
    model.rotary.push(rope::of_windows(config, &near)?);
    for (layer, sliding) in model.layers.iter_mut().zip(sliding) {
        let attention = layer.attention_mut();
        attention.norms = Some(norms.clone());
        attention.window = sliding.then_some(window);
        attention.rotary = Some(usize::from(sliding));
    }
    Ok(model)
}

/// Norms before and after each part, a scale of its own, and caps of scores.
fn sandwiched(request: &Request<'_>, model: &mut Decoder) -> Result<(), ModelError> {
    let config = request.config;
    let scale = config.positive("query_pre_attn_scalar")?.unwrap_or(256.0).powf(-0.5);
    let soft_cap = config.positive("attn_logit_softcapping")?;
    model.scores.soft_cap = config.positive("final_logit_softcapping")?;
    let Some((_, norm)) = model.final_norm.clone() else { return Ok(()) };
    let named = |name| Some((name, norm.clone()));
    for layer in &mut model.layers {
        layer.before = [named("input_layernorm"), named("pre_feedforward_layernorm")];
        layer.after = [named("post_attention_layernorm"), named("post_feedforward_layernorm")];
        let attention = layer.attention_mut();
        (attention.scale, attention.soft_cap) = (scale, soft_cap);
    }
    Ok(())
}
