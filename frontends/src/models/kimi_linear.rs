//! Kimi Linear: Kimi delta attention in three of four layers, latent attention without positions in the others, and
//! DeepSeek-V3's experts after the first layers.
//! Sources: arXiv:2510.26692; transformers `models/kimi_linear/modeling_kimi_linear.py`.

use castiron_ir::op::UnaryOp;
use serde_json::Map;

use super::family::{Family, Head, Request};
use super::llama::{self, Defaults};
use super::sparse::{self, Mixture};
use super::{ModelError, deepseek, delta, layer_types};
use crate::blocks::{
    Attention, Decoder, DeltaLayers, ExpertGroups, ExpertTensors, FeedForward, GatedDelta, LinearKind, Mixer, Norm,
    RouterScores, Size,
};
use crate::config::{ConfigError, ConfigReader};

pub(super) const FAMILY: Family = Family {
    model_type: "kimi_linear",
    architectures: &[("KimiLinearModel", Head::None), ("KimiLinearForCausalLM", Head::LanguageModel)],
    build: |request| request.decoder(&read(request)?),
};

const DEFAULTS: Defaults = Defaults { eps: ("rms_norm_eps", 1e-5), ..Defaults::LLAMA };

/// Keys that say nothing of a model without positions, or that follow from others.
const UNREAD: &[&str] =
    &["head_dim", "model_max_length", "qk_head_dim", "rope_scaling", "rope_theta", "use_grouped_topk"];

fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let config = request.config;
    config.disregard(UNREAD);
    if !config.flag("mla_use_nope", true)? {
        return Err(config.invalid("mla_use_nope", "true").into());
    }
    let none = Map::new();
    let linear = match config.get("linear_attn_config") {
        None => &none,
        Some(value) => value.as_object().ok_or_else(|| config.invalid("linear_attn_config", "an object"))?,
    };
    let linear = ConfigReader::nested("linear_attn_config", linear);
    let width = config.extent("hidden_size")?;
    let mut model = llama::with_mixer(request, &DEFAULTS, attention(config, &width)?)?;
    let eps = config.positive(DEFAULTS.eps.0)?.unwrap_or(DEFAULTS.eps.1);
    let delta = network(config, &linear, &width, eps)?;
    let dense = model.layers[0].feed_forward.1.clone();
    let experts = experts(config, &model, &dense)?;
    let count = model.layers.len();
    let first = config.size_or_zero("first_k_dense_replace")?.unwrap_or(1);
    let is_sparse = layer_types::second(config, "mlp_layer_types", ["dense", "sparse"], count, |i| i >= first)?;
    let is_linear = is_linear(config, &linear, count)?;
    linear.finish()?;
    for (i, layer) in model.layers.iter_mut().enumerate() {
        if is_linear[i] {
            layer.mixer.1 = Mixer::GatedDelta(delta.clone());
        }
        let (part, kind) = if is_sparse[i] { ("gate", &experts) } else { ("gate_proj", &dense) };
        let is_stored = |name: &&str| request.tensors.has(&format!("{}layers.{i}.{name}.{part}.weight", model.prefix));
        let name = ["mlp", "block_sparse_moe"].into_iter().find(is_stored).unwrap_or("mlp");
        layer.feed_forward = (name, kind.clone());
    }
    Ok(model)
}

/// Which layers have delta attention: what `layer_types` says, or the older lists of layers, counted from 1.
fn is_linear(config: &ConfigReader<'_>, linear: &ConfigReader<'_>, count: usize) -> Result<Vec<bool>, ConfigError> {
    let keys = ["full_attn_layers", "kda_layers"];
    let [full, delta] = keys.map(|key| linear.get(key).map(|_| linear.numbers(key)).transpose());
    let (Some(full), Some(delta)) = (full?, delta?) else {
        return layer_types::linear(config, count, |i| i == 0 || i % 4 != 0);
    };
    let is_named_once = |i: usize| full.contains(&i) != delta.contains(&i);
    if config.get("layer_types").is_none() && !(1..=count).all(is_named_once) {
        return Err(linear.invalid(keys[1], &format!("those of {count} layers that full_attn_layers does not name")));
    }
    layer_types::linear(config, count, |i| delta.contains(&(i + 1)))
}

