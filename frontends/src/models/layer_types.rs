//! Which layers see only what is near.

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
