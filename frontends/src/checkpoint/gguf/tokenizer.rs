//! The tokenizer in a GGUF file's metadata, as `tokenizer.json`.
//!
//! `gpt2` is byte-pair encoding over bytes, `llama` is SentencePiece's byte-pair encoding over
//! characters, with bytes for what is in no token. SentencePiece merges the neighbours that make the
//! token of the best score, so that its merges are all splits of a token into two, in order of score.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use castiron_ir::TextAssets;
use serde_json::{Map, Value, json};

use super::metadata::Keys;
use super::{GgufError, Header, pre_tokenizer};
use crate::checkpoint::tokenizer_json::{Added, Document, Frame, Token, byte_level, byte_pairs, sequence};

const TOKENS: &str = "tokenizer.ggml.tokens";
const MERGES: &str = "tokenizer.ggml.merges";

/// Roles of tokens in transformers' words, with llama.cpp's keys.
const ROLES: [(&str, &str); 7] = [
    ("bos_token", "tokenizer.ggml.bos_token_id"),
    ("eos_token", "tokenizer.ggml.eos_token_id"),
    ("unk_token", "tokenizer.ggml.unknown_token_id"),
    ("pad_token", "tokenizer.ggml.padding_token_id"),
    ("sep_token", "tokenizer.ggml.seperator_token_id"),
    ("cls_token", "tokenizer.ggml.cls_token_id"),
    ("mask_token", "tokenizer.ggml.mask_token_id"),
];

/// Tokens that end a text: of the text, of a turn, of a message.
const ENDS: [&str; 3] = ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];

/// Types of tokens, by their numbers in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

struct Vocabulary<'a> {
    tokens: Vec<&'a str>,
    kinds: Vec<Kind>,
}

/// What `generation_config.json` would say.
pub(in crate::checkpoint) fn generation(header: &Header, bytes: &[u8]) -> Result<Map<String, Value>, GgufError> {
    let keys = Keys::new(&header.metadata, bytes);
    let mut ends = Vec::new();
    for key in ENDS {
        ends.extend(keys.token(key)?.filter(|end| !ends.contains(end)));
    }
    let mut generation = Map::new();
    for (name, key) in [("bos_token_id", ROLES[0].1), ("pad_token_id", ROLES[3].1)] {
        generation.extend(keys.token(key)?.map(|id| (name.to_owned(), id.into())));
    }
    if !ends.is_empty() {
        generation.insert("eos_token_id".to_owned(), ends.into());
    }
    Ok(generation)
}

/// Tokenizer, chat template and special tokens.
pub(in crate::checkpoint) fn text_assets(header: &Header, bytes: &[u8]) -> Result<TextAssets, GgufError> {
    let keys = Keys::new(&header.metadata, bytes);
    let chat_template = keys.text("tokenizer.chat_template")?.map(str::to_owned);
    let Some(model) = keys.text("tokenizer.ggml.model")?.filter(|model| !matches!(*model, "none" | "no_vocab")) else {
        return Ok(TextAssets { chat_template, ..TextAssets::default() });
    };
    let vocabulary = Vocabulary::read(&keys)?;
    let document = match model {
        "gpt2" => byte_level_bpe(&keys, &vocabulary)?,
        "llama" => sentence_piece(&keys, &vocabulary)?,
        other => {
            let problem = format!("is `{other}`, expected gpt2 or llama");
            return Err(GgufError::key("tokenizer.ggml.model", problem));
        }
    };
    let mut special_tokens = BTreeMap::new();
    for (role, key) in ROLES {
        if let Some(token) = vocabulary.token(&keys, key)? {
            special_tokens.insert(role.to_owned(), token.content);
        }
    }
    Ok(TextAssets { tokenizer: document.into_bytes(), chat_template, special_tokens })
}

