//! Mixtral: Mistral whose perceptrons are mixtures of experts.
//! Sources: arXiv:2401.04088; transformers `models/mixtral/modeling_mixtral.py`.

use super::ModelError;
use super::family::{Family, Head, Request};
use super::llama::{self, Defaults};
use super::sparse::{self, Mixture};
use crate::blocks::{Decoder, ExpertTensors, RouterScores};

pub(super) const FAMILY: Family = Family {
    model_type: "mixtral",
    architectures: &[
        ("MixtralModel", Head::None),
        ("MixtralForCausalLM", Head::LanguageModel),
        ("MixtralForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&read(request)?),
};

fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let config = request.config;
    let window = config.size("sliding_window")?;
    let mut model = llama::decoder(request, &Defaults::LLAMA)?;
    let mixture = Mixture {
        inner: config.extent("intermediate_size")?,
        router: "gate",
        scores: RouterScores::Softmax,
        chosen: 2,
        normalise: true,
        tensors: ExpertTensors::Each(["w1", "w3", "w2"]),
    };
    let experts = sparse::experts(config, &model, mixture)?;
    for layer in &mut model.layers {
        layer.attention_mut().window = window;
        layer.feed_forward = ("block_sparse_moe", experts.clone());
    }
    Ok(model)
}
