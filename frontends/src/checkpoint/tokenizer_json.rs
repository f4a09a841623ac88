//! Pieces of `tokenizer.json`, the format of the `tokenizers` library.

use serde_json::{Map, Value, json};

/// A tokenizer, part by part; parts that are `null` are left out.
pub(super) struct Document {
    pub(super) added: Vec<Added>,
    pub(super) normalizer: Value,
    pub(super) pre_tokenizer: Value,
    pub(super) post_processor: Value,
    pub(super) decoder: Value,
    pub(super) model: Value,
}

/// A token that is found in a text before anything else is done to it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Added {
    pub(super) id: u32,
    pub(super) content: String,
    /// Whether decoding may leave it out.
    pub(super) special: bool,
}

impl Document {
    /// The file's bytes.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.added.sort_by_key(|token| token.id);
        let added: Vec<Value> = self.added.iter().map(Added::json).collect();
        let document = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": self.normalizer,
            "pre_tokenizer": self.pre_tokenizer,
            "post_processor": self.post_processor,
            "decoder": self.decoder,
            "model": self.model,
        });
        document.to_string().into_bytes()
    }
}

impl Added {
    fn json(&self) -> Value {
        json!({
            "id": self.id,
            "content": self.content,
            "single_word": false,
            "lstrip": false,
            "rstrip": false,
            "normalized": false,
            "special": self.special,
        })
    }
}

/// A special token of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) id: u32,
    pub(super) content: String,
}

/// What is put around texts.
#[derive(Debug, Default)]
pub(super) struct Frame {
    pub(super) start: Option<Token>,
    pub(super) end: Option<Token>,
    /// Whether a pair's second text starts with the start token again.
    pub(super) restart: bool,
}

impl Frame {
    /// A `TemplateProcessing`; `null` for an empty frame.
    pub(super) fn template(&self) -> Value {
        if self.start.is_none() && self.end.is_none() {
            return Value::Null;
        }
        let special = |token: &Token, kind: u8| json!({"SpecialToken": {"id": token.content, "type_id": kind}});
        let text = |name: &str, kind: u8, start: bool| {
            let start = self.start.iter().filter(|_| start).map(|token| special(token, kind));
            let text = json!({"Sequence": {"id": name, "type_id": kind}});
            start.chain([text]).chain(self.end.iter().map(|token| special(token, kind))).collect::<Vec<_>>()
        };
        let (single, second) = (text("A", 0, true), text("B", 1, self.restart));
        let pair: Vec<Value> = single.iter().cloned().chain(second).collect();
        let tokens = self.start.iter().chain(&self.end).map(|token| {
            let value = json!({"id": token.content, "ids": [token.id], "tokens": [token.content]});
            (token.content.clone(), value)
        });
        let tokens: Map<String, Value> = tokens.collect();
        json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens})
    }
}

/// Bytes as characters that can be seen. With `split`, words are told apart by GPT-2's expression.
pub(super) fn byte_level(split: bool, add_prefix_space: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": true, "use_regex": split})
}

/// Pieces that an expression matches, and the pieces between them.
pub(super) fn split(expression: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": false})
}

/// One after the other.
pub(super) fn sequence(parts: &str, list: Vec<Value>) -> Value {
    let mut sequence = Map::from_iter([("type".to_owned(), "Sequence".into())]);
    sequence.insert(parts.to_owned(), list.into());
    sequence.into()
}

/// Byte-pair encoding over visible bytes.
pub(super) fn byte_pairs(vocab: Map<String, Value>, merges: Vec<Value>, ignore_merges: bool) -> Value {
    json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": null,
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": false,
        "byte_fallback": false,
        "ignore_merges": ignore_merges,
        "vocab": vocab,
        "merges": merges,
    })
}
