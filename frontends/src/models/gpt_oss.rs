//! GPT-OSS: grouped heads with attention sinks, windows in every other layer, and experts with biases whose gates
//! are clamped.
//! Sources: arXiv:2508.10925; transformers `models/gpt_oss/modeling_gpt_oss.py`.

use super::family::{Family, Head, Request};
use super::llama::{self, Defaults};
use super::sparse::{self, Mixture};
use super::{ModelError, layer_types};
use crate::blocks::{Decoder, ExpertTensors, FeedForward, Gating, LinearKind, RouterScores};

pub(super) const FAMILY: Family = Family {
    model_type: "gpt_oss",
    architectures: &[
        ("GptOssModel", Head::None),
        ("GptOssForCausalLM", Head::LanguageModel),
        ("GptOssForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&read(request)?),
};

fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let config = request.config;
    let mut model = llama::decoder(request, &Defaults::LLAMA)?;
    let mixture = Mixture {
        inner: config.extent("intermediate_size")?,
        router: "router",
        scores: RouterScores::SoftmaxOfChosen,
        chosen: 4,
        normalise: false,
        tensors: ExpertTensors::Alternating(["experts.gate_up_proj", "experts.down_proj"]),
    };
    let mut experts = sparse::experts(config, &model, mixture)?;
    if let FeedForward::Experts(experts) = &mut experts {
        experts.router.layer.1 = LinearKind::BIASED;
        let alpha = config.number("swiglu_alpha")?.unwrap_or(1.702);
        experts.gating = Gating::Clamped { alpha, limit: config.positive("swiglu_limit")?.unwrap_or(7.0) };
    }
    let linear = LinearKind::with_bias(config.flag("attention_bias", true)?);
    let window = config.size("sliding_window")?;
    let slides = layer_types::sliding(config, model.layers.len(), |i| i % 2 == 0)?;
    for (layer, slides) in model.layers.iter_mut().zip(slides) {
        layer.feed_forward.1 = experts.clone();
        let attention = layer.attention_mut();
        (attention.linear, attention.output.1, attention.sinks) = (linear, linear, true);
        attention.window = window.filter(|_| slides);
    }
    Ok(model)
}
