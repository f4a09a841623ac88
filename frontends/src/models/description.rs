//! What configs say of labels and of generation.

use castiron_ir::Generation;
use serde_json::{Map, Value};

use super::family::Head;
use crate::config::{ConfigError, ConfigReader};

/// Most labels that a classifier has.
const MOST_LABELS: usize = 1 << 20;

/// Names of a head's outputs, by number.
pub(super) fn labels(config: &ConfigReader<'_>, head: Head) -> Result<Vec<String>, ConfigError> {
    let count = match head {
        Head::Span => return Ok(vec!["start".to_owned(), "end".to_owned()]),
        Head::Sequence | Head::Tokens => config.size("num_labels")?,
        _ => return Ok(Vec::new()),
    };
    let Some(value) = config.get("id2label") else {
        let count = count.unwrap_or(2).min(MOST_LABELS);
        return Ok((0..count).map(|i| format!("LABEL_{i}")).collect());
    };
    let invalid = || config.invalid("id2label", "an object of names by number, from 0");
    let names = value.as_object().ok_or_else(invalid)?;
    (0..names.len())
        .map(|i| names.get(&i.to_string()).and_then(Value::as_str).map(str::to_owned).ok_or_else(invalid))
        .collect()
}

/// Defaults of generation: `generation_config.json`, and `config.json` for what it lacks.
pub(super) fn generation(
    config: &ConfigReader<'_>,
    generation: Option<&Map<String, Value>>,
) -> Result<Generation, ConfigError> {
    let own = generation.map(|g| ConfigReader::nested("generation_config", g));
    let tokens = |key: &str| match own.as_ref().map_or(Ok(vec![]), |own| token_list(own, key))? {
        tokens if tokens.is_empty() => token_list(config, key),
        tokens => Ok(tokens),
    };
    let first = |key: &str| Ok::<_, ConfigError>(tokens(key)?.first().copied());
    let number = |key: &str| own.as_ref().map_or(Ok(None), |own| own.positive(key));
    Ok(Generation {
        bos: first("bos_token_id")?,
        eos: tokens("eos_token_id")?,
        pad: first("pad_token_id")?,
        do_sample: own.as_ref().map_or(Ok(false), |own| own.flag("do_sample", false))?,
        temperature: number("temperature")?.map(|x| x as f32),
        top_k: number("top_k")?.map(|x| x as u32),
        top_p: number("top_p")?.map(|x| x as f32),
        repetition_penalty: number("repetition_penalty")?.map(|x| x as f32),
    })
}

/// A token or a list of tokens; nothing if absent or negative, as old configs write "none".
fn token_list(config: &ConfigReader<'_>, key: &str) -> Result<Vec<u32>, ConfigError> {
    let invalid = || config.invalid(key, "a token number, or a list of them");
    let token = |v: &Value| v.as_i64().and_then(|t| if t < 0 { Some(None) } else { u32::try_from(t).ok().map(Some) });
    match config.get(key) {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) => {
            let tokens = list.iter().map(token).collect::<Option<Vec<_>>>().ok_or_else(invalid)?;
            Ok(tokens.into_iter().flatten().collect())
        }
        Some(value) => Ok(token(value).ok_or_else(invalid)?.into_iter().collect()),
    }
}
