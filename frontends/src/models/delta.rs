//! What families with gated delta networks read alike.

use crate::blocks::Size;
use crate::config::{ConfigError, ConfigReader};

/// Largest extent of a head, and most heads, which a builder may count through.
const MOST: usize = 1 << 12;

/// An extent with a default.
///
/// # Errors
/// Nothing, or more than any model has.
pub(super) fn extent(config: &ConfigReader<'_>, key: &str, default: usize) -> Result<Size, ConfigError> {
    match config.size(key)?.unwrap_or(default) {
        size @ 1..=MOST => Ok(Size::new(size, key)),
        _ => Err(config.invalid(key, &format!("a number from 1 to {MOST}"))),
    }
}

/// Numbers of heads of keys and of values, with their defaults.
///
/// # Errors
/// As [`extent`]; heads of values that cannot share those of keys.
pub(super) fn heads(config: &ConfigReader<'_>, [of_keys, of_values]: [usize; 2]) -> Result<[Size; 2], ConfigError> {
    let of_keys = extent(config, "linear_num_key_heads", of_keys)?;
    let of_values = extent(config, "linear_num_value_heads", of_values)?;
    if !of_values.value().is_multiple_of(of_keys.value()) {
        return Err(config.invalid("linear_num_key_heads", "a divisor of linear_num_value_heads"));
    }
    Ok([of_keys, of_values])
}
