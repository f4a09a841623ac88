//! How a sentence-transformers checkpoint makes embeddings: `modules.json` and what it names.

use std::path::Path;

use serde_json::{Map, Value};

use super::{CheckpointError, files};
use crate::blocks::{Pooling, PoolingMode};

/// What a sentence encoder does around its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// From token vectors to a sentence's.
    pub pooling: Pooling,
    /// Tokens after which the input is cut.
    pub max_input: Option<usize>,
}

/// Reads a folder's modules; nothing if it has none.
pub(super) fn read(folder: &Path, config: &Map<String, Value>) -> Result<Option<Sentence>, CheckpointError> {
    let path = folder.join("modules.json");
    let Some(modules) = files::optional_list(&path)? else { return Ok(None) };
    let mut sentence = Sentence { pooling: Pooling { mode: PoolingMode::Mean, normalise: false }, max_input: None };
    for module in modules {
        let text = |key: &str| module.get(key).and_then(Value::as_str).unwrap_or_default();
        match text("type").rsplit('.').next().unwrap_or_default() {
            "Transformer" => sentence.max_input = max_input(folder, config)?,
            "Pooling" => {
                let name = text("path");
                if name.contains(['/', '\\']) || name == ".." {
                    return Err(files::content(&path, format!("names a folder outside: {name:?}")));
                }
                sentence.pooling.mode = mode(&folder.join(name).join("config.json"))?;
            }
            "Normalize" => sentence.pooling.normalise = true,
            other => {
                return Err(files::content(&path, format!("asks for a module {other:?}, which is not implemented")));
            }
        }
    }
    Ok(Some(sentence))
}

/// The pooling: one flag of `pooling_mode_…` that is set, or the name under `pooling_mode`.
fn mode(path: &Path) -> Result<PoolingMode, CheckpointError> {
    let config = files::read_object(path)?;
    let flags = config.iter().filter(|(_, value)| value.as_bool() == Some(true));
    let mut modes: Vec<&str> = flags.filter_map(|(key, _)| key.strip_prefix("pooling_mode_")).collect();
    modes.extend(config.get("pooling_mode").and_then(Value::as_str));
    match modes[..] {
        ["mean_tokens" | "mean"] => Ok(PoolingMode::Mean),
        ["cls_token" | "cls"] => Ok(PoolingMode::Cls),
        ["max_tokens" | "max"] => Ok(PoolingMode::Max),
        _ => Err(files::content(path, format!("asks for pooling by {modes:?}, which is not implemented"))),
    }
}

/// `max_seq_length`, or the smaller of what the model and its tokenizer allow.
fn max_input(folder: &Path, config: &Map<String, Value>) -> Result<Option<usize>, CheckpointError> {
    let path = folder.join("sentence_bert_config.json");
    let own = files::optional_object(&path)?.unwrap_or_default();
    let tokenizer = files::optional_object(&folder.join("tokenizer_config.json"))?.unwrap_or_default();
    let lowers = |object: &Map<String, Value>| object.get("do_lower_case").and_then(Value::as_bool) == Some(true);
    if lowers(&own) && !lowers(&tokenizer) {
        return Err(files::content(
            &path,
            "`do_lower_case` is true, which is implemented only where the tokenizer's is",
        ));
    }
    if let Some(length) = files::value(&path, &own, "max_seq_length", "a positive integer", length)? {
        return Ok(Some(length));
    }
    let others = [tokenizer.get("model_max_length"), config.get("max_position_embeddings")];
    Ok(others.into_iter().flatten().filter_map(length).min())
}

/// A positive integer below 2³¹: tokenizers without a limit write 10³⁰.
fn length(value: &Value) -> Option<usize> {
    value.as_u64().filter(|n| (1..1 << 31).contains(n)).map(|n| n as usize)
}
