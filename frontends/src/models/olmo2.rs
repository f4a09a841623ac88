//! OLMo 2: LLaMA with norms after its parts rather than before, and of all queries and all keys.
//! Sources: arXiv:2501.00656; transformers `models/olmo2/modeling_olmo2.py`.

use super::ModelError;
use super::family::{Family, Head, Request};
use super::llama::{self, Defaults};
use crate::blocks::{Decoder, HeadNormScope, HeadNorms, LinearKind, Norm};

pub(super) const FAMILY: Family = Family {
    model_type: "olmo2",
    architectures: &[
        ("Olmo2Model", Head::None),
        ("Olmo2ForCausalLM", Head::LanguageModel),
        ("Olmo2ForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&read(request)?),
};

fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let config = request.config;
    let defaults = Defaults { eps: ("rms_norm_eps", 1e-5), ..Defaults::LLAMA };
    let mut model = llama::decoder(request, &defaults)?;
    let linear = LinearKind::with_bias(config.flag("attention_bias", false)?);
    let norm = Norm::rms(&model.width, config.positive(defaults.eps.0)?.unwrap_or(defaults.eps.1));
    let names = ["post_attention_layernorm", "post_feedforward_layernorm"];
    for layer in &mut model.layers {
        let attention = &mut layer.attention.1;
        (attention.linear, attention.output.1) = (linear, linear);
        let names_of_heads = ["q_norm", "k_norm"];
        attention.norms = Some(HeadNorms { names: names_of_heads, norm: norm.clone(), scope: HeadNormScope::AllHeads });
        layer.before = [None, None];
        layer.after = names.map(|name| Some((name, norm.clone())));
    }
    Ok(model)
}
