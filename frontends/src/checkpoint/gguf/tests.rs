//! A writer of small GGUF files, and what the reader says of good and bad ones.

use castiron_ir::{BlockFormat, Storage};
use tokenizers::Tokenizer;

use super::*;
use crate::checkpoint::stored::Recipe;

/// Numbers of value types and of tensor types.
const U32: u32 = 4;
const F32: u32 = 6;
const TEXT: u32 = 8;
const ARRAY: u32 = 9;
const DENSE: u32 = 0;

#[derive(Clone)]
struct Writer {
    version: u32,
    keys: Vec<(String, Vec<u8>)>,
    tensors: Vec<(String, Vec<u64>, u32)>,
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

impl Writer {
    fn set(&mut self, key: &str, kind: u32, value: &[u8]) {
        self.keys.retain(|(old, _)| old != key);
        self.keys.push((key.into(), [&kind.to_le_bytes(), value].concat()));
    }

    fn size(&mut self, key: &str, value: u32) {
        self.set(key, U32, &value.to_le_bytes());
    }

    fn text(&mut self, key: &str, value: &str) {
        self.set(key, TEXT, &text(value));
    }

    fn list<T>(&mut self, key: &str, kind: u32, items: &[T], bytes: impl Fn(&T) -> Vec<u8>) {
        let items_bytes: Vec<u8> = items.iter().flat_map(bytes).collect();
        let head = [&kind.to_le_bytes()[..], &(items.len() as u64).to_le_bytes()].concat();
        self.set(key, ARRAY, &[head, items_bytes].concat());
    }

    fn texts(&mut self, key: &str, items: &[&str]) {
        self.list(key, TEXT, items, |item| text(item));
    }

    /// The file, with data of zeros.
    fn bytes(&self) -> Vec<u8> {
        let mut out = [MAGIC, &self.version.to_le_bytes()].concat();
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            out.extend(text(key));
            out.extend(value);
        }
        let mut offset = 0_u64;
        for (name, extents, kind) in &self.tensors {
            out.extend(text(name));
            out.extend((extents.len() as u32).to_le_bytes());
            extents.iter().for_each(|extent| out.extend(extent.to_le_bytes()));
            out.extend(kind.to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset += (extents.iter().fold(4_u64, |bytes, extent| bytes.wrapping_mul(*extent))).next_multiple_of(32);
        }
        out.resize(out.len().next_multiple_of(32) + offset as usize, 0);
        out
    }

