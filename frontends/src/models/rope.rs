//! Rotary positions as configs describe them: today's `rope_parameters`, and the older `rope_theta`
//! with `rope_scaling` (transformers `modeling_rope_utils.py`).

use serde_json::{Map, Value};

use super::layer_types;
use crate::blocks::frequencies::{self, Llama3, Yarn};
use crate::blocks::{DynamicNtk, Growth, Rotary};
use crate::config::{ConfigError, ConfigReader};

/// What a family assumes of its rotary positions where its configs are silent.
pub(super) struct Defaults {
    /// Width of a head.
    pub head_dim: usize,
    /// Share of a head's channels that turn.
    pub share: f64,
    /// Base of the frequencies.
    pub theta: f64,
    /// `max_position_embeddings`
    pub max_positions: usize,
}

/// Reads the rotary positions that hold for all layers, or for those of full attention where the config has an
/// object for each type of layer.
///
/// # Errors
/// A kind of scaling that is not known, or one with parameters missing or without meaning.
pub(super) fn rotary(config: &ConfigReader<'_>, defaults: &Defaults) -> Result<Rotary, ConfigError> {
    if let Some(rotary) = of_layer_type(config, "full_attention", defaults)? {
        return Ok(rotary);
    }
    let none = Map::new();
    let (key, parameters) = match (object(config, "rope_scaling")?, object(config, "rope_parameters")?) {
        (Some(scaling), _) => ("rope_scaling", scaling),
        (None, Some(parameters)) => ("rope_parameters", parameters),
        (None, None) => ("rope_parameters", &none),
    };
    read(config, key, parameters, defaults)
}

/// Reads the rotary positions of layers of one type, such as `sliding_attention`, from a config that has an
/// object for each; nothing if it has none.
///
/// # Errors
/// As [`rotary`].
pub(super) fn of_layer_type(
    config: &ConfigReader<'_>,
    layer_type: &str,
    defaults: &Defaults,
) -> Result<Option<Rotary>, ConfigError> {
    let Some(all) = object(config, "rope_parameters")? else { return Ok(None) };
    let Some(Value::Object(parameters)) = all.get(layer_type) else { return Ok(None) };
    if !all.keys().all(|key| layer_types::KINDS.contains(&key.as_str())) {
        return Err(config.invalid("rope_parameters", &format!("one object for each of {:?}", layer_types::KINDS)));
    }
    read(config, &format!("rope_parameters.{layer_type}"), parameters, defaults).map(Some)
}

/// Reads the rotary positions of layers with windows; scaling that is stated for all layers is not meant for them.
///
/// # Errors
/// As [`rotary`].
pub(super) fn of_windows(config: &ConfigReader<'_>, defaults: &Defaults) -> Result<Rotary, ConfigError> {
    Ok(of_layer_type(config, "sliding_attention", defaults)?.unwrap_or_else(|| unscaled(defaults)))
}

/// Rotary positions without any scaling.
pub(super) fn unscaled(defaults: &Defaults) -> Rotary {
    let frequencies = frequencies::inverse_frequencies(defaults.theta, defaults.head_dim);
    Rotary { frequencies, scale: 1.0, growth: None, interleaved: false }
}

