//! Which layers see only what is near.

use serde_json::Value;

use crate::config::{ConfigError, ConfigReader};

/// Names of the types.
pub(super) const KINDS: [&str; 2] = ["full_attention", "sliding_attention"];

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
    Ok(match listed(config, "layer_types", count, &KINDS)? {
        Some(listed) => listed.iter().map(|&kind| kind == 1).collect(),
        None => (0..count).map(rule).collect(),
    })
}