    fn tokenizer(&self) -> Result<Tokenizer, GgufError> {
        let bytes = self.bytes();
        let assets = text_assets(&Header::parse(&bytes).unwrap(), &bytes)?;
        Ok(Tokenizer::from_bytes(assets.tokenizer).unwrap())
    }
}

/// A model of one layer, four channels and two heads.
fn small() -> Writer {
    let mut writer = Writer { version: 3, keys: Vec::new(), tensors: Vec::new() };
    writer.text("general.architecture", "llama");
    for (key, value) in [
        ("embedding_length", 4),
        ("feed_forward_length", 6),
        ("block_count", 1),
        ("context_length", 16),
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
    ] {
        writer.size(&format!("llama.{key}"), value);
    }
    writer.set("llama.attention.layer_norm_rms_epsilon", F32, &1e-6_f32.to_le_bytes());
    let extents: [(&str, &[u64]); 12] = [
        ("token_embd.weight", &[4, 5]),
        ("blk.0.attn_norm.weight", &[4]),
        ("blk.0.attn_q.weight", &[4, 4]),
        ("blk.0.attn_k.weight", &[4, 2]),
        ("blk.0.attn_v.weight", &[4, 2]),
        ("blk.0.attn_output.weight", &[4, 4]),
        ("blk.0.ffn_norm.weight", &[4]),
        ("blk.0.ffn_gate.weight", &[4, 6]),
        ("blk.0.ffn_up.weight", &[4, 6]),
        ("blk.0.ffn_down.weight", &[6, 4]),
        ("output_norm.weight", &[4]),
        ("rope_freqs.weight.extra", &[8]),
    ];
    writer.tensors = extents.iter().map(|(name, extents)| ((*name).into(), extents.to_vec(), DENSE)).collect();
    writer.text("tokenizer.ggml.model", "gpt2");
    writer.text("tokenizer.ggml.pre", "gpt-2");
    writer.texts("tokenizer.ggml.tokens", &["a", "b", "ab", "Ġ", "<s>"]);
    writer.texts("tokenizer.ggml.merges", &["a b"]);
    writer.list("tokenizer.ggml.token_type", 5, &[1_i32, 1, 1, 1, 3], |kind| kind.to_le_bytes().to_vec());
    writer.size("tokenizer.ggml.bos_token_id", 4);
    writer
}

fn read(bytes: &[u8]) -> Result<Model, GgufError> {
    let header = Header::parse(bytes)?;
    text_assets(&header, bytes)?;
    generation(&header, bytes)?;
    model(&[header], &[bytes])
}

fn problem(change: impl FnOnce(&mut Writer)) -> String {
    let mut writer = small();
    change(&mut writer);
    read(&writer.bytes()).err().expect("the change is an error").to_string()
}

#[test]
fn both_versions_are_read() {
    for version in [2, 3] {
        let model = read(&Writer { version, ..small() }.bytes()).unwrap();
        assert_eq!(model.config["rms_norm_eps"], 1e-6);
        assert_eq!(model.tensors.len(), 12);
        // A name that is not known stays, so that whoever builds the graph can say that it is left over.
        assert!(model.tensors.iter().any(|(name, _)| name == "rope_freqs.weight.extra"));
    }
}

#[test]
fn what_is_not_supported_is_named() {
    assert!(problem(|w| w.version = 1).contains("version 1"));
    assert!(problem(|w| w.version = 3_u32.swap_bytes()).contains("version 50331648"));
    let other = problem(|w| w.text("general.architecture", "plamo"));
    assert!(other.starts_with("architecture `plamo` is not supported in GGUF, known are: llama, qwen2"), "{other}");
    assert_eq!(problem(|w| w.size("llama.logit_scale", 2)), "keys [\"llama.logit_scale\"] are not implemented");
    assert!(problem(|w| w.size("llama.expert_used_count", 2)).contains("`llama.expert_used_count`"));
    assert!(problem(|w| w.size("llama.expert_count", 8)).contains("`llama.expert_used_count` is missing"));
    let by_sigmoid = problem(|w| {
        let keys = ["expert_count", "expert_used_count", "expert_gating_func"];
        keys.iter().for_each(|key| w.size(&format!("llama.{key}"), 2));
    });
    assert!(by_sigmoid.contains("`llama.expert_gating_func` asks for what is not supported"), "{by_sigmoid}");
    assert!(problem(|w| w.tensors[1].2 = 15).contains("`blk.0.attn_norm.weight` has ggml type Q8_K"));
    assert!(problem(|w| w.text("llama.rope.scaling.type", "longrope")).contains("`longrope`"));
    assert!(problem(|w| w.text("tokenizer.ggml.pre", "tiktoken-9")).contains("is `tiktoken-9`, known are default"));
    assert!(problem(|w| w.text("tokenizer.ggml.model", "t5")).contains("is `t5`, expected gpt2 or llama"));
    assert!(problem(|w| w.texts("tokenizer.ggml.merges", &["a c"])).contains("\"a c\""));
    assert!(problem(|w| w.size("tokenizer.ggml.bos_token_id", 5)).contains("is 5, there are 5 tokens"));
}

#[test]
fn what_contradicts_itself_is_named() {
    assert!(problem(|w| w.size("general.alignment", 24)).contains("`general.alignment`"));
    assert!(problem(|w| w.keys.push(w.keys[0].clone())).contains("`general.architecture` occurs twice"));
    assert!(problem(|w| w.text("llama.block_count", "x")).contains("`llama.block_count` is not an integer"));
    assert!(problem(|w| w.size("llama.block_count", 0)).contains("`llama.block_count` is zero"));
    assert!(problem(|w| w.keys.retain(|(k, _)| k != "llama.block_count")).contains("`llama.block_count` is missing"));
    assert!(problem(|w| w.tensors[2].1 = vec![4, 6]).contains("`blk.0.attn_q.weight` has 6 rows, expected 4"));
    assert!(problem(|w| w.tensors[0].2 = 2).contains("no whole blocks of 32"));
    assert!(problem(|w| w.tensors[0].1 = vec![4, 0]).contains("`token_embd.weight` has the extent 0"));
    assert!(problem(|w| w.tensors[0].1 = vec![]).contains("has 0 axes"));
    assert!(problem(|w| w.tensors.retain(|t| t.0 != "token_embd.weight")).contains("`token_embd.weight` is missing"));
}

/// A Falcon of four heads that share two of keys, whose rows of queries, keys and values are Q8_0.
fn falcon() -> Writer {
    let mut writer = small();
    writer.keys.retain(|(key, _)| !key.contains("rms"));
    writer.keys.iter_mut().for_each(|(key, _)| *key = key.replace("llama.", "falcon."));
    writer.text("general.architecture", "falcon");
    writer.text("falcon.tensor_data_layout", "jploski");
    writer.set("falcon.attention.layer_norm_epsilon", F32, &1e-5_f32.to_le_bytes());
    for (key, value) in [("embedding_length", 32), ("attention.head_count", 4), ("attention.head_count_kv", 2)] {
        writer.size(&format!("falcon.{key}"), value);
    }
    writer.tensors = vec![
        ("token_embd.weight".into(), vec![32, 5], DENSE),
        ("blk.0.attn_norm.weight".into(), vec![32], DENSE),
        ("blk.0.attn_qkv.weight".into(), vec![32, 64], 8),
    ];
    writer
}

#[test]
fn joint_rows_stay_quantised() {
    let model = read(&falcon().bytes()).unwrap();
    let (_, stored) = model.tensors.iter().find(|(name, _)| name.contains("query_key_value")).unwrap();
    assert_eq!((&stored.shape[..], stored.storage), (&[64, 32][..], Storage::Blocks(BlockFormat::Q8_0)));
    let Recipe::Rows(rows) = &stored.recipe else { panic!("{:?}", stored.recipe) };
    assert_eq!((rows.outer, rows.groups, &rows.parts[..]), (1, 2, &[16, 8, 8][..]));
    let problem = |change: fn(&mut Writer)| {
        let mut writer = falcon();
        change(&mut writer);
        read(&writer.bytes()).err().expect("the change is an error").to_string()
    };
    let indivisible = problem(|w| w.size("falcon.attention.head_count_kv", 3));
    assert!(indivisible.contains("is 3, which does not divide 4 heads"), "{indivisible}");
    assert!(problem(|w| w.tensors[2].1 = vec![32, 63]).contains("has 63 rows, expected 64 (4 heads of queries"));
    assert!(problem(|w| w.tensors[2].1 = vec![64]).contains("is a vector stored in blocks"));
}

#[test]
fn the_table_that_knows_a_file_s_tensors_is_taken() {
    let names = |writer: &Writer| {
        let model = read(&writer.bytes()).unwrap();
        let norms =
            model.tensors.into_iter().map(|(name, _)| name).filter(|name| name.contains("ln") || name.contains("norm"));
        (model.config["num_ln_in_parallel_attn"].as_u64().unwrap(), norms.collect::<Vec<_>>())
    };
    let mut writer = falcon();
    assert_eq!(names(&writer), (1, vec!["h.0.input_layernorm.weight".to_owned()]));
    writer.tensors.push(("blk.0.attn_norm_2.weight".into(), vec![32], DENSE));
    assert_eq!(names(&writer), (2, vec!["h.0.ln_mlp.weight".to_owned(), "h.0.ln_attn.weight".to_owned()]));
}

#[test]
fn the_share_of_channels_that_turn_is_always_told() {
    let share = |writer: &Writer| read(&writer.bytes()).unwrap().config["partial_rotary_factor"].as_f64();
    let mut writer = falcon();
    assert_eq!(share(&writer), Some(1.0));
    writer.size("falcon.rope.dimension_count", 2);
    assert_eq!(share(&writer), Some(0.25));
}

#[test]
fn counts_that_lie_cost_nothing() {
    let good = small().bytes();
    let with = |at: usize, count: u64| {
        let mut bytes = good.clone();
        bytes[at..at + 8].copy_from_slice(&count.to_le_bytes());
        read(&bytes).err().expect("the count is an error")
    };
    for count in [u64::MAX, 1 << 40] {
        with(8, count);
        with(16, count);
        assert!(matches!(with(24, count), GgufError::Truncated { .. }), "length of the first key");
    }
    let list = |kind: u32, count: u64| {
        problem(|w| w.set("x", ARRAY, &[&kind.to_le_bytes()[..], &count.to_le_bytes()].concat()))
    };
    assert!(list(U32, u64::MAX).contains("`x` has too many elements"));
    assert!(list(U32, 1 << 60).contains("the file ends early"));
    list(TEXT, 1 << 60);
    assert!(list(ARRAY, 1).contains("array of arrays"));
    let huge = problem(|w| w.tensors.last_mut().unwrap().1 = vec![1 << 31, 1 << 31, 1]);
    assert!(huge.contains("`rope_freqs.weight.extra`"), "{huge}");
}

#[test]
fn every_prefix_is_an_error() {
    let good = small().bytes();
    for end in 0..good.len() {
        assert!(read(&good[..end]).is_err(), "{end} of {} bytes", good.len());
    }
}

#[test]
fn damaged_files_give_errors_or_models_whose_tensors_lie_within() {
    let good = small().bytes();
    let mut state = 1_u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..2000 {
        let mut bytes = good.clone();
        for _ in 0..=next(2) {
            let at = next(bytes.len());
            bytes[at] = next(256) as u8;
        }
        if let Ok(model) = read(&bytes) {
            for (name, at) in model.tensors {
                assert!(at.spans().iter().all(|span| span.bytes.end <= bytes.len()), "{name}");
            }
        }
    }
}

#[test]
fn start_and_end_tokens_are_added_where_the_file_asks() {
    let ids = |writer: &Writer, text: &str| writer.tokenizer().unwrap().encode(text, true).unwrap().get_ids().to_vec();
    let mut writer = small();
    assert_eq!(ids(&writer, "ab a<s>"), [2, 3, 0, 4]);
    writer.set("tokenizer.ggml.add_bos_token", 7, &[1]);
    writer.set("tokenizer.ggml.add_eos_token", 7, &[1]);
    writer.size("tokenizer.ggml.eos_token_id", 0);
    assert_eq!(ids(&writer, "b"), [4, 1, 0]);
    writer.size("tokenizer.ggml.eos_token_id", u32::MAX);
    assert!(writer.tokenizer().unwrap_err().to_string().contains("eos_token_id"));
}

#[test]
fn words_are_cut_as_the_file_asks() {
    let words = |pre: &str, text: &str| {
        let mut writer = small();
        writer.text("tokenizer.ggml.pre", pre);
        let bytes = writer.bytes();
        let assets = text_assets(&Header::parse(&bytes).unwrap(), &bytes).unwrap();
        let tokenizer = Tokenizer::from_bytes(assets.tokenizer).unwrap();
        let mut text = tokenizers::PreTokenizedString::from(text);
        let pre_tokenizer = tokenizer.get_pre_tokenizer().unwrap();
        tokenizers::PreTokenizer::pre_tokenize(pre_tokenizer, &mut text).unwrap();
        let splits = text.get_splits(tokenizers::OffsetReferential::Original, tokenizers::OffsetType::Byte);
        splits.into_iter().map(|(word, ..)| word.to_owned()).collect::<Vec<_>>()
    };
    let text = "It's 12345!\n\n x";
    assert_eq!(words("gpt-2", text), ["It", "'s", "Ġ12345", "!", "ĊĊ", "Ġx"]);
    assert_eq!(words("default", text), words("gpt-2", text));
    assert_eq!(words("smollm", text), ["It", "'s", "Ġ", "1", "2", "3", "4", "5", "!", "ĊĊ", "Ġx"]);
    assert_eq!(words("llama-bpe", text), ["It", "'s", "Ġ", "123", "45", "!ĊĊ", "Ġx"]);
    assert_eq!(words("qwen2", text), ["It", "'s", "Ġ", "1", "2", "3", "4", "5", "!ĊĊ", "Ġx"]);
    assert_eq!(words("tekken", "aB"), ["a", "B"]);
}

/// SentencePiece's rule: of all neighbours that make a token, merge those of the best score, the
/// leftmost of equals; what is no token in the end is written in bytes.
fn merged_by_score(text: &str, tokens: &[&str], scores: &[f32]) -> Vec<u32> {
    let id = |piece: &str| tokens.iter().position(|token| *token == piece);
    let mut pieces: Vec<String> = format!("▁{}", text.replace(' ', "▁")).chars().map(String::from).collect();
    loop {
        let made = pieces.windows(2).enumerate().filter_map(|(i, two)| Some((i, scores[id(&two.concat())?])));
        let best = made.fold(
            None,
            |best: Option<(usize, f32)>, this| {
                if best.is_some_and(|best| best.1 >= this.1) { best } else { Some(this) }
            },
        );
        let Some((i, _)) = best else { break };
        let right = pieces.remove(i + 1);
        pieces[i].push_str(&right);
    }
    let bytes = |piece: &str| piece.bytes().map(|b| id(&format!("<0x{b:02X}>")).unwrap()).collect();
    let ids = pieces.iter().flat_map(|piece| id(piece).map_or_else(|| bytes(piece), |id| vec![id]));
    ids.map(|id| id as u32).collect()
}

#[test]
fn pieces_merge_by_score_and_bytes_stand_in() {
    let bytes: Vec<String> = (0..=255).map(|b| format!("<0x{b:02X}>")).collect();
    let plain = [
        "▁t",
        "he",
        "▁the",
        "in",
        "▁a",
        "er",
        "▁in",
        "▁ther",
        "re",
        "▁the▁",
        "▁▁",
        "▁",
        "t",
        "h",
        "e",
        "i",
        "n",
        "a",
        "r",
    ];
    let mut tokens = vec!["<unk>", "<s>", "</s>"];
    tokens.extend(bytes.iter().map(String::as_str));
    tokens.extend(plain);
    let kind = |i: usize| [2, 3, 3].get(i).copied().unwrap_or(if i < 259 { 6 } else { 1 });
    let kinds: Vec<i32> = (0..tokens.len()).map(kind).collect();
    let scores: Vec<f32> = (0..tokens.len()).map(|i| if i < 259 { 0.0 } else { 259.0 - i as f32 }).collect();
    let mut writer = small();
    writer.text("tokenizer.ggml.model", "llama");
    writer.texts("tokenizer.ggml.tokens", &tokens);
    writer.list("tokenizer.ggml.scores", F32, &scores, |score| score.to_le_bytes().to_vec());
    writer.list("tokenizer.ggml.token_type", 5, &kinds, |kind| kind.to_le_bytes().to_vec());
    writer.size("tokenizer.ggml.bos_token_id", 1);
    writer.size("tokenizer.ggml.eos_token_id", 2);
    let tokenizer = writer.tokenizer().unwrap();
    for text in ["the", "there in a tin", "  the   hein", "the é the", "inner\nthere", "aaa", "ether there 5"] {
        let mut expected = vec![1];
        expected.extend(merged_by_score(text, &tokens, &scores));
        let ids = tokenizer.encode(text, true).unwrap().get_ids().to_vec();
        assert_eq!(ids, expected, "{text:?}");
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), text);
    }
    let turns = tokenizer.encode("the</s>the", true).unwrap();
    let the = tokens.iter().position(|token| *token == "▁the").unwrap() as u32;
    assert_eq!(turns.get_ids(), [1, the, 2, the]);
    writer.set("tokenizer.ggml.add_space_prefix", 7, &[0]);
    writer.set("tokenizer.ggml.add_bos_token", 7, &[0]);
    let plain = writer.tokenizer().unwrap();
    let ids = plain.encode("in", true).unwrap().get_ids().to_vec();
    assert_eq!((ids.len(), plain.decode(&ids, true).unwrap().as_str()), (1, "in"));
}
