//! `tokenizer.json` of folders that lack it: BERT's `vocab.txt`, and GPT-2's `vocab.json` with
//! `merges.txt` (transformers `convert_slow_tokenizer.py`).

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::tokenizer_json::{Added, Document, Frame, Token, byte_level, byte_pairs};
use super::{CheckpointError, files};

/// Model types whose `vocab.txt` is BERT's.
const WORD_PIECE: [&str; 6] = ["bert", "distilbert", "electra", "lxmert", "mobilebert", "squeezebert"];

/// What the folder says of its tokenizer.
struct Settings<'a> {
    path: &'a Path,
    settings: &'a Map<String, Value>,
    special: &'a BTreeMap<String, String>,
}

impl Settings<'_> {
    fn flag(&self, key: &str) -> Result<Option<bool>, CheckpointError> {
        files::value(self.path, self.settings, key, "true or false", Value::as_bool)
    }

    fn token(&self, role: &str, default: &str) -> String {
        self.special.get(role).map_or(default, String::as_str).to_owned()
    }
}

/// The file's bytes; nothing if the folder holds no vocabulary.
pub(super) fn build(
    folder: &Path,
    settings: &Map<String, Value>,
    special: &BTreeMap<String, String>,
    config: &Map<String, Value>,
) -> Result<Option<Vec<u8>>, CheckpointError> {
    let path = folder.join("tokenizer_config.json");
    let class = files::value(&path, settings, "tokenizer_class", "a name", |v| v.as_str().map(str::to_owned))?;
    let class = class.as_deref().map(|class| class.trim_end_matches("Fast").trim_end_matches("Tokenizer"));
    let class = class.filter(|class| *class != "PreTrained").or(config.get("model_type").and_then(Value::as_str));
    let class = class.unwrap_or_default().to_lowercase();
    let settings = Settings { path: &path, settings, special };
    let (words, pieces) = (folder.join("vocab.txt"), folder.join("vocab.json"));
    let merges = folder.join("merges.txt");
    if let Some(text) = files::optional_text(&words)?.filter(|_| WORD_PIECE.contains(&class.as_str())) {
        return word_piece(&words, &text, &settings).map(Some);
    }
    match (files::optional_text(&merges)?, pieces.is_file()) {
        (Some(text), true) if class == "gpt2" => {
            let vocab = files::read_object(&pieces)?;
            byte_pair(folder, &pieces, vocab, (&merges, &text), &settings).map(Some)
        }
        (Some(_), true) => Err(unknown(&pieces, &class)),
        _ if words.is_file() => Err(unknown(&words, &class)),
        _ => Ok(None),
    }
}

fn unknown(path: &Path, class: &str) -> CheckpointError {
    let problem = "is a vocabulary without tokenizer.json, which is read for BERT and GPT-2 only";
    files::content(path, format!("{problem}, not for `{class}`"))
}

fn id(path: &Path, vocab: &Map<String, Value>, token: &str) -> Result<u32, CheckpointError> {
    let id = vocab.get(token).and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
    id.ok_or_else(|| files::content(path, format!("holds no token {token:?}")))
}

