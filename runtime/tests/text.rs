//! Tokenizers, streams and chat templates against what transformers does with the same files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use castiron_ir::TextAssets;
use castiron_runtime::text::{
    Batch, ChatMessage, ChatRequest, ChatTemplate, Date, EncodeOptions, Text, TextError, TokenStream, Tokenizer,
    Truncation,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests")
}

fn read_json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The reference folders that hold a tokenizer, each with the assets and the answers of transformers.
fn folders() -> Vec<(String, Text, Value)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root().join("fixtures")).expect("fixtures are committed") {
        let folder = entry.expect("readable entry").path();
        let Ok(tokenizer) = std::fs::read(folder.join("tokenizer.json")) else { continue };
        let config = read_json(&folder.join("tokenizer_config.json"));
        let tokens = config.as_object().expect("an object").iter().filter(|(key, _)| key.ends_with("_token"));
        let special_tokens = tokens.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect();
        let chat_template = config["chat_template"].as_str().map(str::to_owned);
        let text = Text::new(TextAssets { tokenizer, chat_template, special_tokens });
        found.push((folder.file_name().unwrap().to_string_lossy().into(), text, read_json(&folder.join("text.json"))));
    }
    assert!(found.len() >= 6, "{} folders with a tokenizer", found.len());
    found
}

fn folder(name: &str) -> (Text, Value) {
    let (_, text, answers) = folders().into_iter().find(|f| f.0 == name).expect("the fixture exists");
    (text, answers)
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn numbers(value: &Value) -> Vec<u32> {
    value.as_array().expect("a list").iter().map(|n| n.as_u64().expect("a number") as u32).collect()
}

/// The text of tokens that come one by one, checked to be the beginning of the whole at every step.
fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut stream = TokenStream::new(tokenizer, true);
    let mut out = String::new();
    for &id in ids {
        out.push_str(stream.push(id).unwrap());
    }
    out + stream.finish().unwrap()
}

#[test]
fn texts_become_the_tokens_of_transformers() {
    let mut texts = 0;
    for (name, text, answers) in folders() {
        let tokenizer = text.tokenizer().unwrap();
        for kind in ["embeddings", "classes", "token_classes", "fillings", "prompts"] {
            for case in list(&answers, kind) {
                let encoding = tokenizer.encode(case["text"].as_str().unwrap(), EncodeOptions::default()).unwrap();
                assert_eq!(encoding.ids, numbers(&case["ids"]), "{name}: {}", case["text"]);
                texts += 1;
            }
        }
    }
    assert!(texts >= 14, "{texts} texts");
}

#[test]
fn tokens_know_their_place_in_the_text() {
    let (text, answers) = folder("bert-token-classification");
    for case in list(&answers, "token_classes") {
        let tokenizer = text.tokenizer().unwrap();
        let encoding = tokenizer.encode(case["text"].as_str().unwrap(), EncodeOptions::default()).unwrap();
        let inner: Vec<usize> = (0..encoding.len()).filter(|&i| encoding.sequences[i].is_some()).collect();
        assert_eq!(inner.len(), list(case, "tokens").len());
        for (i, expected) in inner.into_iter().zip(list(case, "tokens")) {
            let (start, end) = encoding.offsets[i];
            assert_eq!([start as u32, end as u32].as_slice(), numbers(&expected["offsets"]));
            assert_eq!(tokenizer.token(encoding.ids[i]).as_deref(), expected["token"].as_str());
        }
    }
}

