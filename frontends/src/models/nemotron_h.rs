//! Nemotron-H: layers of a single part each, which is Mamba-2, attention without positions, a perceptron, or a mixture of
//! experts without gates.
//! Sources: arXiv:2504.03624; transformers `models/nemotron_h`.

use super::family::{Family, Head, Request};
use super::hybrid::{self, Keys};
use super::sparse::{self, Mixture};
use super::{ModelError, layer_types, mamba};
use crate::blocks::{
    Attention, Decoder, ExpertGroups, ExpertLatent, ExpertTensors, FeedForward, Gating, Layer, LinearKind, Mamba2,
    Mixer, Mlp, Norm, RouterScores, Size,
};
use crate::config::{ConfigError, ConfigReader};

pub(super) const FAMILY: Family = Family {
    model_type: "nemotron_h",
    architectures: &[("NemotronHModel", Head::None), ("NemotronHForCausalLM", Head::LanguageModel)],
    build: |request| request.decoder(&read(request)?),
};

/// Keys that transformers reads nowhere either, or for weights to begin with.
const UNREAD: &[&str] = &[
    "attention_bias",
    "attention_head_dim",
    "chunk_size",
    "expand",
    "mamba_chunk_size",
    "mamba_dt_init_floor",
    "mamba_dt_limit",
    "mamba_dt_max",
    "mamba_expand",
    "mamba_proj_bias",
    "mamba_ssm_cache_dtype",
    "moe_shared_expert_overlap",
    "mtp_hybrid_override_pattern",
    "mtp_layers_block_type",
    "n_shared_experts",
    "num_hidden_layers",
    "num_logits_to_keep",
    "rms_norm_eps",
    "sliding_window",
    "tie_word_embeddings",
    "time_step_limit",
    "time_step_rank",
    "use_mamba_kernels",
];

/// Keys of experts, for models without them.
const OF_EXPERTS: &[&str] = &[
    "moe_intermediate_size",
    "moe_latent_size",
    "moe_shared_expert_intermediate_size",
    "n_group",
    "n_routed_experts",
    "norm_topk_prob",
    "num_experts_per_tok",
    "routed_scaling_factor",
    "topk_group",
];

/// What a layer is.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Mamba,
    Attention,
    Perceptron,
    Experts,
}

fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let (config, tensors) = (request.config, request.tensors);
    config.disregard(mamba::INITIAL);
    config.disregard(UNREAD);
    let width = config.extent("hidden_size")?;
    let norm = Norm::rms(&width, config.positive("layer_norm_epsilon")?.unwrap_or(1e-5));
    let mamba = mixer(config, &width, norm.eps)?;
    let whole = Size::new(128 * config.required_size("num_attention_heads")?, "heads of 128 channels");
    let heads = config.heads("num_attention_heads", "num_key_value_heads", "head_dim", &whole)?;
    let attention = Attention { kv_heads: heads.kv_heads, ..Attention::causal(&width, &heads.heads, &heads.head_dim) };
    let perceptron = perceptron(config, &width, ("intermediate_size", 21504))?;
    let kinds = kinds(config)?;
    let alone = |mixer: Mixer| Layer::mixer(("mixer", mixer), ("norm", norm.clone()));
    let fed = |part: FeedForward| {
        let layer = alone(Mixer::None);
        let [before, _] = layer.before;
        Layer { feed_forward: ("mixer", part), before: [None, before], ..layer }
    };
    let layer = |kind: &Kind| match kind {
        Kind::Mamba => alone(mamba.clone().into()),
        Kind::Attention => alone(attention.clone().into()),
        Kind::Perceptron => fed(FeedForward::Plain(perceptron.clone())),
        Kind::Experts => fed(FeedForward::None),
    };
    let prefix = Some(tensors.prefix("backbone.")).filter(|prefix| !prefix.is_empty());
    let prefix = prefix.unwrap_or_else(|| tensors.prefix("model."));
    let mut model = mamba::backbone(request, prefix, false, kinds.iter().map(layer).collect(), norm.clone())?;
    model.known_unused = &["mtp.*"];
    if !kinds.contains(&Kind::Experts) {
        config.disregard(OF_EXPERTS);
        return Ok(model);
    }
    let of_experts = experts(config, &model)?;
    for (layer, _) in model.layers.iter_mut().zip(&kinds).filter(|(_, kind)| **kind == Kind::Experts) {
        layer.feed_forward.1 = of_experts.clone();
    }
    Ok(model)
}

