//! RWKV-5, -6 and -7 by the names of their official files.
//! Sources: arXiv:2404.05892, arXiv:2503.14456; PyPI `rwkv`, `rwkv/model.py`.

use castiron_ir::op::UnaryOp;

use super::ModelError;
use super::family::{Built, Family, Head, Request};
use super::rwkv_fla;
use crate::blocks::{
    ChannelMix, Decay, Decoder, Embedding, FeedForward, Layer, LowRank, LowRankTensors, Mix, MixTensor, MixTensors,
    Mixer, Mixes, Norm, Rwkv6, Rwkv7, Scores, Size, UnitLength,
};

/// The one name that the official files' architectures have.
pub(super) const FIFTH: Family = Family {
    model_type: "rwkv5",
    architectures: &[("RWKV", Head::LanguageModel)],
    build: |request| match request.config.text("model_type")? {
        Some("rwkv5") => request.decoder(&read(request, 5)?),
        Some("rwkv6") => request.decoder(&read(request, 6)?),
        Some("rwkv7") => request.decoder(&read(request, 7)?),
        _ => Err(request.config.invalid("model_type", "rwkv5, rwkv6 or rwkv7").into()),
    },
};

pub(super) const SIXTH: Family = Family {
    model_type: "rwkv6",
    architectures: &super::fla::architectures(["RWKV6ForCausalLM", "RWKV6Model"]),
    build: |request| of_either(request, 6),
};

pub(super) const SEVENTH: Family = Family {
    model_type: "rwkv7",
    architectures: &super::fla::architectures(["RWKV7ForCausalLM", "RWKV7Model"]),
    build: |request| of_either(request, 7),
};

/// By the names of the tensors.
fn of_either(request: &Request<'_>, version: usize) -> Result<Built, ModelError> {
    request.decoder(&match request.tensors.has("emb.weight") {
        true => read(request, version)?,
        false => rwkv_fla::read(request, version)?,
    })
}

fn read(request: &Request<'_>, version: usize) -> Result<Decoder, ModelError> {
    let config = request.config;
    config.disregard(&["ctx_len"]);
    let (width, vocab) = (config.extent("n_embd")?, config.extent("vocab_size")?);
    let stored = request.tensors.extent(bonus(version).0, 1).unwrap_or(64);
    let (key, other) = if version == 7 { ("head_size", "head_size_a") } else { ("head_size_a", "head_size") };
    let head_dim = Size::new(config.size(key)?.or(config.size(other)?).unwrap_or(stored), key);
    if !width.value().is_multiple_of(head_dim.value()) {
        return Err(config.invalid(key, "a divisor of n_embd").into());
    }
    for (key, only) in [("dim_att", width.value()), ("head_size_divisor", 8)] {
        if config.size(key)?.is_some_and(|size| size != only) {
            return Err(config.invalid(key, &only.to_string()).into());
        }
    }
    let default = if version == 7 { 4 * width.value() } else { width.value() * 7 / 2 / 32 * 32 };
    let inner = request.tensors.extent("blocks.0.ffn.key.weight", 0).unwrap_or(default);
    let inner = config.extent_or("dim_ffn", inner)?;
    let heads = Size::new(width.value() / head_dim.value(), format!("n_embd / {key}"));
    let norm = Norm::layer(&width, 1e-5);
    let layer = |i| {
        let mixer = match version {
            7 => Mixer::Rwkv7(seventh(request, i, [&width, &heads, &head_dim])),
            _ => Mixer::Rwkv6(sixth(request, i, [&width, &heads, &head_dim], version)),
        };
        let channel_mix = channel_mix(&width, &inner, version);
        Layer::pre_norm(("att", mixer), ("ffn", FeedForward::ChannelMix(channel_mix)), ["ln1", "ln2"], &norm)
    };
    let tie = config.flag("tie_word_embeddings", false)?;
    let (table, matrix) = request.tensors.tied("emb.weight", "head.weight", tie);
    Ok(Decoder {
        prefix: String::new(),
        embedding: Embedding { norm: Some(("blocks.0.ln0", norm.clone())), ..Embedding::plain(table, &vocab, &width) },
        rotary: vec![],
        alibi: None,
        layers_name: "blocks",
        layers: (0..config.layers("n_layer")?).map(layer).collect(),
        final_norm: Some(("ln_out", norm.clone())),
        projection: None,
        scores: Scores::plain(matrix),
        max_positions: None, // all context is in the states
        known_unused: &["blocks.0.att.v0", "blocks.0.att.v1", "blocks.0.att.v2"],
        width: width.clone(),
    })
}

