//! Qwen2-MoE and Qwen3-MoE: Qwen2 and Qwen3 with mixtures of experts in some layers; in Qwen2-MoE all tokens take
//! one more expert.
//! Sources: arXiv:2407.10671, arXiv:2505.09388; transformers `models/qwen2_moe/modeling_qwen2_moe.py`,
//! `models/qwen3_moe/modeling_qwen3_moe.py`.

use super::family::{Family, Head, Request};
use super::llama::{self, Defaults};
use super::sparse::{self, Mixture};
use super::{ModelError, qwen3};
use crate::blocks::{Decoder, ExpertTensors, FeedForward, GatedMlp, LinearKind, RouterScores, SharedExpert};
use crate::config::ConfigReader;

pub(super) const QWEN2: Family = Family {
    model_type: "qwen2_moe",
    architectures: &[
        ("Qwen2MoeModel", Head::None),
        ("Qwen2MoeForCausalLM", Head::LanguageModel),
        ("Qwen2MoeForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&read_qwen2(request)?),
};

pub(super) const QWEN3: Family = Family {
    model_type: "qwen3_moe",
    architectures: &[
        ("Qwen3MoeModel", Head::None),
        ("Qwen3MoeForCausalLM", Head::LanguageModel),
        ("Qwen3MoeForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&read_qwen3(request)?),
};

fn read_qwen2(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let config = request.config;
    let mut model = llama::decoder(request, &Defaults::LLAMA)?;
    let linear = LinearKind::with_bias(config.flag("qkv_bias", true)?);
    let experts = with_shared(config, mixture(config, &model, 4, config.flag("norm_topk_prob", false)?)?, &model)?;
    spread(config, &mut model, &experts)?;
    model.layers.iter_mut().for_each(|layer| layer.attention_mut().linear = linear);
    sparse::windows(config, &mut model, |i, first| i < first && i % 2 == 0)?;
    Ok(model)
}

fn read_qwen3(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let config = request.config;
    let mut model = llama::decoder(request, &Defaults::LLAMA)?;
    llama::attention_biases(request, &mut model)?;
    qwen3::head_norms(request, &mut model)?;
    let experts = mixture(config, &model, 8, config.flag("norm_topk_prob", false)?)?;
    spread(config, &mut model, &experts)?;
    let (slides, window) = (config.flag("use_sliding_window", false)?, config.size("sliding_window")?);
    let window = window.filter(|_| slides);
    for layer in &mut model.layers {
        layer.attention_mut().window = window;
    }
    Ok(model)
}

/// Experts whose router takes a softmax over all of them, so many for a token unless the config says otherwise.
pub(super) fn mixture(
    config: &ConfigReader<'_>,
    model: &Decoder,
    chosen: usize,
    normalise: bool,
) -> Result<FeedForward, ModelError> {
    let mixture = Mixture {
        inner: config.extent("moe_intermediate_size")?,
        router: "gate",
        scores: RouterScores::Softmax,
        chosen,
        normalise,
        tensors: ExpertTensors::Each(["gate_proj", "up_proj", "down_proj"]),
    };
    sparse::experts(config, model, mixture)
}

/// The experts with one more that all tokens take, weighted by a gate of its own.
pub(super) fn with_shared(
    config: &ConfigReader<'_>,
    mut experts: FeedForward,
    model: &Decoder,
) -> Result<FeedForward, ModelError> {
    let inner = config.extent("shared_expert_intermediate_size")?;
    if let (FeedForward::Experts(experts), FeedForward::Gated(mlp)) = (&mut experts, &model.layers[0].feed_forward.1) {
        let mlp = ("shared_expert", GatedMlp { inner, ..mlp.clone() });
        experts.shared = Some(SharedExpert { mlp, gate: Some("shared_expert_gate") });
    }
    Ok(experts)
}

/// Puts experts into every `decoder_sparse_step`th layer but those of `mlp_only_layers`.
pub(super) fn spread(config: &ConfigReader<'_>, model: &mut Decoder, experts: &FeedForward) -> Result<(), ModelError> {
    let step = config.size("decoder_sparse_step")?.unwrap_or(1);
    let dense = config.numbers("mlp_only_layers")?;
    let is_sparse = |i: &usize| (i + 1).is_multiple_of(step) && !dense.contains(i);
    for i in (0..model.layers.len()).filter(is_sparse) {
        model.layers[i].feed_forward.1 = experts.clone();
    }
    Ok(())
}
