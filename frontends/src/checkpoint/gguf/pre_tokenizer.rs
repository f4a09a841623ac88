//! How byte-pair tokenizers cut a text into words, by llama.cpp's name for it (`llama-vocab.cpp`).

use serde_json::{Value, json};

use crate::checkpoint::tokenizer_json::{byte_level, sequence, split};

/// How a byte-pair tokenizer prepares texts.
pub(super) struct PreTokenizer {
    pub(super) normalizer: Value,
    pub(super) pre_tokenizer: Value,
    /// Whether a word that is a token needs no merges.
    pub(super) ignore_merges: bool,
    /// Whether texts start with the start token where the file does not say.
    pub(super) add_bos: bool,
}

/// GPT-4's expression, with groups of at most three digits.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The same with single digits.
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Mistral's: words also end where lower case turns to upper.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Names that are known, for people.
pub(super) const KNOWN: &str = "default, gpt-2, smollm, starcoder, refact, llama-bpe, qwen2 and tekken";

/// Finds a way of cutting by name. Files of the time before the name existed mean GPT-2's.
pub(super) fn find(name: &str) -> Option<PreTokenizer> {
    let plain =
        |pre_tokenizer| PreTokenizer { normalizer: Value::Null, pre_tokenizer, ignore_merges: false, add_bos: false };
    let by = |expression| sequence("pretokenizers", vec![split(expression), byte_level(false, false)]);
    Some(match name {
        "default" | "gpt-2" => plain(byte_level(true, false)),
        "smollm" | "starcoder" | "refact" => {
            let digits = json!({"type": "Digits", "individual_digits": true});
            plain(sequence("pretokenizers", vec![digits, byte_level(true, false)]))
        }
        "llama-bpe" | "llama3" | "llama-v3" => PreTokenizer { ignore_merges: true, add_bos: true, ..plain(by(LLAMA3)) },
        "qwen2" => PreTokenizer { normalizer: json!({"type": "NFC"}), ..plain(by(QWEN2)) },
        "tekken" => PreTokenizer { ignore_merges: true, add_bos: true, ..plain(by(TEKKEN)) },
        _ => return None,
    })
}
