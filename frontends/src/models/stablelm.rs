//! StableLM: LLaMA with layer norms, partly rotated heads and, in some sizes, norms of each head and
//! parallel layers.
//! Sources: transformers `models/stablelm/modeling_stablelm.py`.

use super::ModelError;
use super::family::{Family, Head, Request};
use super::llama::{self, Defaults};
use crate::blocks::{Decoder, HeadNormScope, HeadNorms, LinearKind, Norm};

pub(super) const FAMILY: Family = Family {
    model_type: "stablelm",
    architectures: &[
        ("StableLmModel", Head::None),
        ("StableLmForCausalLM", Head::LanguageModel),
        ("StableLmForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&read(request)?),
};

const DEFAULTS: Defaults =
    Defaults { rotary_share: 0.25, norm: Norm::layer, eps: ("layer_norm_eps", 1e-5), ..Defaults::LLAMA };

fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let config = request.config;
    let mut model = llama::decoder(request, &DEFAULTS)?;
    let eps = config.positive("layer_norm_eps")?.unwrap_or(1e-5);
    let (parallel, head_norms) = (config.flag("use_parallel_residual", false)?, config.flag("qk_layernorm", false)?);
    let linear = LinearKind::with_bias(config.flag("use_qkv_bias", false)?);
    for layer in &mut model.layers {
        let attention = layer.attention_mut();
        attention.linear = linear;
        attention.norms = head_norms.then(|| HeadNorms {
            names: ["q_layernorm", "k_layernorm"],
            norm: Norm::layer(&attention.head_dim, eps),
            scope: HeadNormScope::OwnTensors,
        });
        layer.parallel = parallel;
        if parallel {
            layer.before[1] = None;
        }
    }
    Ok(model)
}
