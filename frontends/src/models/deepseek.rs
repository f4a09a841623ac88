//! DeepSeek-V2 and V3: latent attention, and after the first layers experts in groups beside one for all tokens.
//! Sources: arXiv:2405.04434, arXiv:2412.19437; transformers `models/deepseek_v2/modeling_deepseek_v2.py`,
//! `models/deepseek_v3/modeling_deepseek_v3.py`.

use serde_json::Value;

use super::family::{Family, Head, Request};
use super::llama::{self, Defaults};
use super::sparse::{self, Mixture};
use super::{ModelError, rope};
use crate::blocks::{
    Attention, Decoder, ExpertGroups, ExpertTensors, FeedForward, GatedMlp, Latent, LinearKind, RouterScores,
    SharedExpert, Size, yarn_score_scale,
};
use crate::config::ConfigReader;

pub(super) const V2: Family = Family {
    model_type: "deepseek_v2",
    architectures: &[
        ("DeepseekV2Model", Head::None),
        ("DeepseekV2ForCausalLM", Head::LanguageModel),
        ("DeepseekV2ForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&read(request, false)?),
};

pub(super) const V3: Family = Family {
    model_type: "deepseek_v3",
    architectures: &[
        ("DeepseekV3Model", Head::None),
        ("DeepseekV3ForCausalLM", Head::LanguageModel),
        ("DeepseekV3ForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&read(request, true)?),
};

fn read(request: &Request<'_>, is_v3: bool) -> Result<Decoder, ModelError> {
    let config = request.config;
    let mut model = llama::decoder(request, &Defaults::LLAMA)?;
    let bias = !is_v3 && config.flag("mlp_bias", false)?;
    let attention = attention(request, &mut model, is_v3)?;
    let mut dense = model.layers[0].feed_forward.1.clone();
    if let FeedForward::Gated(mlp) = &mut dense {
        mlp.bias = bias;
    }
    let experts = experts(config, &model, &dense, is_v3)?;
    let first = config.size_or_zero("first_k_dense_replace")?.unwrap_or(if is_v3 { 3 } else { 0 });
    for (i, layer) in model.layers.iter_mut().enumerate() {
        *layer.attention_mut() = attention.clone();
        layer.feed_forward.1 = if i < first { dense.clone() } else { experts.clone() };
    }
    // Layers that predict further tokens are stored after the last one.
    model.known_unused = &["*.rotary_emb.inv_freq", "*layers.61.*"];
    Ok(model)
}

fn attention(request: &Request<'_>, model: &mut Decoder, is_v3: bool) -> Result<Attention, ModelError> {
    let config = request.config;
    let attention = model.layers[0].attention();
    if attention.kv_heads.value() != attention.heads.value() {
        return Err(config.invalid("num_key_value_heads", "the number of attention heads").into());
    }
    let rotated = config.extent("qk_rope_head_dim")?;
    let mut rotary = rope::rotary(config, &llama::rope_defaults(request, &Defaults::LLAMA, &rotated)?)?;
    rotary.interleaved = !is_v3 || config.flag("rope_interleave", true)?;
    model.rotary = vec![rotary];
    let linear = LinearKind::with_bias(config.flag("attention_bias", false)?);
    let latent = latent(config, linear)?;
    let width = latent.plain.value() + latent.rotated.value();
    if config.size("qk_head_dim")?.is_some_and(|found| found != width) {
        return Err(config.invalid("qk_head_dim", "the sum of qk_nope_head_dim and qk_rope_head_dim").into());
    }
    let scale = score_scale(config) / (width as f64).sqrt();
    let output = (attention.output.0, linear);
    Ok(Attention { scale, output, latent: Some(Box::new(latent)), ..attention.clone() })
}

/// The extents of latent attention, whose narrowing layers are of a kind.
pub(super) fn latent(config: &ConfigReader<'_>, narrowing: LinearKind) -> Result<Latent, ModelError> {
    Ok(Latent {
        query_rank: config.size("q_lora_rank")?.map(|rank| Size::new(rank, "q_lora_rank")),
        rank: config.extent("kv_lora_rank")?,
        plain: config.extent("qk_nope_head_dim")?,
        rotated: config.extent("qk_rope_head_dim")?,
        value: config.extent("v_head_dim")?,
        narrowing,
        eps: 1e-6,
    })
}

/// What a scaled context multiplies the scores by; [`rope::rotary`] has checked the values.
fn score_scale(config: &ConfigReader<'_>) -> f64 {
    let rope = ["rope_scaling", "rope_parameters"].into_iter().find_map(|key| config.get(key)?.as_object());
    let number = |key: &str| rope?.get(key).and_then(Value::as_f64);
    match (number("factor"), number("mscale_all_dim")) {
        (Some(factor), Some(coefficient)) if coefficient != 0.0 => yarn_score_scale(factor, coefficient),
        _ => 1.0,
    }
}

fn experts(
    config: &ConfigReader<'_>,
    model: &Decoder,
    dense: &FeedForward,
    is_v3: bool,
) -> Result<FeedForward, ModelError> {
    let (scoring, method) = if is_v3 { ("sigmoid", "noaux_tc") } else { ("softmax", "greedy") };
    sparse::require_text(config, "scoring_func", &[scoring])?;
    let method = match is_v3 {
        true => sparse::require_text(config, "topk_method", &[method])?,
        false => sparse::require_text(config, "topk_method", &[method, "group_limited_greedy"])?,
    };
    if config.size("moe_layer_freq")?.unwrap_or(1) != 1 {
        return Err(config.invalid("moe_layer_freq", "1, the only one implemented").into());
    }
    let inner = config.extent("moe_intermediate_size")?;
    // Transformers does not divide the weights of V2 by their sum, whatever the config says.
    let normalise = config.flag("norm_topk_prob", is_v3)? && is_v3;
    let mixture = Mixture {
        inner: inner.clone(),
        router: "gate",
        scores: match is_v3 {
            true => RouterScores::Sigmoid(Some("gate.e_score_correction_bias")),
            false => RouterScores::Softmax,
        },
        chosen: 8,
        normalise,
        tensors: ExpertTensors::Each(["gate_proj", "up_proj", "down_proj"]),
    };
    let mut experts = sparse::experts(config, model, mixture)?;
    let (groups, kept) = (config.size("n_group")?, config.size("topk_group")?);
    if let FeedForward::Experts(experts) = &mut experts {
        let router = &mut experts.router;
        router.normalise = normalise.then_some(1e-20);
        router.scale = config.number("routed_scaling_factor")?.unwrap_or(if is_v3 { 2.5 } else { 1.0 });
        if is_v3 || method == Some("group_limited_greedy") {
            let groups =
                ExpertGroups { count: groups.unwrap_or(8), kept: kept.unwrap_or(4), best: if is_v3 { 2 } else { 1 } };
            let groups = sparse::checked_groups(config, "n_group", experts.count.value(), router.chosen, groups)?;
            router.groups = Some(groups).filter(|groups| groups.kept < groups.count);
        }
        let shared = config.size("n_shared_experts")?.unwrap_or(if is_v3 { 1 } else { 2 });
        experts.shared = shared_experts(dense, &inner * shared);
    }
    Ok(experts)
}

/// The experts that all tokens take, as one perceptron like the dense ones.
pub(super) fn shared_experts(dense: &FeedForward, inner: Size) -> Option<SharedExpert> {
    let FeedForward::Gated(mlp) = dense else { return None };
    Some(SharedExpert { mlp: ("shared_experts", GatedMlp { inner, ..mlp.clone() }), gate: None })
}