/// The tensor of a bonus, which has a row for each head, and of the width of its heads.
fn bonus(version: usize) -> (&'static str, &'static str) {
    if version == 7 { ("blocks.0.att.r_k", "r_k") } else { ("blocks.0.att.time_faaaa", "time_faaaa") }
}

/// Epsilon of the norm of heads, for heads of any width.
const HEAD_EPS: f64 = 64e-5;

/// A layer of low rank whose rank the file alone tells.
fn low_rank(
    request: &Request<'_>,
    layer: usize,
    (names, bias): ([&'static str; 2], Option<&'static str>),
    activation: Option<UnaryOp>,
    default: usize,
) -> LowRank {
    let rank = request.tensors.extent(&format!("blocks.{layer}.att.{}", names[0]), 1).unwrap_or(default);
    LowRank { rank: Size::new(rank, "rank"), activation, tensors: LowRankTensors::Plain(names, bias) }
}

fn sixth(request: &Request<'_>, layer: usize, [width, heads, head_dim]: [&Size; 3], version: usize) -> Rwkv6 {
    let rest = |name| Mix { name, holds: MixTensor::Rest };
    let (mixes, decay) = if version == 5 {
        let names = ["time_mix_r", "time_mix_k", "time_mix_v", "time_mix_g"];
        (Mixes::Stored(names.map(rest)), Decay::Stored("time_decay"))
    } else {
        let rank = request.tensors.extent(&format!("blocks.{layer}.att.time_maa_w2"), 1).unwrap_or(32);
        let mixes = Mixes::OfToken {
            first: Mix { name: "time_maa_x", holds: MixTensor::Row },
            rank: Size::new(rank, "rank"),
            tensors: MixTensors::Plain,
        };
        let tensors = (["time_decay_w1", "time_decay_w2"], Some("time_decay"));
        (mixes, Decay::OfToken(low_rank(request, layer, tensors, Some(UnaryOp::Tanh), 64)))
    };
    Rwkv6 {
        width: width.clone(),
        heads: heads.clone(),
        key_dim: head_dim.clone(),
        value_dim: head_dim.clone(),
        layers: ["receptance", "key", "value", "gate", "output"],
        mixes,
        decay,
        bonus: bonus(version).1,
        norm: ("ln_x", HEAD_EPS),
    }
}

fn seventh(request: &Request<'_>, layer: usize, [width, heads, head_dim]: [&Size; 3]) -> Rwkv7 {
    let low_rank = |names, activation, default| low_rank(request, layer, names, activation, default);
    Rwkv7 {
        width: width.clone(),
        heads: heads.clone(),
        key_dim: head_dim.clone(),
        value_dim: head_dim.clone(),
        layers: ["receptance", "key", "value", "output"],
        low_ranks: [
            low_rank((["w1", "w2"], Some("w0")), Some(UnaryOp::Tanh), 64),
            low_rank((["a1", "a2"], Some("a0")), None, 64),
            low_rank((["v1", "v2"], Some("v0")), None, 32),
            low_rank((["g1", "g2"], None), Some(UnaryOp::Sigmoid), 128),
        ],
        vectors: MixTensor::Row,
        unit: UnitLength::AtLeast(1e-12),
        norm: ("ln_x", HEAD_EPS),
        is_first: layer == 0,
    }
}

fn channel_mix(width: &Size, inner: &Size, version: usize) -> ChannelMix {
    let (holds, [key, receptance]) = match version {
        5 => (MixTensor::Rest, ["time_mix_k", "time_mix_r"]),
        6 => (MixTensor::Row, ["time_maa_k", "time_maa_r"]),
        _ => (MixTensor::Row, ["x_k", ""]),
    };
    ChannelMix {
        width: width.clone(),
        inner: inner.clone(),
        mix: Mix { name: key, holds },
        layers: ["key", "value"],
        receptance: (version != 7).then_some(("receptance", Mix { name: receptance, holds })),
        reads_padding: false,
    }
}
