//! How a sentence-transformers checkpoint makes embeddings: `modules.json` and what it names.

use std::path::Path;

use castiron_ir::op::UnaryOp;
use serde_json::{Map, Value};

use super::{CheckpointError, files};
use crate::blocks::{Pooling, PoolingLayer, PoolingMode, Size};

/// What a sentence encoder does around its model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sentence {
    /// From token vectors to a sentence's.
    pub pooling: Pooling,
    /// Tokens after which the input is cut.
    pub max_input: Option<usize>,
    /// Folders of modules with tensors, whose names begin with the folder's.
    pub folders: Vec<String>,
}

/// Reads a folder's modules; nothing if it has none.
pub(super) fn read(folder: &Path, config: &Map<String, Value>) -> Result<Option<Sentence>, CheckpointError> {
    let path = folder.join("modules.json");
    let Some(modules) = files::optional_list(&path)? else { return Ok(None) };
    let mut sentence = Sentence::default();
    for module in modules {
        let text = |key: &str| module.get(key).and_then(Value::as_str).unwrap_or_default();
        let kind = text("type").rsplit('.').next().unwrap_or_default();
        let name = text("path");
        if name.contains(['/', '\\']) || name == ".." {
            return Err(files::content(&path, format!("names a folder outside: {name:?}")));
        }
        match kind {
            "Transformer" => sentence.max_input = max_input(folder, config)?,
            "Pooling" => sentence.pooling.modes = modes(&folder.join(name).join("config.json"))?,
            "Dense" if !sentence.pooling.normalise => {
                sentence.pooling.layers.push(dense(&folder.join(name).join("config.json"), name)?);
                sentence.folders.push(name.to_owned());
            }
            "Normalize" => sentence.pooling.normalise = true,
            _ => return Err(files::content(&path, format!("asks for a module {kind:?}, which is not implemented"))),
        }
    }
    Ok(Some(sentence))
}

/// The poolings: the flags of `pooling_mode_…` that are set, or the names under `pooling_mode`, in the order in
/// which sentence-transformers joins their results.
fn modes(path: &Path) -> Result<Vec<PoolingMode>, CheckpointError> {
    const KNOWN: [(&str, PoolingMode); 6] = [
        ("cls", PoolingMode::Cls),
        ("max", PoolingMode::Max),
        ("mean", PoolingMode::Mean),
        ("mean_sqrt_len", PoolingMode::MeanSqrtLength),
        ("weightedmean", PoolingMode::WeightedMean),
        ("last", PoolingMode::Last),
    ];
    let config = files::read_object(path)?;
    let flags = config.iter().filter(|(_, value)| value.as_bool() == Some(true));
    let mut names: Vec<&str> = flags.filter_map(|(key, _)| key.strip_prefix("pooling_mode_")).collect();
    match config.get("pooling_mode") {
        Some(Value::Array(list)) => names.extend(list.iter().filter_map(Value::as_str)),
        value => names.extend(value.and_then(Value::as_str)),
    }
    let plain = |name: &str| name.trim_end_matches("_tokens").trim_end_matches("_token").replace("lasttoken", "last");
    let names: Vec<String> = names.into_iter().map(plain).collect();
    let unknown = names.iter().find(|name| KNOWN.iter().all(|(known, _)| known != name));
    if unknown.is_some() || names.is_empty() {
        return Err(files::content(path, format!("asks for pooling by {names:?}, which is not implemented")));
    }
    Ok(KNOWN.iter().filter(|(known, _)| names.iter().any(|name| name == known)).map(|&(_, mode)| mode).collect())
}

/// A dense layer after the pooling, whose tensors stand in a folder of that name.
fn dense(path: &Path, name: &str) -> Result<PoolingLayer, CheckpointError> {
    let config = files::read_object(path)?;
    let width = files::value(path, &config, "out_features", "a positive integer", length)?;
    let width = width.ok_or_else(|| files::content(path, "lacks `out_features`"))?;
    let bias = files::value(path, &config, "bias", "true or false", Value::as_bool)?.unwrap_or(true);
    for key in ["module_input_name", "module_output_name"] {
        let is_usual = |value: &Value| value.as_str().filter(|&name| name == "sentence_embedding").map(|_| ());
        files::value(path, &config, key, "sentence_embedding", is_usual)?;
    }
    let function = |value: &Value| match value.as_str()?.rsplit('.').next()? {
        "Identity" => Some(None),
        "Tanh" => Some(Some(UnaryOp::Tanh)),
        "ReLU" => Some(Some(UnaryOp::Relu)),
        "GELU" => Some(Some(UnaryOp::Gelu)),
        "SiLU" => Some(Some(UnaryOp::Silu)),
        "Sigmoid" => Some(Some(UnaryOp::Sigmoid)),
        _ => None,
    };
    let known = "torch's Identity, Tanh, ReLU, GELU, SiLU or Sigmoid";
    let activation = files::value(path, &config, "activation_function", known, function)?;
    Ok(PoolingLayer {
        name: format!("{name}.linear"),
        width: Size::new(width, format!("out_features of {name}")),
        bias,
        activation: activation.unwrap_or(Some(UnaryOp::Tanh)),
    })
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
