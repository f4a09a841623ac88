//! What families with Mamba-2 have in common: the config keys of its mixer, and how layers of LLaMA's kind take it.

use serde_json::Value;

use super::{ModelError, layer_types};
use crate::blocks::{Decoder, GatedNorm, LinearKind, Mamba2, Size};
use crate::config::{ConfigError, ConfigReader};

/// Config keys of a mixer, with what a missing key means.
pub(super) struct Keys {
    pub heads: (&'static str, usize),
    /// Without a number, heads are equal parts of the channels.
    pub head_dim: (&'static str, Option<usize>),
    pub groups: (&'static str, usize),
    pub state: (&'static str, usize),
    pub taps: (&'static str, usize),
    /// True if missing.
    pub conv_bias: &'static str,
    /// False if missing.
    pub bias: &'static str,
    /// `silu` if missing.
    pub activation: &'static str,
}

impl Keys {
    /// Those of Bamba and its descendants.
    pub const BAMBA: Keys = Keys {
        heads: ("mamba_n_heads", 128),
        head_dim: ("mamba_d_head", None),
        groups: ("mamba_n_groups", 1),
        state: ("mamba_d_state", 256),
        taps: ("mamba_d_conv", 4),
        conv_bias: "mamba_conv_bias",
        bias: "mamba_proj_bias",
        activation: "hidden_act",
    };
}

/// A mixer with a norm after the gate. `inner` is how many channels the heads have to have together, if another key
/// than theirs says it.
///
/// # Errors
/// Keys of other types, and heads or groups that are not equal parts.
pub(super) fn mamba2(
    config: &ConfigReader<'_>,
    width: &Size,
    inner: Option<usize>,
    eps: f64,
    keys: &Keys,
) -> Result<Mamba2, ModelError> {
    let size = |(key, default): (&str, usize)| -> Result<Size, ConfigError> {
        Ok(Size::new(config.size(key)?.unwrap_or(default), key))
    };
    let (heads, groups) = (size(keys.heads)?, size(keys.groups)?);
    let is_auto = config.get(keys.head_dim.0).and_then(Value::as_str) == Some("auto");
    let head_dim = if is_auto { None } else { config.size(keys.head_dim.0)?.or(keys.head_dim.1) };
    let head_dim = head_dim.or(inner.map(|inner| inner / heads.value())).unwrap_or(0);
    if head_dim == 0 || inner.is_some_and(|inner| inner != heads.value() * head_dim) {
        let expected = format!("a number of heads of width {head_dim} that have {} channels", inner.unwrap_or(0));
        return Err(config.invalid(keys.heads.0, &expected).into());
    }
    if !heads.value().is_multiple_of(groups.value()) {
        return Err(config.invalid(keys.groups.0, &format!("a divisor of {}", keys.heads.0)).into());
    }
    Ok(Mamba2 {
        width: width.clone(),
        heads,
        head_dim: Size::new(head_dim, keys.head_dim.0),
        groups,
        state: size(keys.state)?,
        taps: size(keys.taps)?,
        activation: config.activation(keys.activation, "silu")?,
        conv_bias: config.flag(keys.conv_bias, true)?,
        linear: [LinearKind::with_bias(config.flag(keys.bias, false)?); 2],
        limits: limits(config)?,
        norm: Some(GatedNorm { eps, before_gate: false }),
        factors: None,
    })
}

/// Channels of a mixer, by a key that says how many times the width they are.
///
/// # Errors
/// A factor that leaves no channel.
pub(super) fn channels(config: &ConfigReader<'_>, key: &str, width: &Size) -> Result<usize, ConfigError> {
    match (config.positive(key)?.unwrap_or(2.0) * width.value() as f64) as usize {
        0 => Err(config.invalid(key, "a factor that leaves at least one channel")),
        inner => Ok(inner),
    }
}

/// `time_step_limit`: two numbers, the second of which may be infinite.
fn limits(config: &ConfigReader<'_>) -> Result<Option<[f64; 2]>, ConfigError> {
    const KEY: &str = "time_step_limit";
    let Some(limits) = config.get(KEY) else { return Ok(None) };
    let limits = limits.as_array().and_then(|pair| pair.iter().map(number).collect::<Option<Vec<f64>>>());
    match limits.as_deref() {
        // Time steps are positive without bounds.
        Some(&[least, f64::INFINITY]) if least <= 0.0 => Ok(None),
        Some(&[least, most]) if least.is_finite() && most >= least => Ok(Some([least, most])),
        _ => Err(config.invalid(KEY, "two numbers, the first of them finite and not above the second")),
    }
}

/// A number, which may be written as transformers writes those that JSON lacks.
fn number(value: &Value) -> Option<f64> {
    match value.get("__float__") {
        Some(tag) => tag.as_str()?.parse().ok(),
        None => value.as_f64(),
    }
}

/// Whether each layer has a state space rather than attention, by a list of names.
pub(super) fn state_spaces(
    config: &ConfigReader<'_>,
    key: &str,
    model: &Decoder,
) -> Result<Option<Vec<bool>>, ConfigError> {
    const STATE_SPACES: usize = 2;
    let kinds = ["linear_attention", "mamba", "full_attention", "attention"];
    let listed = layer_types::listed(config, key, model.layers.len(), &kinds)?;
    Ok(listed.map(|listed| listed.iter().map(|&kind| kind < STATE_SPACES).collect()))
}
