//! GLM-4: LLaMA with interleaved rotary positions on half of each head, biases of queries, keys and values, and
//! joint gate and up; its second release adds norms after each part.
//! Sources: arXiv:2406.12793; transformers `models/glm/modeling_glm.py`, `models/glm4/modeling_glm4.py`.

use super::ModelError;
use super::family::{Family, Head, Request};
use super::llama::{self, Defaults};
use crate::blocks::{Decoder, FeedForward, Gate, LinearKind};

pub(super) const GLM: Family = Family {
    model_type: "glm",
    architectures: &[
        ("GlmModel", Head::None),
        ("GlmForCausalLM", Head::LanguageModel),
        ("GlmForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&first(request)?),
};

pub(super) const GLM4: Family = Family {
    model_type: "glm4",
    architectures: &[
        ("Glm4Model", Head::None),
        ("Glm4ForCausalLM", Head::LanguageModel),
        ("Glm4ForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&second(request)?),
};

const DEFAULTS: Defaults = Defaults { rotary_share: 0.5, eps: ("rms_norm_eps", 1.5625e-7), ..Defaults::LLAMA };

fn first(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let linear = LinearKind::with_bias(request.config.flag("attention_bias", true)?);
    let mut model = llama::decoder(request, &DEFAULTS)?;
    model.rotary[0].interleaved = true;
    for layer in &mut model.layers {
        layer.attention_mut().linear = linear;
        if let FeedForward::Gated(mlp) = &mut layer.feed_forward.1 {
            mlp.gate = Gate::Joint("gate_up_proj");
        }
    }
    Ok(model)
}

fn second(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let mut model = first(request)?;
    let norm = model.final_norm.clone().map(|(_, norm)| norm);
    for layer in &mut model.layers {
        layer.after = ["post_self_attn_layernorm", "post_mlp_layernorm"].map(|name| Some((name, norm.clone()?)));
    }
    Ok(model)
}
