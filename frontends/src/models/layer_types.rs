//! What kind each layer is, and which see only what is near.

use serde_json::Value;

use crate::config::{ConfigError, ConfigReader};

/// Names of the types.
pub(super) const KINDS: [&str; 2] = ["full_attention", "sliding_attention"];

/// Whether each of `count` layers slides a window over the tokens: what `layer_types` says, or else the rule
/// that the family had before configs said it.
///
/// # Errors
/// A list of another length, or with another type of layer.
pub(super) fn sliding(
    config: &ConfigReader<'_>,
    count: usize,
    rule: impl Fn(usize) -> bool,
) -> Result<Vec<bool>, ConfigError> {
    let Some(list) = config.get("layer_types") else { return Ok((0..count).map(rule).collect()) };
    let is_sliding = |kind: &Value| match kind.as_str() {
        Some(name) => KINDS.iter().position(|&kind| kind == name).map(|at| at == 1),
        None => None,
    };
    let types: Option<Vec<bool>> = list.as_array().and_then(|list| list.iter().map(is_sliding).collect());
    let expected = format!("a list of {count} out of {KINDS:?}");
    types.filter(|types| types.len() == count).ok_or_else(|| config.invalid("layer_types", &expected))
}

/// The kinds of `count` layers that a list of names says, or of all that it has; nothing without a list.
///
/// # Errors
/// A list of another length, or with another name.
pub(super) fn named<T: Copy>(
    config: &ConfigReader<'_>,
    key: &str,
    count: Option<usize>,
    kinds: &[(&str, T)],
) -> Result<Option<Vec<T>>, ConfigError> {
    let Some(list) = config.get(key) else { return Ok(None) };
    let kind = |name: &Value| kinds.iter().find(|(known, _)| name.as_str() == Some(known)).map(|&(_, kind)| kind);
    let named: Option<Vec<T>> = list.as_array().and_then(|list| list.iter().map(kind).collect());
    let names: Vec<&str> = kinds.iter().map(|(name, _)| *name).collect();
    let expected =
        count.map_or_else(|| format!("a list out of {names:?}"), |n| format!("a list of {n} out of {names:?}"));
    let named = named.filter(|named| count.is_none_or(|count| named.len() == count));
    named.map(Some).ok_or_else(|| config.invalid(key, &expected))
}