/// `layers_block_type`, or the pattern of older configs.
fn kinds(config: &ConfigReader<'_>) -> Result<Vec<Kind>, ConfigError> {
    const NAMES: &[(&str, Kind)] = &[
        ("linear_attention", Kind::Mamba),
        ("mamba", Kind::Mamba),
        ("full_attention", Kind::Attention),
        ("attention", Kind::Attention),
        ("mlp", Kind::Perceptron),
        ("moe", Kind::Experts),
    ];
    let (named, pattern) =
        (layer_types::named(config, "layers_block_type", NAMES)?, config.text("hybrid_override_pattern")?);
    let named = match named {
        None => layer_types::named(config, "layer_types", NAMES)?,
        named => named,
    };
    let of_letter = |letter: char| match letter {
        'M' => Ok(Kind::Mamba),
        '*' => Ok(Kind::Attention),
        '-' => Ok(Kind::Perceptron),
        'E' => Ok(Kind::Experts),
        _ => Err(config.invalid("hybrid_override_pattern", "a text of the letters M, *, - and E")),
    };
    match (named, pattern) {
        (Some(kinds), _) => Ok(kinds),
        (None, Some(pattern)) => pattern.chars().map(of_letter).collect(),
        (None, None) => Ok(vec![Kind::Mamba, Kind::Experts, Kind::Attention, Kind::Perceptron]),
    }
}

fn mixer(config: &ConfigReader<'_>, width: &Size, eps: f64) -> Result<Mamba2, ModelError> {
    // Older configs name some keys as Bamba does.
    let key = |old: &'static str, new: &'static str| if config.get(old).is_some() { old } else { new };
    let keys = Keys {
        heads: ("mamba_num_heads", 128),
        head_dim: ("mamba_head_dim", Some(64)),
        groups: (key("mamba_n_groups", "n_groups"), 8),
        state: ("ssm_state_size", 128),
        taps: (key("mamba_d_conv", "conv_kernel"), 4),
        conv_bias: key("mamba_conv_bias", "use_conv_bias"),
        bias: "use_bias",
        activation: "mamba_hidden_act",
    };
    let least = config.number(key("mamba_dt_min", "time_step_min"))?.unwrap_or(0.001);
    let mixer = hybrid::mamba2(config, width, None, eps, &keys)?;
    Ok(Mamba2 { limits: Some([least, f64::INFINITY]), ..mixer })
}

fn perceptron(config: &ConfigReader<'_>, width: &Size, inner: (&str, usize)) -> Result<Mlp, ConfigError> {
    Ok(Mlp {
        width: width.clone(),
        inner: config.extent_or(inner.0, inner.1)?,
        activation: config.activation("mlp_hidden_act", "relu2")?,
        layers: ["up_proj", "down_proj"],
        linear: LinearKind::with_bias(config.flag("mlp_bias", false)?),
    })
}

/// Experts, perhaps over narrow vectors, and a perceptron that all tokens take.
fn experts(config: &ConfigReader<'_>, model: &Decoder) -> Result<FeedForward, ModelError> {
    let shared = perceptron(config, &model.width, ("moe_shared_expert_intermediate_size", 7688))?;
    let mixture = Mixture {
        inner: config.extent_or("moe_intermediate_size", 7688)?,
        router: "gate",
        scores: RouterScores::Sigmoid(Some("gate.e_score_correction_bias")),
        chosen: 2,
        normalise: false,
        tensors: ExpertTensors::Ungated(["up_proj", "down_proj"]),
    };
    let mut experts = sparse::experts(config, model, mixture)?;
    if let FeedForward::Experts(experts) = &mut experts {
        let size = |key: &str| config.size(key).map(|n| n.unwrap_or(1));
        let groups = ExpertGroups { count: size("n_group")?, kept: size("topk_group")?, best: 2 };
        let router = &mut experts.router;
        let groups = sparse::checked_groups(config, "n_group", experts.count.value(), router.chosen, groups)?;
        router.groups = Some(groups).filter(|groups| groups.kept < groups.count);
        router.normalise = config.flag("norm_topk_prob", true)?.then_some(1e-20);
        router.scale = config.number("routed_scaling_factor")?.unwrap_or(1.0);
        experts.gating = Gating::None(shared.activation);
        experts.latent = config.size("moe_latent_size")?.map(|width| ExpertLatent {
            layers: ["fc1_latent_proj", "fc2_latent_proj"],
            linear: shared.linear,
            width: Size::new(width, "moe_latent_size"),
        });
    }
    Ok(FeedForward::Sum(vec![("", experts), ("shared_experts", FeedForward::Plain(shared))]))
}
