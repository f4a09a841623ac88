//! Qwen2-MoE and Qwen3-MoE: Qwen2 and Qwen3 with mixtures of experts in some layers; in Qwen2-MoE all tokens take
//! one more expert.
//! Sources: arXiv:2407.10671, arXiv:2505.09388; transformers `models/qwen2_moe/modeling_qwen2_moe.py`,
//! `models/qwen3_moe/modeling_qwen3_moe.py`.

use super::family::{Family, Head, Request};
use super::llama::{self, Defaults};
use super::sparse::{self, Mixture};
use super::{ModelError, qwen3};
use crate::blocks::{Decoder, ExpertTensors, FeedForward, GatedMlp, LinearKind, RouterScores, SharedExpert};

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
    let inner = config.extent("shared_expert_intermediate_size")?;
    mixtures(request, &mut model, 4, |mlp| {
        let mlp = ("shared_expert", GatedMlp { inner: inner.clone(), ..mlp.clone() });
        Some(SharedExpert { mlp, gate: Some("shared_expert_gate") })
    })?;
    model.layers.iter_mut().for_each(|layer| layer.attention_mut().linear = linear);
    sparse::windows(config, &mut model, |i, first| i < first && i % 2 == 0)?;
    Ok(model)
}

fn read_qwen3(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let config = request.config;
    let mut model = llama::decoder(request, &Defaults::LLAMA)?;
    llama::attention_biases(request, &mut model)?;
    qwen3::head_norms(request, &mut model)?;
    mixtures(request, &mut model, 8, |_| None)?;
    let (slides, window) = (config.flag("use_sliding_window", false)?, config.size("sliding_window")?);
    let window = window.filter(|_| slides);
    for layer in &mut model.layers {
        layer.attention_mut().window = window;
    }
    Ok(model)
}

/// Puts mixtures of experts into every `decoder_sparse_step`th layer but those of `mlp_only_layers`.
fn mixtures(
    request: &Request<'_>,
    model: &mut Decoder,
    chosen: usize,
    shared: impl Fn(&GatedMlp) -> Option<SharedExpert>,
) -> Result<(), ModelError> {
    let config = request.config;
    let mixture = Mixture {
        inner: config.extent("moe_intermediate_size")?,
        router: "gate",
        scores: RouterScores::Softmax,
        chosen,
        normalise: config.flag("norm_topk_prob", false)?,
        tensors: ExpertTensors::Each(["gate_proj", "up_proj", "down_proj"]),
    };
    let mut experts = sparse::experts(config, model, mixture)?;
    if let (FeedForward::Experts(experts), FeedForward::Gated(mlp)) = (&mut experts, &model.layers[0].feed_forward.1) {
        experts.shared = shared(mlp);
    }
    let step = config.size("decoder_sparse_step")?.unwrap_or(1);
    let dense = config.numbers("mlp_only_layers")?;
    let is_sparse = |i: &usize| (i + 1).is_multiple_of(step) && !dense.contains(i);
    for i in (0..model.layers.len()).filter(is_sparse) {
        model.layers[i].feed_forward.1 = experts.clone();
    }
    Ok(())
}
