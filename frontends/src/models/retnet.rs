//! RetNet and GLA: linear attention whose states decay, by head or by token, and gated perceptrons.
//! Sources: arXiv:2307.08621, arXiv:2312.06635; flash-linear-attention `fla/models/{retnet,gla}`.

use castiron_ir::op::UnaryOp;

use super::ModelError;
use super::family::{Family, Request};
use super::fla;
use crate::blocks::frequencies::inverse_frequencies;
use crate::blocks::{
    Decoder, FeatureMap, FeedForward, Gate, GatedMlp, HeadDecay, Layer, Norm, Retention, Rotary, Size,
};
use crate::config::{ConfigError, ConfigReader};

pub(super) const RETNET: Family = Family {
    model_type: "retnet",
    architectures: &fla::architectures(["RetNetForCausalLM", "RetNetModel"]),
    build: |request| request.decoder(&read(request, &RETENTION)?),
};

pub(super) const GLA: Family = Family {
    model_type: "gla",
    architectures: &fla::architectures(["GLAForCausalLM", "GLAModel"]),
    build: |request| request.decoder(&read(request, &GATED)?),
};

/// What the two differ in.
struct Kind {
    /// Whether decays are by token.
    gated: bool,
    heads: usize,
    /// `expand_k` and `expand_v`
    expand: [f64; 2],
    hidden_ratio: f64,
    /// Keys that the layers never get.
    unused: &'static [&'static str],
}

const RETENTION: Kind =
    Kind { gated: false, heads: 8, expand: [1.0, 2.0], hidden_ratio: 2.0, unused: &["use_short_conv"] };
const GATED: Kind =
    Kind { gated: true, heads: 4, expand: [0.5, 1.0], hidden_ratio: 4.0, unused: &["use_gk", "use_gv"] };

fn read(request: &Request<'_>, kind: &Kind) -> Result<Decoder, ModelError> {
    let config = request.config;
    config.disregard(kind.unused);
    let (width, heads) = (config.extent_or("hidden_size", 2048)?, config.extent_or("num_heads", kind.heads)?);
    let kv_heads = config.extent_or("num_kv_heads", heads.value())?;
    if !heads.value().is_multiple_of(kv_heads.value()) {
        return Err(config.invalid("num_kv_heads", "a divisor of num_heads").into());
    }
    let key_dim = fla::head_width(config, [&width, &heads], ("expand_k", kind.expand[0]))?;
    if !kind.gated && !key_dim.value().is_multiple_of(2) {
        return Err(config.invalid("expand_k", "a factor that makes the width of heads even").into());
    }
    let eps = config.positive("norm_eps")?.unwrap_or(1e-6);
    let norm = Norm::rms(&width, eps);
    let gated = config.flag("use_output_gate", true)?;
    let is_fused = gated && config.flag("fuse_norm", true)?;
    let weighted = config.flag("elementwise_affine", true)? && !config.is_null("elementwise_affine");
    let taps = config.extent_or("conv_size", 4)?;
    let retention = Retention {
        width: width.clone(),
        value_dim: fla::head_width(config, [&width, &heads], ("expand_v", kind.expand[1]))?,
        decay: match kind.gated {
            true => HeadDecay::OfToken { rank: Size::new(16, "16"), least: config.number("clamp_min")? },
            false => HeadDecay::Fixed,
        },
        convolution: (kind.gated && config.flag("use_short_conv", false)?).then_some(taps),
        feature_map: feature_map(config, kind)?,
        rotary: (!kind.gated).then_some(0),
        gated,
        norm: if is_fused { "g_norm_swish_gate" } else { "g_norm" },
        eps: (eps, weighted),
        heads,
        kv_heads,
        key_dim: key_dim.clone(),
    };
    let ratio = match config.is_null("hidden_ratio") {
        true => 4.0,
        false => config.positive("hidden_ratio")?.unwrap_or(kind.hidden_ratio),
    };
    let activation = config.activation("hidden_act", "swish")?;
    if activation != UnaryOp::Silu {
        return Err(config.invalid("hidden_act", "swish").into());
    }
    let mlp = GatedMlp {
        width: width.clone(),
        inner: fla::inner(config, &width, ratio * 2.0 / 3.0, 256)?,
        activation,
        gate: Gate::Separate(["gate_proj", "up_proj"]),
        down: "down_proj",
        bias: false,
    };
    let feed_forward = ("mlp", FeedForward::Gated(mlp));
    let layer = Layer::pre_norm(("attn", retention), feed_forward, ["attn_norm", "mlp_norm"], &norm);
    let layers = vec![layer; config.layers("num_hidden_layers")?];
    let frequencies = inverse_frequencies(10_000.0, key_dim.value());
    let rotary = Rotary { frequencies, scale: 1.0, growth: None, interleaved: false };
    let rotary = if kind.gated { vec![] } else { vec![rotary] };
    Ok(Decoder { rotary, ..fla::decoder(request, &norm, false, layers)? })
}

/// RetNet knows activations by transformers' names, GLA by its own package's.
fn feature_map(config: &ConfigReader<'_>, kind: &Kind) -> Result<Option<FeatureMap>, ConfigError> {
    let Some(name) = config.text("feature_map")? else { return Ok(None) };
    let op = match (name, kind.gated) {
        ("logsigmoid", true) => return Ok(Some(FeatureMap::LogSigmoid)),
        ("sqrelu", true) => UnaryOp::Relu2,
        ("gelu", true) => UnaryOp::GeluTanh,
        ("relu" | "sigmoid" | "silu" | "swish", true) | (_, false) => config.activation_of("feature_map", name)?,
        _ => {
            let known = "null, relu, sigmoid, logsigmoid, silu, swish, sqrelu or gelu";
            return Err(config.invalid("feature_map", known));
        }
    };
    Ok(Some(FeatureMap::Unary(op)))
}
