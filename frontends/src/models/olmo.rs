//! OLMo 2 and 3: LLaMA with norms after its parts rather than before, and of all queries and all keys; the third
//! has windows in three of four layers.
//! Sources: arXiv:2501.00656; transformers `models/olmo2/modeling_olmo2.py`, `models/olmo3/modeling_olmo3.py`.

use super::family::{Family, Head, Request};
use super::llama::{self, Defaults};
use super::{ModelError, layer_types, rope};
use crate::blocks::{Decoder, HeadNormScope, HeadNorms, Norm};

pub(super) const OLMO2: Family = Family {
    model_type: "olmo2",
    architectures: &[
        ("Olmo2Model", Head::None),
        ("Olmo2ForCausalLM", Head::LanguageModel),
        ("Olmo2ForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&decoder(request, &DEFAULTS)?),
};

pub(super) const OLMO3: Family = Family {
    model_type: "olmo3",
    architectures: &[
        ("Olmo3Model", Head::None),
        ("Olmo3ForCausalLM", Head::LanguageModel),
        ("Olmo3ForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&third(request)?),
};

const DEFAULTS: Defaults = Defaults { eps: ("rms_norm_eps", 1e-5), ..Defaults::LLAMA };

fn third(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let config = request.config;
    let defaults = Defaults { theta: config.positive("rope_theta")?.unwrap_or(500_000.0), ..DEFAULTS };
    let mut model = decoder(request, &defaults)?;
    let near = llama::rope_defaults(request, &defaults, &model.layers[0].attention().head_dim)?;
    model.rotary.push(rope::of_windows(config, &near)?);
    let sliding = layer_types::sliding(config, model.layers.len(), |i| (i + 1) % 4 != 0)?;
    let window = config.size("sliding_window")?.unwrap_or(4096);
    for (layer, sliding) in model.layers.iter_mut().zip(sliding) {
        layer.attention_mut().window = sliding.then_some(window);
        layer.attention_mut().rotary = Some(usize::from(sliding));
    }
    Ok(model)
}

/// What all have in common.
pub(super) fn decoder(request: &Request<'_>, defaults: &Defaults) -> Result<Decoder, ModelError> {
    let config = request.config;
    let mut model = llama::decoder(request, defaults)?;
    llama::attention_biases(request, &mut model)?;
    let norm = Norm::rms(&model.width, config.positive(defaults.eps.0)?.unwrap_or(defaults.eps.1));
    let names = ["post_attention_layernorm", "post_feedforward_layernorm"];
    for layer in &mut model.layers {
        let attention = layer.attention_mut();
        let names_of_heads = ["q_norm", "k_norm"];
        attention.norms = Some(HeadNorms { names: names_of_heads, norm: norm.clone(), scope: HeadNormScope::AllHeads });
        layer.before = [None, None];
        layer.after = names.map(|name| Some((name, norm.clone())));
    }
    Ok(model)
}