fn read(
    config: &ConfigReader<'_>,
    key: &str,
    parameters: &Map<String, Value>,
    defaults: &Defaults,
) -> Result<Rotary, ConfigError> {
    let (outer_theta, older_theta) = (config.number("rope_theta")?, config.number("rotary_emb_base")?);
    let (outer_share, older_share) = (config.number("partial_rotary_factor")?, config.number("rotary_pct")?);
    let original = config.number("original_max_position_embeddings")?;
    let rope = ConfigReader::nested(key, parameters);
    // Parts of pictures turn each by another position; a text has one.
    rope.disregard(&["mrope_interleaved", "mrope_section"]);
    let base = rope.number("rope_theta")?.or(outer_theta).or(older_theta).unwrap_or(defaults.theta);
    let share = rope.number("partial_rotary_factor")?.or(outer_share).or(older_share).unwrap_or(defaults.share);
    // Truncated as Python does; of an odd rest one channel more turns, with the frequencies of the odd number.
    let dim = (defaults.head_dim as f64 * share) as usize;
    let positions = defaults.max_positions as f64;
    let (new_kind, old_kind) = (rope.text("rope_type")?, rope.text("type")?);
    let kind_key = if new_kind.is_none() && old_kind.is_some() { "type" } else { "rope_type" };
    let kind = new_kind.or(old_kind).unwrap_or("default");
    if dim == 0 || dim.next_multiple_of(2) > defaults.head_dim || (kind != "default" && !dim.is_multiple_of(2)) {
        let expected = format!("a share of {} channels that gives pairs of them", defaults.head_dim);
        return Err(rope.invalid("partial_rotary_factor", &expected));
    }
    if base <= 0.0 {
        return Err(rope.invalid("rope_theta", "a positive number"));
    }
    let plain = |frequencies| Rotary { frequencies, scale: 1.0, growth: None, interleaved: false };
    let rotary = match kind {
        "default" => plain(frequencies::inverse_frequencies(base, dim)),
        "linear" => plain(frequencies::linear(base, dim, factor(&rope)?)),
        "dynamic" => {
            let growth = DynamicNtk { factor: factor(&rope)?, positions: defaults.max_positions };
            // A head of two channels has one frequency, which does not depend on the base.
            let growth = Some(Growth::Dynamic(growth)).filter(|_| dim > 2);
            Rotary { growth, ..plain(frequencies::inverse_frequencies(base, dim)) }
        }
        "llama3" => {
            let positions = original.or(rope.positive("original_max_position_embeddings")?).unwrap_or(positions);
            let (low, high) = (required(&rope, "low_freq_factor")?, required(&rope, "high_freq_factor")?);
            if high <= low {
                return Err(rope.invalid("high_freq_factor", "a number above low_freq_factor"));
            }
            plain(Llama3 { factor: factor(&rope)?, low, high, positions }.frequencies(base, dim))
        }
        "yarn" => yarn(&rope, original, base, dim, positions)?,
        "longrope" | "su" => longrope(&rope, original, base, dim, positions)?,
        _ => return Err(rope.invalid(kind_key, "default, linear, dynamic, llama3, yarn or longrope")),
    };
    rope.finish()?;
    if rotary.frequencies.iter().any(|f| !f.is_finite()) {
        return Err(rope.invalid(kind_key, "a scaling whose frequencies are finite"));
    }
    Ok(rotary)
}

fn yarn(
    rope: &ConfigReader<'_>,
    original: Option<f64>,
    base: f64,
    dim: usize,
    positions: f64,
) -> Result<Rotary, ConfigError> {
    let factor = factor(rope)?;
    let yarn = Yarn {
        factor,
        beta_fast: rope.positive("beta_fast")?.unwrap_or(32.0),
        beta_slow: rope.positive("beta_slow")?.unwrap_or(1.0),
        truncate: rope.flag("truncate", true)?,
        positions: original.or(rope.positive("original_max_position_embeddings")?).unwrap_or(positions),
    };
    let both = rope.number("mscale")?.zip(rope.number("mscale_all_dim")?);
    let both = both.filter(|&(part, all)| part != 0.0 && all != 0.0);
    let scale = rope.number("attention_factor")?.unwrap_or_else(|| Yarn::suggested_scale(factor, both));
    Ok(Rotary { frequencies: yarn.frequencies(base, dim), scale, growth: None, interleaved: false })
}

/// LongRoPE (arXiv:2402.13753): divisors of the frequencies of each pair for rows up to the original length,
/// and for longer ones.
fn longrope(
    rope: &ConfigReader<'_>,
    original: Option<f64>,
    base: f64,
    dim: usize,
    positions: f64,
) -> Result<Rotary, ConfigError> {
    let divisors = |key: &str| {
        let expected = format!("{} positive numbers, one for each pair of channels", dim / 2);
        let list = rope.get(key).ok_or_else(|| rope.missing(key))?;
        let number = |v: &Value| v.as_f64().filter(|x| x.is_finite() && *x > 0.0);
        let numbers: Option<Vec<f64>> = list.as_array().and_then(|list| list.iter().map(number).collect());
        numbers.filter(|numbers| numbers.len() == dim / 2).ok_or_else(|| rope.invalid(key, &expected))
    };
    let (short, long) = (divisors("short_factor")?, divisors("long_factor")?);
    let original = original.or(rope.positive("original_max_position_embeddings")?).unwrap_or(positions);
    let growth = rope.positive("factor")?.unwrap_or(positions / original);
    let suggested = if growth <= 1.0 { 1.0 } else { (1.0 + growth.ln() / original.ln()).sqrt() };
    let scale = rope.positive("attention_factor")?.unwrap_or(suggested);
    let [frequencies, long] = [short, long].map(|divisors| frequencies::divided(base, dim, &divisors));
    let growth = (frequencies != long).then_some(Growth::Long { beyond: original as usize, frequencies: long });
    Ok(Rotary { frequencies, scale, growth, interleaved: false })
}

fn object<'a>(config: &ConfigReader<'a>, key: &str) -> Result<Option<&'a Map<String, Value>>, ConfigError> {
    match config.get(key) {
        None => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(_) => Err(config.invalid(key, "an object")),
    }
}

fn factor(rope: &ConfigReader<'_>) -> Result<f64, ConfigError> {
    required(rope, "factor")
}

fn required(rope: &ConfigReader<'_>, key: &str) -> Result<f64, ConfigError> {
    rope.positive(key)?.ok_or_else(|| rope.missing(key))
}
