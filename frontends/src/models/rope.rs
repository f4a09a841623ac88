//! Rotary positions as configs describe them: today's `rope_parameters`, and the older `rope_theta`
//! with `rope_scaling` (transformers `modeling_rope_utils.py`).

use serde_json::{Map, Value};

use crate::blocks::frequencies::{self, Llama3, Yarn};
use crate::blocks::{DynamicNtk, Growth, Rotary};
use crate::config::{ConfigError, ConfigReader};

/// Reads the rotary positions of heads of width `dim`.
///
/// # Errors
/// A kind of scaling that is not known, or one with parameters missing or without meaning.
pub(super) fn rotary(config: &ConfigReader<'_>, dim: usize, max_positions: usize) -> Result<Rotary, ConfigError> {
    let none = Map::new();
    let (key, parameters) = match (object(config, "rope_scaling")?, object(config, "rope_parameters")?) {
        (Some(scaling), _) => ("rope_scaling", scaling),
        (None, Some(parameters)) => ("rope_parameters", parameters),
        (None, None) => ("rope_parameters", &none),
    };
    let outer_theta = config.number("rope_theta")?;
    let original = config.number("original_max_position_embeddings")?;
    let rope = ConfigReader::nested(key, parameters);
    let base = rope.number("rope_theta")?.or(outer_theta).unwrap_or(10_000.0);
    let positions = max_positions as f64;
    let (new_kind, old_kind) = (rope.text("rope_type")?, rope.text("type")?);
    let kind_key = if new_kind.is_none() && old_kind.is_some() { "type" } else { "rope_type" };
    let kind = new_kind.or(old_kind).unwrap_or("default");
    if base <= 0.0 {
        return Err(rope.invalid("rope_theta", "a positive number"));
    }
    if rope.number("partial_rotary_factor")?.is_some_and(|share| share != 1.0) {
        return Err(rope.invalid("partial_rotary_factor", "1, the only one implemented for this architecture"));
    }
    let plain = |frequencies| Rotary { frequencies, scale: 1.0, growth: None, interleaved: false };
    let rotary = match kind {
        "default" => plain(frequencies::inverse_frequencies(base, dim)),
        "linear" => plain(frequencies::linear(base, dim, factor(&rope)?)),
        "dynamic" => {
            let growth = DynamicNtk { factor: factor(&rope)?, positions: max_positions };
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
        "longrope" => longrope(&rope, base, dim)?,
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

/// LongRoPE (arXiv:2402.13753) as far as it does not depend on the length: the same divisors for short
/// and long sequences, and a stated factor of cosines and sines.
fn longrope(rope: &ConfigReader<'_>, base: f64, dim: usize) -> Result<Rotary, ConfigError> {
    let divisors = |key: &str| {
        let expected = format!("{} positive numbers, one for each pair of channels", dim / 2);
        let list = rope.get(key).ok_or_else(|| rope.missing(key))?;
        let number = |v: &Value| v.as_f64().filter(|x| x.is_finite() && *x > 0.0);
        let numbers: Option<Vec<f64>> = list.as_array().and_then(|list| list.iter().map(number).collect());
        numbers.filter(|numbers| numbers.len() == dim / 2).ok_or_else(|| rope.invalid(key, &expected))
    };
    let (short, long) = (divisors("short_factor")?, divisors("long_factor")?);
    if short != long {
        return Err(rope.invalid("long_factor", "the same numbers as short_factor, the only case implemented"));
    }
    // Lengths choose between the two lists and set the default of `attention_factor`; neither is left open here.
    rope.positive("original_max_position_embeddings")?;
    rope.positive("factor")?;
    let scale = required(rope, "attention_factor")?;
    Ok(Rotary { frequencies: frequencies::divided(base, dim, &short), scale, growth: None, interleaved: false })
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
