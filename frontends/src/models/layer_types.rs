//! What kind each layer is: which see only what is near, and which have linear attention.

use serde_json::Value;

use crate::config::{ConfigError, ConfigReader};

/// Names of the types of layers that all have attention.
pub(super) const KINDS: [&str; 2] = ["full_attention", "sliding_attention"];
/// Names of the types of layers, some of which have linear attention.
const HYBRID: [&str; 2] = ["full_attention", "linear_attention"];

/// Which of some kinds each of `count` layers is, counted in `kinds`, by the list that a key holds; nothing if it
/// holds none.
///
/// # Errors
/// A list of another length, or with another kind of layer.
pub(super) fn listed(
    config: &ConfigReader<'_>,
    key: &str,
    count: usize,
    kinds: &[&str],
) -> Result<Option<Vec<usize>>, ConfigError> {
    let Some(list) = config.get(key) else { return Ok(None) };
    let kind = |name: &Value| kinds.iter().position(|&kind| Some(kind) == name.as_str());
    let listed: Option<Vec<usize>> = list.as_array().and_then(|list| list.iter().map(kind).collect());
    let expected = format!("a list of {count} out of {kinds:?}");
    listed.filter(|listed| listed.len() == count).map(Some).ok_or_else(|| config.invalid(key, &expected))
}

/// Whether each of `count` layers slides a window over the tokens: what `layer_types` says, or else the rule
/// that the family had before configs said it.
///
/// # Errors
/// As [`listed`].
pub(super) fn sliding(
    config: &ConfigReader<'_>,
    count: usize,
    rule: impl Fn(usize) -> bool,
) -> Result<Vec<bool>, ConfigError> {
    second(config, "layer_types", KINDS, count, rule)
}

/// Whether each of `count` layers has linear attention: what `layer_types` says, or else a rule.
///
/// # Errors
/// As [`sliding`].
pub(super) fn linear(
    config: &ConfigReader<'_>,
    count: usize,
    rule: impl Fn(usize) -> bool,
) -> Result<Vec<bool>, ConfigError> {
    second(config, "layer_types", HYBRID, count, rule)
}

/// Whether each of `count` layers is of the second of two kinds: what the list at a key says, or else a rule.
///
/// # Errors
/// A list of another length, or with another type of layer.
pub(super) fn second(
    config: &ConfigReader<'_>,
    key: &str,
    kinds: [&str; 2],
    count: usize,
    rule: impl Fn(usize) -> bool,
) -> Result<Vec<bool>, ConfigError> {
    Ok(match listed(config, key, count, &kinds)? {
        Some(listed) => listed.iter().map(|&kind| kind == 1).collect(),
        None => (0..count).map(rule).collect(),
    })
}

/// What each layer is, by the list of names that a key holds; nothing if it holds none.
///
/// # Errors
/// A list with another name.
pub(super) fn named<T: Copy>(
    config: &ConfigReader<'_>,
    key: &str,
    kinds: &[(&str, T)],
) -> Result<Option<Vec<T>>, ConfigError> {
    let count = config.get(key).and_then(Value::as_array).map_or(0, Vec::len);
    let names: Vec<&str> = kinds.iter().map(|&(name, _)| name).collect();
    let listed = listed(config, key, count, &names)?;
    Ok(listed.map(|listed| listed.iter().map(|&kind| kinds[kind].1).collect()))
}
