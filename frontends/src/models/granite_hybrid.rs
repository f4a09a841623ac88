//! GraniteMoeHybrid (Granite 4): Granite with Mamba-2 in most layers, and in some sizes mixtures of experts beside a
//! perceptron that all tokens take.
//! Sources: transformers `models/granitemoehybrid`.

use super::family::{Family, Head, Request};
use super::hybrid::{self, Keys};
use super::sparse::{self, Mixture};
use super::{ModelError, granite};
use crate::blocks::{Decoder, ExpertTensors, FeedForward, Gate, GatedMlp, Mixer, RouterScores};

pub(super) const FAMILY: Family = Family {
    model_type: "granitemoehybrid",
    architectures: &[("GraniteMoeHybridModel", Head::None), ("GraniteMoeHybridForCausalLM", Head::LanguageModel)],
    build: |request| request.decoder(&read(request)?),
};

fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let config = request.config;
    config.disregard(&["init_method", "mamba_chunk_size"]);
    sparse::require_text(config, "normalization_function", &["rmsnorm"])?;
    let mut model = granite::read(request)?;
    if config.text("position_embedding_type")? != Some("rope") {
        model.rotary.clear();
        model.layers.iter_mut().for_each(|layer| layer.attention_mut().rotary = None);
    }
    perceptrons(request, &mut model)?;
    let inner = hybrid::channels(config, "mamba_expand", &model.width)?;
    let eps = config.positive("rms_norm_eps")?.unwrap_or(1e-6);
    let mamba = hybrid::mamba2(config, &model.width, Some(inner), eps, &Keys::BAMBA)?;
    let kinds = match hybrid::state_spaces(config, "layer_types", &model)? {
        None => hybrid::state_spaces(config, "layers_block_type", &model)?,
        kinds => kinds,
    };
    for (i, layer) in model.layers.iter_mut().enumerate() {
        if kinds.as_ref().is_none_or(|kinds| kinds[i]) {
            layer.mixer = ("mamba", Mixer::Mamba2(mamba.clone()));
        }
    }
    Ok(model)
}

/// Puts the perceptron for all tokens into every layer, and beside it experts if there are any.
fn perceptrons(request: &Request<'_>, model: &mut Decoder) -> Result<(), ModelError> {
    let config = request.config;
    let FeedForward::Gated(mlp) = &model.layers[0].feed_forward.1 else { return Ok(()) };
    let shared = GatedMlp {
        inner: config.extent("shared_intermediate_size")?,
        gate: Gate::Joint("input_linear"),
        down: "output_linear",
        bias: false,
        ..mlp.clone()
    };
    let mut parts = vec![("shared_mlp", FeedForward::Gated(shared))];
    if config.size_or_zero("num_local_experts")?.unwrap_or(8) > 0 {
        let mixture = Mixture {
            inner: config.extent("intermediate_size")?,
            router: "router.layer",
            scores: RouterScores::SoftmaxOfChosen,
            chosen: 2,
            normalise: false,
            tensors: ExpertTensors::Stacked(["input_linear.weight", "output_linear.weight"]),
        };
        parts.insert(0, ("block_sparse_moe", sparse::experts(config, model, mixture)?));
    }
    config.disregard(&["intermediate_size", "num_experts_per_tok"]);
    model.layers.iter_mut().for_each(|layer| layer.feed_forward = ("", FeedForward::Sum(parts.clone())));
    Ok(())
}
