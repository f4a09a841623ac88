//! Mistral: LLaMA whose tokens see a window of those before them.
//! Sources: arXiv:2310.06825; transformers `models/mistral/modeling_mistral.py`.

use super::ModelError;
use super::family::{Family, Head, Request};
use super::llama::{self, Defaults};
use crate::blocks::Decoder;

pub(super) const FAMILY: Family = Family {
    model_type: "mistral",
    architectures: &[
        ("MistralModel", Head::None),
        ("MistralForCausalLM", Head::LanguageModel),
        ("MistralForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&read(request)?),
};

fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let window = request.config.size("sliding_window")?;
    let mut model = llama::decoder(request, &Defaults::LLAMA)?;
    for layer in &mut model.layers {
        layer.attention_mut().window = window;
    }
    Ok(model)
}
