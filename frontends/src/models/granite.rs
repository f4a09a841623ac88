//! Granite and GraniteMoE: LLaMA with factors of embeddings, residuals, attention scores and token scores, in the
//! second with mixtures of experts.
//! Sources: transformers `models/granite/modeling_granite.py`, `models/granitemoe/modeling_granitemoe.py`.

use super::ModelError;
use super::family::{Family, Head, Request};
use super::llama::{self, Defaults};
use super::sparse::{self, Mixture};
use crate::blocks::{Decoder, ExpertTensors, RouterScores};

pub(super) const FAMILY: Family = Family {
    model_type: "granite",
    architectures: &[("GraniteModel", Head::None), ("GraniteForCausalLM", Head::LanguageModel)],
    build: |request| request.decoder(&read(request)?),
};

pub(super) const MIXTURE: Family = Family {
    model_type: "granitemoe",
    architectures: &[("GraniteMoeModel", Head::None), ("GraniteMoeForCausalLM", Head::LanguageModel)],
    build: |request| request.decoder(&read_mixture(request)?),
};

fn read_mixture(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let mut model = read(request)?;
    let mixture = Mixture {
        inner: request.config.extent("intermediate_size")?,
        router: "router.layer",
        scores: RouterScores::SoftmaxOfChosen,
        chosen: 2,
        normalise: false,
        tensors: ExpertTensors::Stacked(["input_linear.weight", "output_linear.weight"]),
    };
    let experts = sparse::experts(request.config, &model, mixture)?;
    model.layers.iter_mut().for_each(|layer| layer.feed_forward = ("block_sparse_moe", experts.clone()));
    Ok(model)
}

/// Granite with dense perceptrons.
pub(super) fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let config = request.config;
    let factor = |key: &str| config.number(key).map(|factor| factor.unwrap_or(1.0));
    let mut model = llama::decoder(request, &Defaults::LLAMA)?;
    llama::biases(request, &mut model)?;
    model.embedding.scale = factor("embedding_multiplier")?;
    model.scores.scale = 1.0 / config.positive("logits_scaling")?.unwrap_or(1.0);
    let (scale, residual_scale) = (factor("attention_multiplier")?, factor("residual_multiplier")?);
    for layer in &mut model.layers {
        layer.attention_mut().scale = scale;
        layer.sum_weights = [[1.0, residual_scale]; 2];
    }
    Ok(model)
}