impl<'a> Vocabulary<'a> {
    fn read(keys: &Keys<'a>) -> Result<Vocabulary<'a>, GgufError> {
        let tokens = keys.texts(TOKENS)?.ok_or_else(|| GgufError::key(TOKENS, "is missing"))?;
        if u32::try_from(tokens.len()).is_err() {
            return Err(GgufError::key(TOKENS, "holds more tokens than there are numbers"));
        }
        let key = "tokenizer.ggml.token_type";
        let kinds = match keys.integers(key)? {
            None => vec![Kind::Normal; tokens.len()],
            Some(kinds) => kinds.into_iter().map(kind).collect::<Result<_, _>>()?,
        };
        if kinds.len() != tokens.len() {
            return Err(GgufError::key(key, format!("has {} entries for {} tokens", kinds.len(), tokens.len())));
        }
        Ok(Vocabulary { tokens, kinds })
    }

    /// The token whose number stands under a key.
    fn token(&self, keys: &Keys<'_>, key: &str) -> Result<Option<Token>, GgufError> {
        let Some(id) = keys.token(key)? else { return Ok(None) };
        let content = self.tokens.get(id as usize);
        let beyond = || GgufError::key(key, format!("is {id}, there are {} tokens", self.tokens.len()));
        Ok(Some(Token { id, content: (*content.ok_or_else(beyond)?).to_owned() }))
    }

    fn numbered(&self) -> impl Iterator<Item = (u32, &'a str, Kind)> {
        (0..).zip(self.tokens.iter().copied()).zip(&self.kinds).map(|((id, token), &kind)| (id, token, kind))
    }

    fn map(&self) -> Map<String, Value> {
        self.numbered().map(|(id, token, _)| (token.to_owned(), id.into())).collect()
    }

    /// Tokens that are found before anything else.
    fn added(&self) -> Vec<Added> {
        let added = self.numbered().filter(|(_, content, _)| !content.is_empty());
        let added = added.filter_map(|(id, content, kind)| {
            let special = match kind {
                Kind::Control | Kind::Unknown => true,
                Kind::UserDefined => false,
                Kind::Normal | Kind::Unused | Kind::Byte => return None,
            };
            Some(Added { id, content: content.to_owned(), special })
        });
        added.collect()
    }

    /// Start and end tokens around a text, where the file asks for them, or else `by_default`.
    fn frame(&self, keys: &Keys<'_>, by_default: bool) -> Result<Frame, GgufError> {
        let part = |flag: &str, by_default: bool, key: &str| {
            if !keys.flag(flag)?.unwrap_or(by_default) {
                return Ok(None);
            }
            let token = self.token(keys, key)?;
            token.map(Some).ok_or_else(|| GgufError::key(key, format!("is missing, and `{flag}` asks for it")))
        };
        Ok(Frame {
            start: part("tokenizer.ggml.add_bos_token", by_default, ROLES[0].1)?,
            end: part("tokenizer.ggml.add_eos_token", false, ROLES[1].1)?,
            restart: true,
        })
    }
}

fn kind(number: i64) -> Result<Kind, GgufError> {
    Ok(match number {
        0 | 1 => Kind::Normal,
        2 => Kind::Unknown,
        3 => Kind::Control,
        4 => Kind::UserDefined,
        5 => Kind::Unused,
        6 => Kind::Byte,
        _ => return Err(GgufError::key("tokenizer.ggml.token_type", format!("holds the unknown type {number}"))),
    })
}

fn byte_level_bpe(keys: &Keys<'_>, vocabulary: &Vocabulary<'_>) -> Result<Document, GgufError> {
    let key = "tokenizer.ggml.pre";
    let name = keys.text(key)?.unwrap_or("default");
    let unknown = || GgufError::key(key, format!("is `{name}`, known are {}", pre_tokenizer::KNOWN));
    let pre = pre_tokenizer::find(name).ok_or_else(unknown)?;
    let vocab = vocabulary.map();
    let mut merges = Vec::new();
    for merge in keys.texts(MERGES)?.unwrap_or_default() {
        let pair = pair(merge).filter(|(left, right)| {
            [*left, *right, &format!("{left}{right}")].into_iter().all(|piece| vocab.contains_key(piece))
        });
        let invalid = || GgufError::key(MERGES, format!("holds {merge:?}, which does not merge two tokens to a third"));
        let (left, right) = pair.ok_or_else(invalid)?;
        merges.push(json!([left, right]));
    }
    Ok(Document {
        added: vocabulary.added(),
        normalizer: pre.normalizer,
        pre_tokenizer: pre.pre_tokenizer,
        post_processor: vocabulary.frame(keys, pre.add_bos)?.template(),
        decoder: byte_level(true, true),
        model: byte_pairs(vocab, merges, pre.ignore_merges),
    })
}

/// The parts of a merge; the first may begin with the space that parts them.
fn pair(merge: &str) -> Option<(&str, &str)> {
    let from = merge.chars().next()?.len_utf8();
    let at = from + merge[from..].find(' ')?;
    Some((&merge[..at], &merge[at + 1..]))
}

fn sentence_piece(keys: &Keys<'_>, vocabulary: &Vocabulary<'_>) -> Result<Document, GgufError> {
    let key = "tokenizer.ggml.scores";
    let scores = keys.numbers(key)?.ok_or_else(|| GgufError::key(key, "is missing"))?;
    if scores.len() != vocabulary.tokens.len() {
        let (scores, tokens) = (scores.len(), vocabulary.tokens.len());
        return Err(GgufError::key(key, format!("has {scores} entries for {tokens} tokens")));
    }
    let unknown = vocabulary.numbered().find(|(_, _, kind)| *kind == Kind::Unknown).map(|(_, token, _)| token);
    let prefix = keys.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let mark = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let unmark = json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "});
    let mut normalizers = vec![mark];
    let mut decoders = vec![unmark, json!({"type": "ByteFallback"}), json!({"type": "Fuse"})];
    if prefix {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": "▁"}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let model = json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": unknown,
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": true,
        "byte_fallback": vocabulary.kinds.contains(&Kind::Byte),
        "ignore_merges": false,
        "vocab": vocabulary.map(),
        "merges": merges_by_score(vocabulary, &scores),
    });
    Ok(Document {
        added: vocabulary.added(),
        normalizer: sequence("normalizers", normalizers),
        pre_tokenizer: Value::Null,
        post_processor: vocabulary.frame(keys, true)?.template(),
        decoder: sequence("decoders", decoders),
        model,
    })
}

/// Every split of a token into two tokens, the best token first; of one token's, the split with the
/// longest left part first.
fn merges_by_score(vocabulary: &Vocabulary<'_>, scores: &[f32]) -> Vec<Value> {
    let plain = |kind| matches!(kind, Kind::Normal | Kind::UserDefined | Kind::Unused);
    let tokens = vocabulary.numbered().filter(|&(_, _, kind)| plain(kind));
    let ids: HashMap<&str, u32> = tokens.map(|(id, token, _)| (token, id)).collect();
    let mut merges = Vec::new();
    for (&token, &id) in &ids {
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if ids.contains_key(left) && ids.contains_key(right) {
                merges.push((id, left, right));
            }
        }
    }
    merges.sort_by(|a, b| {
        let score = |id: u32| scores[id as usize];
        score(b.0).total_cmp(&score(a.0)).then_with(|| (a.0, Reverse(a.1.len())).cmp(&(b.0, Reverse(b.1.len()))))
    });
    merges.into_iter().map(|(_, left, right)| json!([left, right])).collect()
}
