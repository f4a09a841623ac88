//! Cohere's Command R and R7B: parallel layers, layer norms without biases, interleaved rotary positions,
//! scaled scores; the second kind turns heads only within windows.
//! Sources: transformers `models/cohere/modeling_cohere.py`, `models/cohere2/modeling_cohere2.py`.

use super::ModelError;
use super::family::{Family, Head, Request};
use super::layer_types;
use super::llama::{self, Defaults};
use crate::blocks::{Decoder, HeadNormScope, HeadNorms, Norm, Size};

pub(super) const COHERE: Family = Family {
    model_type: "cohere",
    architectures: &[("CohereModel", Head::None), ("CohereForCausalLM", Head::LanguageModel)],
    build: |request| request.decoder(&first(request)?),
};

pub(super) const COHERE2: Family = Family {
    model_type: "cohere2",
    architectures: &[("Cohere2Model", Head::None), ("Cohere2ForCausalLM", Head::LanguageModel)],
    build: |request| request.decoder(&second(request)?),
};

fn without_bias(width: &Size, eps: f64) -> Norm {
    Norm { bias: false, ..Norm::layer(width, eps) }
}

fn decoder(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let config = request.config;
    let eps = ("layer_norm_eps", 1e-5);
    let mut model = llama::decoder(request, &Defaults { tie: true, norm: without_bias, eps, ..Defaults::LLAMA })?;
    llama::attention_biases(request, &mut model)?;
    model.scores.scale = config.number("logit_scale")?.unwrap_or(0.0625);
    model.rotary[0].interleaved = true;
    for layer in &mut model.layers {
        (layer.parallel, layer.before[1]) = (true, None);
    }
    Ok(model)
}

fn first(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let config = request.config;
    let mut model = decoder(request)?;
    let eps = config.positive("layer_norm_eps")?.unwrap_or(1e-5);
    if config.flag("use_qk_norm", false)? {
        for layer in &mut model.layers {
            let norm = without_bias(&layer.attention().head_dim, eps);
            let names = ["q_norm", "k_norm"];
            layer.attention_mut().norms = Some(HeadNorms { names, norm, scope: HeadNormScope::OwnWeights });
        }
    }
    Ok(model)
}

fn second(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let config = request.config;
    let mut model = decoder(request)?;
    let window = config.size("sliding_window")?.unwrap_or(4096);
    let period = config.size("sliding_window_pattern")?.or(config.size("_sliding_window_pattern")?).unwrap_or(4);
    let sliding = layer_types::sliding(config, model.layers.len(), |i| (i + 1) % period != 0)?;
    for (layer, sliding) in model.layers.iter_mut().zip(sliding) {
        layer.attention_mut().window = sliding.then_some(window);
        layer.attention_mut().rotary = sliding.then_some(0);
    }
    Ok(model)
}
