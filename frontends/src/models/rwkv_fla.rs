//! RWKV-6 and -7 by flash-linear-attention's names.
//! Source: flash-linear-attention `fla/models/rwkv{6,7}`, `fla/layers/rwkv{6,7}.py`.

use castiron_ir::op::UnaryOp;

use super::ModelError;
use super::family::Request;
use super::fla;
use crate::blocks::{
    ChannelMix, Decay, Decoder, FeedForward, Layer, LowRank, LowRankTensors, Mix, MixTensor, MixTensors, Mixer, Mixes,
    Norm, Rwkv6, Rwkv7, Size, UnitLength,
};

pub(super) fn read(request: &Request<'_>, version: usize) -> Result<Decoder, ModelError> {
    let config = request.config;
    let width = config.extent_or("hidden_size", 2048)?;
    let eps = config.positive("norm_eps")?.unwrap_or(1e-5);
    let norm = Norm { bias: config.flag("norm_bias", true)?, ..Norm::layer(&width, eps) };
    if config.text("hidden_act")?.is_some_and(|name| name != "sqrelu") {
        return Err(config.invalid("hidden_act", "sqrelu").into());
    }
    let ratio = config.positive("hidden_ratio")?.unwrap_or(if version == 7 { 4.0 } else { 3.5 });
    let inner = fla::inner(config, &width, ratio, 32)?;
    let channel_mix = channel_mix(&width, &inner, version);
    let count = config.layers("num_hidden_layers")?;
    let mut mixer = match version {
        7 => Mixer::Rwkv7(seventh(request, &width, eps, count)?),
        _ => Mixer::Rwkv6(sixth(request, &width, eps)?),
    };
    let layer = |i| {
        if let Mixer::Rwkv7(mixer) = &mut mixer {
            mixer.is_first = i == 0;
        }
        let feed_forward = ("ffn", FeedForward::ChannelMix(channel_mix.clone()));
        Layer::pre_norm(("attn", mixer.clone()), feed_forward, ["attn_norm", "ffn_norm"], &norm)
    };
    let layers = (0..count).map(layer).collect();
    fla::decoder(request, &norm, config.flag("norm_first", true)?, layers)
}

fn low_rank(name: &'static str, rank: Size, activation: Option<UnaryOp>, bias: bool) -> LowRank {
    LowRank { rank, activation, tensors: LowRankTensors::Layers(name, bias) }
}

fn sixth(request: &Request<'_>, width: &Size, eps: f64) -> Result<Rwkv6, ModelError> {
    let (config, tensors) = (request.config, request.tensors);
    let stored = tensors.extent(&format!("{}layers.0.attn.bonus", tensors.prefix("model.")), 0);
    let of_width = config.size("head_dim")?.map(|dim| (width.value() / dim).max(1));
    let heads = config.extent_or("num_heads", of_width.or(stored).unwrap_or(4))?;
    Ok(Rwkv6 {
        width: width.clone(),
        key_dim: fla::head_width(config, [width, &heads], ("expand_k", 0.5))?,
        value_dim: fla::head_width(config, [width, &heads], ("expand_v", 1.0))?,
        heads,
        layers: ["r_proj.linear", "k_proj.linear", "v_proj.linear", "g_proj.linear", "o_proj"],
        mixes: Mixes::OfToken {
            first: Mix { name: "x_proj.0.mu", holds: MixTensor::Vector },
            rank: config.extent_or("proj_low_rank_dim", 32)?,
            tensors: MixTensors::Layers,
        },
        decay: Decay::OfToken(low_rank(
            "w_proj.linear",
            config.extent_or("gate_low_rank_dim", 64)?,
            Some(UnaryOp::Tanh),
            true,
        )),
        bonus: "bonus",
        norm: ("g_norm", eps),
    })
}

fn seventh(request: &Request<'_>, width: &Size, eps: f64, layers: usize) -> Result<Rwkv7, ModelError> {
    let (config, tensors) = (request.config, request.tensors);
    let attention = format!("{}layers.{}.attn.", tensors.prefix("model."), layers.saturating_sub(1));
    let count = config.size("num_heads")?;
    let by_count = count.map(|count| width.value() / count);
    let head_dim = config.size("head_dim")?.or_else(|| tensors.extent(&format!("{attention}r_k"), 1)).or(by_count);
    let head_dim = Size::new(head_dim.unwrap_or(64).max(1), "head_dim");
    if !width.value().is_multiple_of(head_dim.value()) {
        return Err(config.invalid("head_dim", "a divisor of hidden_size").into());
    }
    let heads = Size::new(width.value() / head_dim.value(), "hidden_size / head_dim");
    let values = values(request, width, &heads)?;
    let rank = |key: &str, name: &str, default: usize| {
        let stored = tensors.extent(&format!("{attention}{name}.lora.0.weight"), 0);
        config.extent_or(key, stored.unwrap_or(default))
    };
    Ok(Rwkv7 {
        width: width.clone(),
        heads,
        layers: ["r_proj", "k_proj", "v_proj", "o_proj"],
        low_ranks: [
            low_rank("w_lora", rank("decay_low_rank_dim", "w_lora", 64)?, Some(UnaryOp::Tanh), true),
            low_rank("a_lora", rank("a_low_rank_dim", "a_lora", 64)?, None, true),
            low_rank("v_lora", rank("v_low_rank_dim", "v_lora", 16)?, None, true),
            low_rank("g_lora", rank("gate_low_rank_dim", "g_lora", 128)?, Some(UnaryOp::Sigmoid), false),
        ],
        vectors: MixTensor::Vector,
        // The reference's kernel adds to the sum of squares, what it replaces bounds the length.
        unit: if config.flag("fuse_norm", true)? { UnitLength::Added(1e-6) } else { UnitLength::AtLeast(1e-12) },
        norm: ("g_norm", head_dim.value() as f64 * eps),
        key_dim: head_dim,
        value_dim: values,
        is_first: false,
    })
}

/// Width of a head's values: `value_dim` is a number, or one for each layer. Layers read values of the first one, so
/// that all have as many.
fn values(request: &Request<'_>, width: &Size, heads: &Size) -> Result<Size, ModelError> {
    let config = request.config;
    let all = match config.get("value_dim") {
        Some(serde_json::Value::Array(_)) => config.numbers("value_dim")?,
        _ => config.size("value_dim")?.into_iter().collect(),
    };
    let first = all.first().copied().unwrap_or(width.value());
    if first == 0 || !first.is_multiple_of(heads.value()) || all.iter().any(|&other| other != first) {
        return Err(config.invalid("value_dim", "the same multiple of the number of heads in all layers").into());
    }
    Ok(Size::new(first / heads.value(), "value_dim / heads"))
}

fn channel_mix(width: &Size, inner: &Size, version: usize) -> ChannelMix {
    let vector = |name| Mix { name, holds: MixTensor::Vector };
    let (mix, layers, receptance) = match version {
        7 => (vector("x_k"), ["key", "value"], None),
        _ => (vector("key.mu"), ["key.linear", "value"], Some(("receptance.linear", vector("receptance.mu")))),
    };
    let (width, inner) = (width.clone(), inner.clone());
    ChannelMix { width, inner, mix, layers, receptance, reads_padding: false }
}