fn attention(config: &ConfigReader<'_>, width: &Size) -> Result<Attention, ModelError> {
    let heads = config.extent("num_attention_heads")?;
    if config.size("num_key_value_heads")?.is_some_and(|found| found != heads.value()) {
        return Err(config.invalid("num_key_value_heads", "the number of attention heads").into());
    }
    let linear = LinearKind::with_bias(config.flag("attention_bias", false)?);
    let latent = deepseek::latent(config, linear)?;
    let head_dim = &latent.plain + &latent.rotated;
    let attention = Attention::causal(width, &heads, &head_dim);
    Ok(Attention { output: ("o_proj", linear), latent: Some(Box::new(latent)), ..attention })
}

fn network(
    config: &ConfigReader<'_>,
    linear: &ConfigReader<'_>,
    width: &Size,
    eps: f64,
) -> Result<GatedDelta, ModelError> {
    let size = |older: &str, key: &str, default| match linear.get(older) {
        Some(_) => delta::extent(linear, older, default),
        None => delta::extent(config, key, default),
    };
    let heads = size("num_heads", "linear_num_heads", 32)?;
    let head_dim = size("head_dim", "linear_head_dim", 128)?;
    Ok(GatedDelta {
        width: width.clone(),
        key_heads: heads.clone(),
        value_heads: heads,
        key: head_dim.clone(),
        taps: size("short_conv_kernel_size", "linear_conv_kernel_dim", 4)?,
        activation: config.activation("hidden_act", "silu")?,
        layers: DeltaLayers::EachChannel,
        most: 1.0,
        norm: ("o_norm", Norm::rms(&head_dim, eps)),
        gate: UnaryOp::Sigmoid,
        output: "o_proj",
        value: head_dim,
    })
}

fn experts(config: &ConfigReader<'_>, model: &Decoder, dense: &FeedForward) -> Result<FeedForward, ModelError> {
    sparse::require_text(config, "moe_router_activation_func", &["sigmoid"])?;
    if config.size("moe_layer_freq")?.unwrap_or(1) != 1 {
        return Err(config.invalid("moe_layer_freq", "1, the only one implemented").into());
    }
    // Configs use DeepSeek's keys or their own.
    let size = |keys: [&str; 2], default| {
        Ok::<_, ConfigError>(config.size(keys[0])?.or(config.size(keys[1])?).unwrap_or(default))
    };
    let inner = config.extent("moe_intermediate_size")?;
    let shared = size(["num_shared_experts", "n_shared_experts"], 1)?;
    let normalise = config.flag("moe_renormalize", config.flag("norm_topk_prob", true)?)?;
    let mixture = Mixture {
        inner: inner.clone(),
        router: "gate",
        scores: RouterScores::Sigmoid(Some("gate.e_score_correction_bias")),
        chosen: size(["num_experts_per_token", "num_experts_per_tok"], 8)?,
        normalise,
        tensors: ExpertTensors::Each(["w1", "w3", "w2"]),
    };
    let mut experts = sparse::experts(config, model, mixture)?;
    let key = if config.get("num_expert_group").is_some() { "num_expert_group" } else { "n_group" };
    let groups =
        ExpertGroups { count: config.size(key)?.unwrap_or(1), kept: config.size("topk_group")?.unwrap_or(1), best: 2 };
    if let FeedForward::Experts(experts) = &mut experts {
        let router = &mut experts.router;
        router.normalise = normalise.then_some(1e-20);
        router.scale = config.number("routed_scaling_factor")?.unwrap_or(2.446);
        let groups = sparse::checked_groups(config, key, experts.count.value(), router.chosen, groups)?;
        router.groups = Some(groups).filter(|groups| groups.kept < groups.count);
        experts.shared = deepseek::shared_experts(dense, &inner * shared);
    }
    Ok(experts)
}
