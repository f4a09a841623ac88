//! Qwen3: LLaMA with norms of queries and keys, and windows in the upper layers.
//! Sources: arXiv:2505.09388; transformers `models/qwen3/modeling_qwen3.py`.

use super::family::{Family, Head, Request};
use super::llama::{self, Defaults};
use super::{ModelError, qwen2};
use crate::blocks::{Decoder, HeadNormScope, HeadNorms, Norm};

pub(super) const FAMILY: Family = Family {
    model_type: "qwen3",
    architectures: &[
        ("Qwen3Model", Head::None),
        ("Qwen3ForCausalLM", Head::LanguageModel),
        ("Qwen3ForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&read(request)?),
};

fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let mut model = llama::decoder(request, &Defaults::LLAMA)?;
    qwen2::windows(request, &mut model)?;
    llama::biases(request, &mut model)?;
    head_norms(request, &mut model)?;
    Ok(model)
}

/// Norms of queries and keys, with the same weights for all heads.
pub(super) fn head_norms(request: &Request<'_>, model: &mut Decoder) -> Result<(), ModelError> {
    let eps = request.config.positive("rms_norm_eps")?.unwrap_or(1e-6);
    for layer in &mut model.layers {
        let attention = layer.attention_mut();
        let norm = Norm::rms(&attention.head_dim, eps);
        attention.norms = Some(HeadNorms { names: ["q_norm", "k_norm"], norm, scope: HeadNormScope::EachHead });
    }
    Ok(())
}
