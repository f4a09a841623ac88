//! How a checkpoint folder's text becomes tokens: tokenizer, chat template, special tokens.

use std::collections::BTreeMap;
use std::path::Path;

use castiron_ir::TextAssets;
use serde_json::{Map, Value};

use super::{CheckpointError, files, slow_tokenizer};

/// Reads what a folder says of texts; each of its files may be absent.
pub(super) fn read(folder: &Path, config: &Map<String, Value>) -> Result<TextAssets, CheckpointError> {
    let settings_path = folder.join("tokenizer_config.json");
    let settings = files::optional_object(&settings_path)?.unwrap_or_default();
    let mut special_tokens = BTreeMap::new();
    // The newer file has the last word.
    for name in ["special_tokens_map.json", "tokenizer_config.json"] {
        let path = folder.join(name);
        collect_special_tokens(&path, &files::optional_object(&path)?.unwrap_or_default(), &mut special_tokens)?;
    }
    let tokenizer = match files::optional(&folder.join("tokenizer.json"))? {
        Some(tokenizer) => tokenizer,
        None => slow_tokenizer::build(folder, &settings, &special_tokens, config)?.unwrap_or_default(),
    };
    let chat_template = chat_template(folder, &settings_path, &settings)?;
    Ok(TextAssets { tokenizer, chat_template, special_tokens })
}

/// Adds the tokens by role, each a text or an object with the text as its `content`.
fn collect_special_tokens(
    path: &Path,
    object: &Map<String, Value>,
    tokens: &mut BTreeMap<String, String>,
) -> Result<(), CheckpointError> {
    let is_role = |key: &str| key.ends_with("_token") && !key.starts_with("add_");
    for key in object.keys().filter(|key| is_role(key)) {
        let content = |v: &Value| v.get("content").unwrap_or(v).as_str().map(str::to_owned);
        if let Some(token) = files::value(path, object, key, "a token", content)? {
            tokens.insert(key.clone(), token);
        }
    }
    Ok(())
}

/// The template for conversations: its own file, or a key of the tokenizer's settings. Of several by
/// name, the one called `default`.
fn chat_template(folder: &Path, path: &Path, settings: &Map<String, Value>) -> Result<Option<String>, CheckpointError> {
    if let Some(template) = files::optional_text(&folder.join("chat_template.jinja"))? {
        return Ok(Some(template));
    }
    let own_path = folder.join("chat_template.json");
    let own = files::optional_object(&own_path)?.unwrap_or_default();
    let (path, object) = if own.contains_key("chat_template") { (own_path.as_path(), &own) } else { (path, settings) };
    let expected = "a template or a list of templates with `name` and `template`";
    Ok(files::value(path, object, "chat_template", expected, |value| match value {
        Value::String(template) => Some(Some(template.clone())),
        Value::Array(list) => named_templates(list).map(|templates| match templates[..] {
            [(_, only)] => Some(only.to_owned()),
            _ => templates.iter().find(|(name, _)| *name == "default").map(|&(_, template)| template.to_owned()),
        }),
        _ => None,
    })?
    .flatten())
}

fn named_templates(list: &[Value]) -> Option<Vec<(&str, &str)>> {
    list.iter().map(|entry| entry.get("name")?.as_str().zip(entry.get("template")?.as_str())).collect()
}
