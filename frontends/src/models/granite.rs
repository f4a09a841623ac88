//! Granite: LLaMA with factors of embeddings, residuals, attention scores and token scores.
//! Sources: transformers `models/granite/modeling_granite.py`.

use super::ModelError;
use super::family::{Family, Head, Request};
use super::llama::{self, Defaults};
use crate::blocks::Decoder;

pub(super) const FAMILY: Family = Family {
    model_type: "granite",
    architectures: &[("GraniteModel", Head::None), ("GraniteForCausalLM", Head::LanguageModel)],
    build: |request| request.decoder(&read(request)?),
};

fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let config = request.config;
    let factor = |key: &str| config.number(key).map(|factor| factor.unwrap_or(1.0));
    let mut model = llama::decoder(request, &Defaults::LLAMA)?;
    llama::biases(request, &mut model)?;
    model.embedding.scale = factor("embedding_multiplier")?;
    model.scores.scale = 1.0 / config.positive("logits_scaling")?.unwrap_or(1.0);
    let (scale, residual_scale) = (factor("attention_multiplier")?, factor("residual_multiplier")?);
    for layer in &mut model.layers {
        layer.attention.1.scale = scale;
        layer.residual_scale = residual_scale;
    }
    Ok(model)
}
