//! Zamba and Zamba2: state spaces in all layers, and before some of them attention and a perceptron whose weights all
//! these places share, in Zamba2 with adapters.
//! Sources: arXiv:2405.16712, arXiv:2411.15242; transformers `models/{zamba,zamba2}`.

use castiron_ir::op::UnaryOp;

use super::family::{Family, Head, Request};
use super::hybrid::{self, Keys};
use super::{ModelError, layer_types, mamba, rope};
use crate::blocks::{
    Adapters, Attention, Decoder, Embedding, Gate, GatedMlp, Layer, LinearKind, Mamba, Mamba2, Mixer, Norm, Rotary,
    Scores, Shared, Size,
};
use crate::config::ConfigError;

pub(super) const FIRST: Family = Family {
    model_type: "zamba",
    architectures: &[
        ("ZambaModel", Head::None),
        ("ZambaForCausalLM", Head::LanguageModel),
        ("ZambaForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&read_first(request)?),
};

pub(super) const SECOND: Family = Family {
    model_type: "zamba2",
    architectures: &[
        ("Zamba2Model", Head::None),
        ("Zamba2ForCausalLM", Head::LanguageModel),
        ("Zamba2ForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&read_second(request)?),
};

/// Keys that follow from others, say how weights begin, or how the reference computes.
const UNREAD: &[&str] = &[
    "attention_hidden_size",
    "chunk_size",
    "hybrid_layer_ids",
    "kv_channels",
    "mamba_headdim",
    "num_hidden_layers",
    "num_logits_to_keep",
    "num_query_groups",
    "time_step_limit",
    "use_associative_scan",
    "use_conv_bias",
    "use_mamba_kernels",
    "use_mem_eff_path",
];

/// What the two families differ in.
struct Parts {
    /// In every layer.
    mixer: Mixer,
    /// Name of the shared layers.
    shared: &'static str,
    mlp: GatedMlp,
    /// How many sets of shared layers take turns.
    sets: usize,
    /// Of the first of the places; the others differ in the number.
    adapters: Option<Adapters>,
    rotary: Option<Rotary>,
    head_dim: Size,
}

fn read_first(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let config = request.config;
    let width = config.extent("hidden_size")?;
    let attention_width = config.size("attention_hidden_size")?;
    if attention_width.is_some_and(|n| n != 2 * width.value()) {
        return Err(config.invalid("attention_hidden_size", "twice hidden_size").into());
    }
    let heads = Size::new(config.size("n_mamba_heads")?.unwrap_or(2), "n_mamba_heads");
    let inner = Size::new(hybrid::channels(config, "mamba_expand", &width)?, "mamba_expand · hidden_size");
    if !inner.value().is_multiple_of(heads.value()) {
        return Err(config.invalid("n_mamba_heads", &format!("a divisor of {inner}")).into());
    }
    let size = |key: &str, default: usize| config.size(key).map(|n| Size::new(n.unwrap_or(default), key));
    let mamba = Mamba {
        width: width.clone(),
        inner,
        state: size("mamba_d_state", 16)?,
        rank: mamba::rank(request, "mamba_dt_rank", &width)?,
        taps: size("mamba_d_conv", 4)?,
        activation: config.activation("hidden_mamba_act", "silu")?,
        conv_bias: config.flag("mamba_conv_bias", true)?,
        linear: LinearKind::with_bias(config.flag("mamba_proj_bias", false)?),
        inner_norms: None,
    };
    let attention_heads = config.required_size("num_attention_heads")?;
    let head_dim = config.size("attention_head_dim")?.unwrap_or(2 * width.value() / attention_heads);
    let parts = Parts {
        mixer: Mixer::MambaHeads(mamba, heads),
        shared: "shared_transf",
        mlp: mlp(request, &width, Gate::Separate(["gate_proj", "up_proj"]), false)?,
        sets: 1,
        adapters: None,
        rotary: None,
        head_dim: Size::new(head_dim, "attention_head_dim"),
    };
    let (period, offset) =
        (config.size("attn_layer_period")?.unwrap_or(6), config.size_or_zero("attn_layer_offset")?.unwrap_or(4));
    let is_shared = |i: usize| i == 2 || i > 2 && (i - 3) % period == offset;
    decoder(request, width, parts, is_shared)
}

fn read_second(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let config = request.config;
    let width = config.extent("hidden_size")?;
    let bias = config.flag("add_bias_linear", false)?;
    let inner = hybrid::channels(config, "mamba_expand", &width)?;
    let mixer = hybrid::mamba2(config, &width, Some(inner), 1e-5, &KEYS)?;
    let least = config.number("time_step_min")?.unwrap_or(0.001);
    let limits = Some([least, f64::INFINITY]);
    let mixer = Mamba2 { activation: UnaryOp::Silu, conv_bias: true, limits, ..mixer };
    let heads = config.required_size("num_attention_heads")?;
    let head_dim = Size::new(2 * width.value() / heads, "2·hidden_size / num_attention_heads");
    let attention = config.flag("use_shared_attention_adapter", false)?;
    if attention && config.size("num_key_value_heads")?.is_some_and(|n| n != heads) {
        return Err(config.invalid("num_key_value_heads", "num_attention_heads, since keys have adapters").into());
    }
    let rank = Size::new(config.size("adapter_rank")?.unwrap_or(128), "adapter_rank");
    let projections = ["linear_q_adapter_list", "linear_k_adapter_list", "linear_v_adapter_list"];
    let gate = "gate_up_proj_adapter_list";
    let parts = Parts {
        mixer: mixer.into(),
        shared: "shared_transformer",
        mlp: mlp(request, &width, Gate::Joint("gate_up_proj"), bias)?,
        sets: config.size("num_mem_blocks")?.unwrap_or(1),
        adapters: Some(Adapters { number: 0, rank, projections: attention.then_some(projections), gate }),
        rotary: rotary(request, &head_dim)?,
        head_dim,
    };
    let is_shared = |i: usize| matches!(i, 6 | 12 | 18 | 24 | 30 | 36 | 42 | 47 | 51);
    decoder(request, width, parts, is_shared)
}

const KEYS: Keys = Keys {
    heads: ("n_mamba_heads", 8),
    head_dim: ("mamba_headdim", None),
    groups: ("mamba_ngroups", 1),
    state: ("mamba_d_state", 64),
    taps: ("mamba_d_conv", 4),
    conv_bias: "use_conv_bias",
    bias: "add_bias_linear",
    activation: "hidden_act",
};

fn rotary(request: &Request<'_>, head_dim: &Size) -> Result<Option<Rotary>, ConfigError> {
    let config = request.config;
    let long = config.flag("use_long_context", false)?;
    if !config.flag("use_mem_rope", false)? {
        config.disregard(&["rope_parameters", "rope_scaling", "rope_theta"]);
        return Ok(None);
    }
    let max_positions = if long { 16384 } else { config.size("max_position_embeddings")?.unwrap_or(4096) };
    let defaults = rope::Defaults { head_dim: head_dim.value(), share: 1.0, theta: 10_000.0, max_positions };
    rope::rotary(config, &defaults).map(Some)
}

fn mlp(request: &Request<'_>, width: &Size, gate: Gate, bias: bool) -> Result<GatedMlp, ConfigError> {
    let inner = request.config.size("intermediate_size")?.unwrap_or(4 * width.value());
    let activation = request.config.activation("hidden_act", "gelu")?;
    let inner = Size::new(inner, "intermediate_size");
    Ok(GatedMlp { width: width.clone(), inner, activation, gate, down: "down_proj", bias })
}

fn decoder(
    request: &Request<'_>,
    width: Size,
    parts: Parts,
    is_shared: impl Fn(usize) -> bool,
) -> Result<Decoder, ModelError> {
    let (config, tensors) = (request.config, request.tensors);
    config.disregard(mamba::INITIAL);
    config.disregard(UNREAD);
    let vocab = config.extent("vocab_size")?;
    let prefix = tensors.prefix("model.");
    let tie = config.flag("tie_word_embeddings", true)?;
    let (table, matrix) = tensors.tied(&format!("{prefix}embed_tokens.weight"), "lm_head.weight", tie);
    let eps = config.positive("rms_norm_eps")?.unwrap_or(1e-5);
    let norm = Norm::rms(&width, eps);
    let layer = Layer::mixer(("mamba", parts.mixer.clone()), ("input_layernorm", norm.clone()));
    let kinds = [("linear_attention", false), ("mamba", false), ("hybrid", true)];
    let kinds = match layer_types::named(config, "layers_block_type", &kinds)? {
        Some(kinds) => kinds,
        None => (0..config.layers("num_hidden_layers")?).map(is_shared).collect(),
    };
    let places: Vec<usize> = (0..kinds.len()).filter(|&i| kinds[i]).collect();
    let shared = shared(request, &width, &parts, eps)?;
    let mut layers = vec![layer; kinds.len()];
    for (number, &i) in places.iter().enumerate() {
        let scopes = places.iter().skip(number % parts.sets).step_by(parts.sets);
        let scopes: Vec<String> = scopes.map(|i| format!("{prefix}layers.{i}.{}.", parts.shared)).collect();
        let own = format!("{prefix}layers.{i}.{}.", parts.shared);
        let adapters = parts.adapters.clone().map(|adapters| Adapters { number, ..adapters });
        let shared = Shared { scope: stored(request, scopes, own), adapters, ..shared.clone() };
        layers[i] = Layer { mixer: ("", Mixer::Shared(Box::new(shared))), before: [None, None], ..layers[i].clone() };
    }
    Ok(Decoder {
        embedding: Embedding::plain(table, &vocab, &width),
        rotary: parts.rotary.into_iter().collect(),
        alibi: None,
        layers_name: "layers",
        layers,
        final_norm: Some(("final_layernorm", norm)),
        projection: None,
        scores: Scores::plain(matrix),
        max_positions: None, // rotary positions go on for ever
        // Copies of what is shared.
        known_unused: &["*.shared_transf.*", "*.shared_transformer.*", "*.rotary_emb.inv_freq"],
        prefix,
        width,
    })
}

/// The scope that holds shared layers: that of the first of their places that is stored, but a place's own if it
/// holds other values.
fn stored(request: &Request<'_>, scopes: Vec<String>, own: String) -> String {
    let query = |scope: &str| format!("{scope}self_attn.q_proj.weight");
    let first = scopes.iter().find(|scope| request.tensors.has(&query(scope))).unwrap_or(&scopes[0]);
    let (_, name) = request.tensors.tied(&query(first), &query(&own), true);
    if name == query(&own) { own } else { first.clone() }
}

/// A place of shared layers.
fn shared(request: &Request<'_>, width: &Size, parts: &Parts, eps: f64) -> Result<Shared, ModelError> {
    let config = request.config;
    let both = width * 2;
    let heads = config.heads("num_attention_heads", "num_key_value_heads", "attention_head_dim", &both)?;
    let attention = Attention {
        kv_heads: heads.kv_heads,
        rotary: parts.rotary.as_ref().map(|_| 0),
        scale: 1.0 / (parts.head_dim.value() as f64 / 2.0).sqrt(),
        ..Attention::causal(width, &heads.heads, &parts.head_dim)
    };
    let norm = Norm::rms(width, eps);
    Ok(Shared {
        scope: String::new(),
        attention: ("self_attn", attention),
        feed_forward: ("feed_forward", parts.mlp.clone()),
        norms: [("input_layernorm", Norm::rms(&both, eps)), ("pre_ff_layernorm", norm.clone())],
        adapters: None,
        output: "linear",
        own: "mamba_decoder",
        norm: ("input_layernorm", norm),
        mixer: ("mamba", parts.mixer.clone()),
    })
}