#[test]
fn pairs_have_segments_and_offsets_of_their_own() {
    let (text, answers) = folder("bert-question-answering");
    for case in list(&answers, "answers") {
        let [question, context, answer] = ["question", "context", "answer"].map(|key| case[key].as_str().unwrap());
        let encoding = text.tokenizer().unwrap().encode_pair(question, context, EncodeOptions::default()).unwrap();
        assert_eq!(encoding.ids, numbers(&case["ids"]));
        assert_eq!(encoding.type_ids, numbers(&case["token_type_ids"]));
        let (start, end) = (case["start"].as_u64().unwrap() as usize, case["end"].as_u64().unwrap() as usize);
        let in_context = |i: &usize| encoding.sequences[*i] == Some(1);
        let bounds: Vec<(usize, usize)> = (0..encoding.len()).filter(in_context).map(|i| encoding.offsets[i]).collect();
        assert!(bounds.iter().any(|b| b.0 == start) && bounds.iter().any(|b| b.1 == end), "{bounds:?}");
        assert_eq!(&context[start..end], answer);
    }
}

#[test]
fn numbers_have_names() {
    let (text, answers) = folder("bert-masked-lm");
    let tokenizer = text.tokenizer().unwrap();
    for best in list(&answers, "fillings").iter().flat_map(|case| list(case, "best")) {
        let (id, token) = (best["id"].as_u64().unwrap() as u32, best["token"].as_str().unwrap());
        assert_eq!(tokenizer.token(id).as_deref(), Some(token));
        assert_eq!(tokenizer.token_id(token), Some(id));
    }
    assert_eq!(text.special_token("mask_token").unwrap(), Some(4));
    assert_eq!(text.special_token("bos_token").unwrap(), None);
    assert!(tokenizer.is_special(4) && !tokenizer.is_special(77));
    assert_eq!(tokenizer.token(100_000), None);
}

#[test]
fn generated_tokens_become_the_text_of_transformers() {
    let (text, answers) = folder("llama-chat");
    let tokenizer = text.tokenizer().unwrap();
    for case in list(&answers, "prompts").iter().chain(list(&answers, "chats")) {
        let (ids, expected) = (numbers(&case["new_ids"]), case["new_text"].as_str().unwrap());
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), expected);
        assert_eq!(streamed(tokenizer, &ids), expected);
    }
}

#[test]
fn conversations_are_laid_out_as_by_transformers() {
    let (text, answers) = folder("llama-chat");
    let request = ChatRequest { add_generation_prompt: true, ..ChatRequest::default() };
    for case in list(&answers, "chats") {
        let rendered = text.chat_template().unwrap().render(list(case, "messages"), &request).unwrap();
        assert_eq!(rendered, case["rendered"].as_str().unwrap());
        let encoding = text.tokenizer().unwrap().encode(&rendered, EncodeOptions::plain()).unwrap();
        assert_eq!(encoding.ids, numbers(&case["ids"]));
    }
    assert_eq!(list(&answers, "chats").len(), 2);
}