fn word_piece(path: &Path, text: &str, settings: &Settings<'_>) -> Result<Vec<u8>, CheckpointError> {
    let vocab: Map<String, Value> = text.lines().enumerate().map(|(i, line)| (line.to_owned(), i.into())).collect();
    let roles = [
        ("unk_token", "[UNK]"),
        ("sep_token", "[SEP]"),
        ("pad_token", "[PAD]"),
        ("cls_token", "[CLS]"),
        ("mask_token", "[MASK]"),
    ];
    let [unk, sep, pad, cls, mask] = roles.map(|(role, default)| settings.token(role, default));
    let token = |content: &String| Ok(Token { id: id(path, &vocab, content)?, content: content.clone() });
    let frame = Frame { start: Some(token(&cls)?), end: Some(token(&sep)?), restart: false };
    let known = |content: &&String| vocab.contains_key(content.as_str());
    let added = [&unk, &sep, &pad, &cls, &mask]
        .into_iter()
        .filter(known)
        .map(|content| Ok(Added { id: id(path, &vocab, content)?, content: content.clone(), special: true }));
    let added = added.collect::<Result<_, _>>()?;
    let normalizer = json!({
        "type": "BertNormalizer",
        "clean_text": true,
        "handle_chinese_chars": settings.flag("tokenize_chinese_chars")?.unwrap_or(true),
        "strip_accents": settings.flag("strip_accents")?,
        "lowercase": settings.flag("do_lower_case")?.unwrap_or(true),
    });
    let model = json!({
        "type": "WordPiece",
        "unk_token": unk,
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": vocab,
    });
    let document = Document {
        added,
        normalizer,
        pre_tokenizer: json!({"type": "BertPreTokenizer"}),
        post_processor: frame.template(),
        decoder: json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
        model,
    };
    Ok(document.into_bytes())
}

fn byte_pair(
    folder: &Path,
    path: &Path,
    vocab: Map<String, Value>,
    (merges_path, merges): (&Path, &str),
    settings: &Settings<'_>,
) -> Result<Vec<u8>, CheckpointError> {
    let added = added_tokens(folder, path, &vocab, settings)?;
    let start = settings.token("bos_token", "<|endoftext|>");
    let start = if settings.flag("add_bos_token")? == Some(true) {
        let id = added.iter().find(|token| token.content == start).map(|token| token.id);
        Some(Token { id: id.map_or_else(|| self::id(path, &vocab, &start), Ok)?, content: start })
    } else {
        None
    };
    let lines = merges.lines().filter(|line| !line.starts_with("#version") && !line.is_empty());
    let pair = |line: &str| {
        let (left, right) = line.split_once(' ').filter(|(_, right)| !right.contains(' '))?;
        let known = [left, right, &format!("{left}{right}")].into_iter().all(|piece| vocab.contains_key(piece));
        known.then(|| json!([left, right]))
    };
    let invalid = |line| files::content(merges_path, format!("{line:?} does not merge two tokens of the vocabulary"));
    let merges = lines.map(|line| pair(line).ok_or_else(|| invalid(line))).collect::<Result<_, _>>()?;
    let document = Document {
        added,
        normalizer: Value::Null,
        pre_tokenizer: byte_level(true, settings.flag("add_prefix_space")?.unwrap_or(false)),
        post_processor: Frame { start, end: None, restart: true }.template(),
        decoder: byte_level(true, true),
        model: byte_pairs(vocab, merges, false),
    };
    Ok(document.into_bytes())
}

/// Tokens beside the merges: those with a role, and those of `added_tokens.json`. One with a role that
/// is in neither vocabulary gets the next number.
fn added_tokens(
    folder: &Path,
    path: &Path,
    vocab: &Map<String, Value>,
    settings: &Settings<'_>,
) -> Result<Vec<Added>, CheckpointError> {
    let added_path = folder.join("added_tokens.json");
    let extra = files::optional_object(&added_path)?.unwrap_or_default();
    let roles = settings.special.values().map(String::as_str);
    let end = "<|endoftext|>";
    let mut special: Vec<&str> = roles.chain([end].into_iter().filter(|end| vocab.contains_key(*end))).collect();
    special.sort_unstable();
    special.dedup();
    let mut added = Vec::new();
    for content in extra.keys() {
        let (id, special) = (id(&added_path, &extra, content)?, special.contains(&content.as_str()));
        added.push(Added { id, content: content.clone(), special });
    }
    let taken = added.iter().map(|token| token.id + 1).max().unwrap_or(0);
    let mut next = taken.max(u32::try_from(vocab.len()).unwrap_or(u32::MAX));
    for content in special.into_iter().filter(|content| !extra.contains_key(*content)) {
        let id = if vocab.contains_key(content) {
            id(path, vocab, content)?
        } else {
            next += 1;
            next - 1
        };
        added.push(Added { id, content: content.to_owned(), special: true });
    }
    Ok(added)
}
