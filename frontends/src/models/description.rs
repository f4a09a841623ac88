//! What configs say of labels and of generation.

use castiron_ir::{Generation, Rules};
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

/// Defaults of generation: `generation_config.json`, and `config.json` where that is not there. Only the tokens
/// with a role are taken from `config.json` also where the other lacks them.
pub(super) fn generation(
    config: &ConfigReader<'_>,
    generation: Option<&Map<String, Value>>,
) -> Result<Generation, ConfigError> {
    let own = generation.map(|g| ConfigReader::nested("generation_config", g));
    let settings = own.as_ref().unwrap_or(config);
    config.disregard(OF_GENERATION);
    let tokens = |key: &str| match token_list(settings, key)? {
        tokens if tokens.is_empty() => token_list(config, key),
        tokens => Ok(tokens),
    };
    let first = |key: &str| Ok::<_, ConfigError>(tokens(key)?.first().copied());
    // Older configs of decoders sample by default settings that their models were not meant for.
    let number = |key: &str| own.as_ref().map_or(Ok(None), |own| own.positive(key));
    let bos = first("bos_token_id")?;
    let own_start = token_list(settings, "decoder_start_token_id")?.first().copied().or(bos);
    refuse(settings)?;
    Ok(Generation {
        bos,
        eos: tokens("eos_token_id")?,
        pad: first("pad_token_id")?,
        decoder_start: own_start.or(first("decoder_start_token_id")?),
        do_sample: own.as_ref().map_or(Ok(false), |own| own.flag("do_sample", false))?,
        temperature: number("temperature")?.map(|x| x as f32),
        top_k: number("top_k")?.map(|x| x as u32),
        top_p: number("top_p")?.map(|x| x as f32),
        repetition_penalty: number("repetition_penalty")?.map(|x| x as f32),
        max_length: settings.size_or_zero("max_length")?,
        max_new_tokens: settings.size_or_zero("max_new_tokens")?,
        min_new_tokens: settings.size_or_zero("min_new_tokens")?.unwrap_or(0),
        rules: rules(settings)?,
    })
}

/// Keys that say how texts are generated, which no builder reads.
const OF_GENERATION: &[&str] = &[
    "bad_words_ids",
    "begin_suppress_tokens",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "min_length",
    "min_new_tokens",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_scores",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict_in_generate",
    "suppress_tokens",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
];

/// What can follow a text, whatever the scores.
fn rules(settings: &ConfigReader<'_>) -> Result<Rules, ConfigError> {
    let count = |key: &str| Ok::<_, ConfigError>(settings.size_or_zero(key)?.unwrap_or(0));
    let bad_words = match settings.get("bad_words_ids") {
        None => vec![],
        Some(Value::Array(words)) => words
            .iter()
            .map(tokens_of)
            .collect::<Option<_>>()
            .ok_or_else(|| settings.invalid("bad_words_ids", "a list of lists of token numbers"))?,
        Some(_) => return Err(settings.invalid("bad_words_ids", "a list of lists of token numbers")),
    };
    Ok(Rules {
        min_length: count("min_length")?,
        forced_bos: token_list(settings, "forced_bos_token_id")?.first().copied(),
        forced_eos: token_list(settings, "forced_eos_token_id")?,
        bad_words,
        no_repeat_ngram: count("no_repeat_ngram_size")?,
        encoder_no_repeat_ngram: count("encoder_no_repeat_ngram_size")?,
        suppress: token_list(settings, "suppress_tokens")?,
        begin_suppress: token_list(settings, "begin_suppress_tokens")?,
    })
}

/// Refuses what would change the choice of the best token and is not implemented.
fn refuse(settings: &ConfigReader<'_>) -> Result<(), ConfigError> {
    for key in ["constraints", "exponential_decay_length_penalty", "force_words_ids", "penalty_alpha", "sequence_bias"]
    {
        if settings.get(key).is_some() {
            return Err(settings.invalid(key, "none, as it is not implemented"));
        }
    }
    for key in ["encoder_repetition_penalty", "guidance_scale"] {
        if settings.number(key)?.is_some_and(|factor| factor != 1.0) {
            return Err(settings.invalid(key, "1, as others are not implemented"));
        }
    }
    Ok(())
}

/// A list of token numbers.
fn tokens_of(value: &Value) -> Option<Vec<u32>> {
    value.as_array()?.iter().map(|token| token.as_u64().and_then(|t| u32::try_from(t).ok())).collect()
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