/// SmolLM2's template gives the conversations that its golden data was made from.
#[test]
fn real_template_gives_the_golden_prompts() {
    let template = ChatTemplate::new(
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}\
         {{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}\
         {% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}\
         {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        &BTreeMap::new(),
    )
    .unwrap();
    let request = ChatRequest { add_generation_prompt: true, ..ChatRequest::default() };
    let golden = read_json(&root().join("data/smollm2.json"));
    let texts: Vec<&str> = list(&golden, "entries").iter().filter_map(|e| e["text"].as_str()).collect();
    for messages in [
        vec![ChatMessage::new("user", "What is gravity?")],
        vec![ChatMessage::new("user", "Say hello in one word.")],
        vec![ChatMessage::new("system", "You are a terse assistant."), ChatMessage::new("user", "Name three colours.")],
    ] {
        let rendered = template.render(&messages, &request).unwrap();
        assert!(texts.contains(&rendered.as_str()), "{rendered}");
    }
}

#[test]
fn long_texts_are_cut_around_their_special_tokens() {
    let (text, _) = folder("bert-sentence");
    let tokenizer = text.tokenizer().unwrap();
    let encode = |n| tokenizer.encode("The dog is happy.", EncodeOptions::at_most(n));
    assert_eq!(encode(5).unwrap().ids, [2, 65, 75, 66, 3]);
    assert_eq!(encode(7).unwrap().ids, encode(100).unwrap().ids);
    assert!(matches!(encode(2), Err(TextError::NoRoom { max_length: 2, needed: 2 })));
    let pair = |max_length, keep_first| {
        let truncation = Some(Truncation { max_length, keep_first });
        let options = EncodeOptions { special_tokens: true, truncation };
        tokenizer.encode_pair("The dog", "A happy dog runs in the garden", options).map(|e| e.ids)
    };
    assert_eq!(pair(8, true).unwrap(), [2, 65, 75, 3, 13, 89, 75, 3]);
    assert_eq!(pair(8, false).unwrap(), [2, 65, 75, 3, 13, 89, 75, 3]);
    assert_eq!(pair(6, false).unwrap(), [2, 65, 3, 13, 89, 3]);
    assert!(matches!(pair(5, true), Err(TextError::NoRoom { max_length: 5, needed: 5 })));
    let plain = EncodeOptions { special_tokens: false, ..EncodeOptions::at_most(2) };
    assert_eq!(tokenizer.encode("The dog is happy.", plain).unwrap().ids, [65, 75]);
}

#[test]
fn batches_are_filled_up_at_the_right() {
    let (text, _) = folder("bert-sentence");
    let tokenizer = text.tokenizer().unwrap();
    let batch = tokenizer.encode_batch(&["The dog", "dog is happy"], EncodeOptions::default(), 9).unwrap();
    let expected = Batch {
        rows: 2,
        length: 5,
        ids: vec![2, 65, 75, 3, 9, 2, 75, 66, 89, 3],
        attention_mask: vec![1, 1, 1, 1, 0, 1, 1, 1, 1, 1],
        token_type_ids: vec![0; 10],
    };
    assert_eq!(batch, expected);
    assert_eq!(Batch::new(&[], 0).length, 0);
}

#[test]
fn what_is_missing_or_broken_is_named() {
    let none = Text::new(TextAssets::default());
    assert!(matches!(none.tokenizer(), Err(TextError::NoTokenizer)));
    assert!(matches!(none.chat_template(), Err(TextError::NoChatTemplate)));
    assert!(matches!(Tokenizer::from_json(b"{}"), Err(TextError::InvalidTokenizer(_))));
}

mod template {
    use super::*;

    fn render(source: &str, variables: Value) -> Result<String, TextError> {
        let tokens = BTreeMap::from([("eos_token".to_owned(), "</s>".to_owned())]);
        let variables = variables.as_object().expect("an object").clone();
        let request = ChatRequest { add_generation_prompt: false, now: Some(Date::new(2025, 3, 9)), variables };
        ChatTemplate::new(source, &tokens)?.render(&[ChatMessage::new("user", " hi ")], &request)
    }

    #[test]
    fn behaves_as_in_transformers() {
        for (source, expected) in [
            // Blocks take the line break after them and the spaces before them.
            ("a\n  {% if true %}\n  b\n  {% endif %}\nc\n", "a\n  b\nc"),
            // Python's methods.
            ("{{ messages[0].content.strip().upper() }}{{ 'a-b'.split('-')[-1] }}", "HIb"),
            ("{% for k, v in {'x': 1, 'b': 2}.items() %}{{ k }}={{ v }};{% endfor %}", "x=1;b=2;"),
            ("{{ 'abc'.startswith('ab') }} {{ none }} {{ missing }}|", "True None |"),
            // Loop controls, slices, namespaces, macros.
            ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
            ("{{ messages[1:] | length }}{% set ns = namespace(n=0) %}{% set ns.n = 5 %}{{ ns.n }}", "05"),
            ("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m('a') }}", "<a>"),
            // Variables.
            ("{{ eos_token }}{{ add_generation_prompt }}{{ tools is none }}{{ flag }}", "</s>FalseTrue7"),
            ("{{ strftime_now('%d %b %Y') }}", "09 Mar 2025"),
            // Marks of the assistant's part.
            ("a{% generation %}{{ 'b' }}{%- endgeneration -%} c", "abc"),
            ("{{ {'b': [1, 2.0, none], 'a': '<é\\'>'} | tojson }}", r#"{"b": [1, 2.0, null], "a": "<é'>"}"#),
            ("{{ {'a': [1]} | tojson(indent=2) }}", "{\n  \"a\": [\n    1\n  ]\n}"),
            ("{{ {'b': 1, 'a': 2} | tojson(separators=(',', ':'), sort_keys=true) }}", r#"{"a":2,"b":1}"#),
            ("{{ '<b>&' }}", "<b>&"),
        ] {
            assert_eq!(render(source, json!({"flag": 7})).unwrap(), expected, "{source}");
        }
    }

    #[test]
    fn order_of_keys_is_kept() {
        let tools = json!({"tools": [{"type": "function", "function": {"name": "f", "args": {"z": 1, "a": 2}}}]});
        let expected = r#"[{"type": "function", "function": {"name": "f", "args": {"z": 1, "a": 2}}}]"#;
        assert_eq!(render("{{ tools | tojson }}", tools).unwrap(), expected);
    }

    #[test]
    fn errors_name_the_line() {
        let error = |source: &str| render(source, json!({})).unwrap_err();
        match error("a\n{% if true %}\n{{ raise_exception('roles must alternate') }}\n{% endif %}") {
            TextError::Refused { line: 3, message } => assert_eq!(message, "roles must alternate"),
            other => panic!("{other}"),
        }
        for (source, expected) in [
            ("a\n\n{% if %}", "line 3"),
            ("\n{{ missing.name.first }}", "line 2"),
            ("\n{{ strftime_now('%Q') }}", "conversion"),
            ("{% for i in range(99999) %}{% for j in range(99999) %}{{ j }}{% endfor %}{% endfor %}", "fuel"),
        ] {
            let error = error(source);
            assert!(matches!(error, TextError::Template { .. }) && error.to_string().contains(expected), "{error}");
        }
        let undated = ChatTemplate::new("{{ strftime_now('%Y') }}", &BTreeMap::new()).unwrap();
        let error = undated.render(&[ChatMessage::new("user", "")], &ChatRequest::default()).unwrap_err();
        assert!(error.to_string().contains("date"), "{error}");
    }
}

/// A tokenizer in the manner of sentencepiece: words start with `▁`, the space before the first word
/// is dropped, and characters outside the vocabulary are spelt in bytes.
fn sentencepiece() -> Tokenizer {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
    tokens.extend((0..256).map(|b| format!("<0x{b:02X}>")));
    tokens.extend(["▁", "a", "b", "▁a", "▁b", "ab", "▁ab", "é"].map(str::to_owned));
    let vocab: serde_json::Map<String, Value> = tokens.iter().enumerate().map(|(i, t)| (t.clone(), json!(i))).collect();
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let file = json!({
        "version": "1.0", "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        "padding": null,
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null,
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "vocab": vocab,
            "merges": ["▁ a", "▁ b", "a b", "▁ ab"]}
    });
    Tokenizer::from_json(&serde_json::to_vec(&file).unwrap()).unwrap()
}

fn byte_level() -> Tokenizer {
    Tokenizer::from_json(&std::fs::read(root().join("fixtures/llama-chat/tokenizer.json")).unwrap()).unwrap()
}

/// Text of many scripts, with what takes one to four bytes, and joined emoji.
fn any_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[ ab]{1,4}",
        "[éßñж]{1,3}",
        "[一-龥あ-ん가-힣]{1,4}",
        Just("👩🏽‍🚀".to_owned()),
        "[😀-🙏]{1,3}",
        "\\PC{1,4}",
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// Streams a text, checks that only complete characters are printed, and gives the parts.
fn parts(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
    let ids = tokenizer.encode(text, EncodeOptions::default()).unwrap().ids;
    let mut stream = TokenStream::new(tokenizer, true);
    let mut parts: Vec<String> = ids.iter().map(|&id| stream.push(id).unwrap().to_owned()).collect();
    assert!(text.contains('\u{FFFD}') || parts.iter().all(|p| !p.contains('\u{FFFD}')), "{parts:?}");
    parts.push(stream.finish().unwrap().to_owned());
    parts
}

#[test]
fn characters_are_printed_when_their_last_byte_comes() {
    let tokenizer = sentencepiece();
    let found = parts(&tokenizer, "a 好😀é");
    let expected = ["", "a", " ", "", "", "好", "", "", "", "😀", "é", ""];
    assert_eq!(found, expected);
}

#[test]
fn settings_of_the_file_do_not_cut() {
    assert_eq!(sentencepiece().encode("a b a b a b", EncodeOptions::default()).unwrap().len(), 7);
}

#[test]
fn a_stream_continues_its_prompt() {
    let tokenizer = sentencepiece();
    let [a, b] = ["▁a", "▁b"].map(|t| tokenizer.token_id(t).unwrap());
    assert_eq!(TokenStream::new(&tokenizer, true).push(b).unwrap(), "b");
    let mut stream = TokenStream::after(&tokenizer, true, &[1, a, 1]).unwrap();
    assert_eq!(stream.push(b).unwrap(), " b");
    assert_eq!(stream.push(2).unwrap(), "");
    assert_eq!(stream.push(a).unwrap(), " a");
    assert_eq!(stream.finish().unwrap(), "");
}

#[test]
fn special_tokens_are_printed_on_request() {
    let tokenizer = sentencepiece();
    let a = tokenizer.token_id("▁a").unwrap();
    let mut stream = TokenStream::new(&tokenizer, false);
    let text: String = [1, a, 2].into_iter().map(|id| stream.push(id).unwrap().to_owned()).collect();
    assert_eq!(text, tokenizer.decode(&[1, a, 2], false).unwrap());
}

#[test]
fn bytes_that_never_become_characters_do_not_wait_forever() {
    for tokenizer in [byte_level(), sentencepiece()] {
        // A byte that only continues characters, in either vocabulary.
        let byte = tokenizer.token_id("<0x80>").or_else(|| tokenizer.token_id("Ģ")).unwrap();
        let mut stream = TokenStream::new(&tokenizer, true);
        let mut printed = 0;
        for n in 1..=500 {
            printed += stream.push(byte).unwrap().chars().count();
            assert!(printed + 4 >= n, "{n} tokens, {printed} marks");
        }
        assert_eq!(printed + stream.finish().unwrap().chars().count(), 500);
    }
}

proptest! {
    #[test]
    fn byte_level_text_streams_unchanged(text in any_text()) {
        prop_assert_eq!(parts(&byte_level(), &text).concat(), text);
    }

    #[test]
    fn sentencepiece_text_streams_unchanged(text in any_text()) {
        // The marker cannot be told from a space, nor the mark of broken text from broken text.
        let text = text.replace(['▁', '\u{FFFD}'], "_");
        prop_assert_eq!(parts(&sentencepiece(), &text).concat(), text);
    }

    #[test]
    fn any_byte_level_tokens_stream_as_they_decode(ids in prop::collection::vec(0_u32..300, 0..60)) {
        let tokenizer = byte_level();
        prop_assert_eq!(streamed(&tokenizer, &ids), tokenizer.decode(&ids, true).unwrap());
    }

    #[test]
    fn any_sentencepiece_tokens_stream(ids in prop::collection::vec(0_u32..267, 0..200)) {
        let tokenizer = sentencepiece();
        let whole = tokenizer.decode(&ids, true).unwrap();
        let text = streamed(&tokenizer, &ids);
        // Where a run of bytes turns out to be no text at its end, what was printed before stays.
        prop_assert!(text == whole || whole.contains('\u{FFFD}'), "{:?} is not {:?}", text, whole);
    }
}
