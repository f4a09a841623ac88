//! NomicBERT: BERT with rotary positions and gated MLPs, without biases in its layers.
//! Sources: arXiv:2402.01613; transformers `models/nomic_bert/modeling_nomic_bert.py`; published checkpoints, which
//! have GPT-2's keys and other names.

use castiron_ir::op::UnaryOp;
use serde_json::{Map, Value};

use super::bert::{self, MaskedNames};
use super::family::{Built, Family, Head, Request};
use super::{ModelError, rope};
use crate::blocks::{
    Attention, Embedding, Encoder, FeedForward, Gate, GatedMlp, Layer, LinearKind, Norm, Projections, Rotary, Size,
    Stack, TokenTypes, Transform,
};
use crate::config::{ConfigError, ConfigReader, Heads};

pub(super) const FAMILY: Family = Family {
    model_type: "nomic_bert",
    architectures: &[
        ("NomicBertModel", Head::None),
        ("NomicBertForMaskedLM", Head::MaskedTokens),
        ("NomicBertForPreTraining", Head::MaskedTokens),
        ("NomicBertForSequenceClassification", Head::Sequence),
        ("NomicBertForTokenClassification", Head::Tokens),
    ],
    build,
};

/// How a checkpoint names what stands in its layers.
struct Names {
    layers: &'static str,
    projections: Projections,
    attention: [&'static str; 2],
    gate: [&'static str; 2],
    down: &'static str,
    norms: [&'static str; 2],
    embedding_norm: &'static str,
}

/// transformers' names.
const OWN: Names = Names {
    layers: "layers",
    projections: Projections::Separate(["q_proj", "k_proj", "v_proj"]),
    attention: ["self_attn", "o_proj"],
    gate: ["gate_proj", "up_proj"],
    down: "down_proj",
    norms: ["post_attention_layernorm", "post_mlp_layernorm"],
    embedding_norm: "embeddings.LayerNorm",
};

/// Names of published checkpoints.
const PUBLISHED: Names = Names {
    layers: "encoder.layers",
    projections: Projections::Joint("Wqkv"),
    attention: ["attn", "out_proj"],
    gate: ["fc12", "fc11"],
    down: "fc2",
    norms: ["norm1", "norm2"],
    embedding_norm: "emb_ln",
};

const MASKED: MaskedNames = MaskedNames {
    transform: ["cls.predictions.transform.dense", "cls.predictions.transform.layer_norm"],
    decoder: "cls.predictions.decoder",
    bias: "cls.predictions.bias",
};

/// What configs say, by whichever keys.
struct Numbers {
    width: Size,
    heads: Heads,
    inner: Size,
    depth: usize,
    eps: f64,
    activation: UnaryOp,
    rotary: Rotary,
    /// Whether projections of attention and layers of the MLP have biases.
    biases: [bool; 2],
}

fn build(request: &Request<'_>) -> Result<Built, ModelError> {
    let (config, tensors) = (request.config, request.tensors);
    bert::refuse_switches(config)?;
    let is_published = config.get("n_embd").is_some();
    let numbers = if is_published { published_numbers(config)? } else { own_numbers(config)? };
    let prefix = ["nomic_bert.", "bert."].map(|prefix| tensors.prefix(prefix)).concat();
    let names = if tensors.has(&format!("{prefix}emb_ln.weight")) { PUBLISHED } else { OWN };
    let width = numbers.width.clone();
    let norm = Norm::layer(&width, numbers.eps);
    let vocab = config.extent("vocab_size")?;
    let multiple = config.size("pad_vocab_size_multiple")?.filter(|_| is_published).unwrap_or(1);
    let vocab = Size::new(vocab.value().next_multiple_of(multiple), "vocab_size");
    let types = Size::new(config.size("type_vocab_size")?.unwrap_or(2), "type_vocab_size");
    let table = format!("{prefix}embeddings.word_embeddings.weight");
    let (table, mut masked) = MASKED.read(request, &table, numbers.activation, &norm)?;
    if is_published && !numbers.biases[1] {
        (masked.bias, masked.transform.linear) = (None, LinearKind::PLAIN);
    }
    let pooler = Transform::dense(format!("{prefix}pooler.dense"), &width, UnaryOp::Tanh);
    request.encoder(&Encoder {
        embedding: Embedding {
            types: Some(TokenTypes { table: "embeddings.token_type_embeddings", rows: types }),
            norm: Some((names.embedding_norm, norm.clone())),
            ..Embedding::plain(table, &vocab, &width)
        },
        uncounted: None,
        relative: None,
        distances: None,
        layers: Stack::Own(names.layers, vec![layer(&names, &numbers, &norm); numbers.depth]),
        rotary: vec![numbers.rotary],
        final_norm: None,
        heads: crate::blocks::Heads::of_pooler(pooler, masked),
        max_positions: None, // rotary positions go on for ever
        known_unused: &["*position_ids", "*inv_freq", "*pooler.*", "cls.predictions.bias", "cls.seq_relationship.*"],
        known_heads: &["cls.*"],
        prefix,
        width,
    })
}

fn layer(names: &Names, numbers: &Numbers, norm: &Norm) -> Layer {
    let Numbers { width, heads, inner, activation, biases, .. } = numbers;
    let linear = LinearKind::with_bias(biases[0]);
    let attention = Attention {
        projections: names.projections,
        linear,
        output: (names.attention[1], linear),
        rotary: Some(0),
        causal: false,
        ..Attention::causal(width, &heads.heads, &heads.head_dim)
    };
    let mlp = GatedMlp {
        width: width.clone(),
        inner: inner.clone(),
        activation: *activation,
        gate: Gate::Separate(names.gate),
        down: names.down,
        bias: biases[1],
    };
    Layer::post_norm((names.attention[0], attention), ("mlp", FeedForward::Gated(mlp)), names.norms, norm)
}

/// By transformers' keys.
fn own_numbers(config: &ConfigReader<'_>) -> Result<Numbers, ConfigError> {
    let width = config.extent("hidden_size")?;
    let heads = config.heads("num_attention_heads", "num_attention_heads", "head_dim", &width)?;
    let limit = config.size("max_position_embeddings")?.unwrap_or(2048);
    let theta = Map::from_iter([("rope_theta".to_owned(), 1000.into())]);
    let stated = match config.get("rope_parameters") {
        Some(Value::Object(stated)) => stated.clone(),
        None => Map::new(),
        Some(_) => return Err(config.invalid("rope_parameters", "an object")),
    };
    let parameters: Map<String, Value> = theta.into_iter().chain(stated).collect();
    Ok(Numbers {
        inner: config.extent("intermediate_size")?,
        depth: config.layers("num_hidden_layers")?,
        eps: config.positive("layer_norm_eps")?.unwrap_or(1e-12),
        activation: config.activation("hidden_act", "silu")?,
        rotary: rotary(parameters, heads.head_dim.value(), limit)?,
        biases: [false, false],
        heads,
        width,
    })
}

/// By the keys of published checkpoints.
fn published_numbers(config: &ConfigReader<'_>) -> Result<Numbers, ConfigError> {
    const OFF: [&str; 6] = [
        "causal",
        "parallel_block",
        "prenorm",
        "rotary_emb_interleaved",
        "scale_attn_by_inverse_layer_idx",
        "use_rms_norm",
    ];
    for key in OFF {
        if config.flag(key, false)? {
            return Err(config.invalid(key, "false"));
        }
    }
    if !config.flag("scale_attn_weights", true)? {
        return Err(config.invalid("scale_attn_weights", "true"));
    }
    if config.number("rotary_emb_fraction")?.unwrap_or(1.0) != 1.0 {
        return Err(config.invalid("rotary_emb_fraction", "1"));
    }
    let activation = match config.text("activation_function")? {
        Some("glu") => UnaryOp::Sigmoid,
        None | Some("swiglu") => UnaryOp::Silu,
        Some("geglu") => UnaryOp::Gelu,
        Some(_) => return Err(config.invalid("activation_function", "glu, swiglu or geglu")),
    };
    let biases = ["qkv_proj_bias", "mlp_fc1_bias", "mlp_fc2_bias"].map(|key| config.flag(key, false));
    let [attention, first, second] = [biases[0].clone()?, biases[1].clone()?, biases[2].clone()?];
    if first != second {
        return Err(config.invalid("mlp_fc2_bias", "the same as mlp_fc1_bias"));
    }
    let width = config.extent("n_embd")?;
    let heads = config.equal_heads("n_head", "n_embd", &width)?;
    let base = config.positive("rotary_emb_base")?.unwrap_or(10_000.0);
    let mut parameters = Map::from_iter([("rope_theta".to_owned(), base.into())]);
    if let Some(factor) = config.positive("rotary_scaling_factor")? {
        parameters.extend([("rope_type".to_owned(), "dynamic".into()), ("factor".to_owned(), factor.into())]);
    }
    let limit = config.size("max_trained_positions")?.unwrap_or(2048);
    // Rotary positions go on for ever, and the rest is about layers side by side, or how and not what is computed.
    for key in ["n_positions", "parallel_block_tied_norm", "reorder_and_upcast_attn"] {
        config.get(key);
    }
    Ok(Numbers {
        inner: config.size("n_inner")?.map_or_else(|| &width * 4, |n| Size::new(n, "n_inner")),
        depth: config.layers("n_layer")?,
        eps: config.positive("layer_norm_epsilon")?.unwrap_or(1e-12),
        activation,
        rotary: rotary(parameters, heads.head_dim.value(), limit)?,
        biases: [attention, first],
        heads,
        width,
    })
}

/// The rotary table that today's parameters describe.
fn rotary(parameters: Map<String, Value>, dim: usize, max_positions: usize) -> Result<Rotary, ConfigError> {
    let alone = Map::from_iter([("rope_parameters".to_owned(), parameters.into())]);
    let defaults = rope::Defaults { head_dim: dim, share: 1.0, theta: 10_000.0, max_positions };
    rope::rotary(&ConfigReader::new(&alone), &defaults)
}
