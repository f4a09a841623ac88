use std::borrow::Cow;
use std::fs;
use std::path::Path;

use castiron_ir::BlockFormat;
use serde_json::json;
use tempfile::TempDir;
use tokenizers::Tokenizer;

use super::*;
use crate::blocks::{Pooling, PoolingMode};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}

fn open(name: &str) -> Checkpoint {
    Checkpoint::open(&fixture(name)).unwrap()
}

/// A folder with some files of a fixture.
fn copy(name: &str, files: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        fs::create_dir_all(folder.path().join(file).parent().unwrap()).unwrap();
        fs::copy(fixture(name).join(file), folder.path().join(file)).unwrap();
    }
    folder
}

fn tokenizer(assets: &TextAssets) -> Tokenizer {
    Tokenizer::from_bytes(&assets.tokenizer).unwrap()
}

/// Texts and token numbers of a fixture's `text.json`, which transformers wrote.
fn samples(name: &str) -> Vec<(Vec<String>, Vec<u32>)> {
    let text = fs::read_to_string(fixture(name).join("text.json")).unwrap();
    let samples: Map<String, Value> = serde_json::from_str(&text).unwrap();
    let entries = samples.values().filter_map(Value::as_array).flatten();
    entries
        .map(|entry| {
            let texts = ["text", "question", "context", "rendered"].into_iter().filter_map(|key| entry[key].as_str());
            let ids = entry["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32);
            (texts.map(str::to_owned).collect(), ids.collect())
        })
        .collect()
}

fn check_samples(name: &str, assets: &TextAssets) {
    let tokenizer = tokenizer(assets);
    for (texts, ids) in samples(name) {
        let encoding = match &texts[..] {
            [text] => tokenizer.encode(text.as_str(), !text.starts_with("<|start|>")),
            [text, second] => tokenizer.encode((text.as_str(), second.as_str()), true),
            _ => panic!("{texts:?}"),
        };
        assert_eq!(encoding.unwrap().get_ids(), ids, "{name}: {texts:?}");
    }
}

#[test]
fn tokenizers_give_the_ids_that_transformers_gives() {
    let named = ["llama-chat", "llama-gguf-f32", "llama-gguf-bf16", "bert-masked-lm", "bert-question-answering"];
    let more = ["bert-sentence", "bert-sequence-classification", "bert-token-classification"];
    for name in named.into_iter().chain(more) {
        check_samples(name, &open(name).text_assets().unwrap());
    }
}

#[test]
fn chat_models_have_their_template_and_special_tokens() {
    for name in ["llama-chat", "llama-gguf-f32"] {
        let assets = open(name).text_assets().unwrap();
        assert!(assets.chat_template.unwrap().starts_with("{% for message in messages %}"), "{name}");
        assert_eq!(assets.special_tokens["bos_token"], "<|start|>");
        assert_eq!(assets.special_tokens["eos_token"], "<|stop|>");
        assert_eq!(assets.special_tokens["pad_token"], "<|end|>");
    }
    let generation = open("llama-gguf-f32").generation.unwrap();
    assert_eq!(Value::from(generation), json!({"bos_token_id": 1, "pad_token_id": 0, "eos_token_id": [2]}));
}

#[test]
fn a_vocabulary_of_word_pieces_becomes_a_tokenizer() {
    let name = "bert-masked-lm";
    let folder = copy(name, &["config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"]);
    let assets = Checkpoint::open(folder.path()).unwrap().text_assets().unwrap();
    check_samples(name, &assets);
    let own: Value = serde_json::from_slice(&fs::read(fixture(name).join("tokenizer.json")).unwrap()).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&assets.tokenizer).unwrap(), own);
}

#[test]
fn a_vocabulary_of_byte_pairs_becomes_a_tokenizer() {
    let own: Value = serde_json::from_slice(&fs::read(fixture("llama-chat").join("tokenizer.json")).unwrap()).unwrap();
    let folder = copy("gpt2", &["config.json", "model.safetensors"]);
    let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
    let merges = own["model"]["merges"].as_array().unwrap().iter();
    let merges = merges.map(|pair| format!("{} {}\n", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()));
    write("vocab.json", own["model"]["vocab"].to_string());
    write("merges.txt", format!("#version: 0.2\n{}", merges.collect::<String>()));
    let special = json!({"bos_token": "<|start|>", "eos_token": {"content": "<|stop|>"}, "unk_token": "<|end|>"});
    write("special_tokens_map.json", special.to_string());
    let assets = |folder: &Path| Checkpoint::open(folder).unwrap().text_assets().unwrap();
    check_samples("llama-chat", &assets(folder.path()));

    write("tokenizer_config.json", json!({"add_bos_token": true, "pad_token": "<pad>"}).to_string());
    let tokenizer = tokenizer(&assets(folder.path()));
    assert_eq!(tokenizer.encode("The dog<pad>", true).unwrap().get_ids(), [1, 274, 285, 300]);

    write("tokenizer_config.json", json!({"tokenizer_class": "CLIPTokenizer"}).to_string());
    let error = Checkpoint::open(folder.path()).unwrap().text_assets().unwrap_err().to_string();
    assert!(error.contains("vocab.json") && error.contains("`clip`"), "{error}");
}

#[test]
fn a_folder_without_a_tokenizer_is_fine() {
    assert_eq!(open("llama-base").text_assets().unwrap(), TextAssets::default());
}

#[test]
fn templates_come_from_several_places() {
    let folder = copy("llama-base", &["config.json", "model.safetensors"]);
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let template = || Checkpoint::open(folder.path()).unwrap().text_assets().map(|assets| assets.chat_template);
    assert_eq!(template().unwrap(), None);
    let named = r#"{"chat_template": [{"name": "tool", "template": "t"}, {"name": "default", "template": "d"}]}"#;
    write("tokenizer_config.json", named);
    assert_eq!(template().unwrap().as_deref(), Some("d"));
    write("chat_template.json", r#"{"chat_template": "j"}"#);
    assert_eq!(template().unwrap().as_deref(), Some("j"));
    write("chat_template.jinja", "own");
    assert_eq!(template().unwrap().as_deref(), Some("own"));
    write("chat_template.jinja", "");
    fs::remove_file(folder.path().join("chat_template.jinja")).unwrap();
    write("chat_template.json", r#"{"chat_template": 3}"#);
    let error = template().unwrap_err().to_string();
    assert!(error.contains("chat_template.json: `chat_template` is 3, expected a template"), "{error}");
}

#[test]
fn sentence_encoders_say_how_they_pool() {
    let sentence = open("bert-sentence").sentence.unwrap();
    assert_eq!(sentence.max_input, Some(24));
    assert_eq!(sentence.pooling, Pooling { normalise: true, ..Pooling::default() });
    assert!(open("bert-base").sentence.is_none());
    let joined = open("xlm-roberta-sentence");
    let pooling = joined.sentence.as_ref().unwrap().pooling.clone();
    assert_eq!(pooling.modes, [PoolingMode::Cls, PoolingMode::Last]);
    assert_eq!((pooling.layers[0].name.as_str(), pooling.layers[0].width.value()), ("2_Dense.linear", 17));
    assert_eq!(joined.shape("2_Dense.linear.weight"), Some(&[17, 60][..]));
}

#[test]
fn modules_that_are_not_implemented_are_named() {
    let files = ["config.json", "model.safetensors", "modules.json", "1_Pooling/config.json", "2_Dense/config.json"];
    let folder = copy("xlm-roberta-sentence", &files);
    let error = |file: &str, text: &str| {
        let kept = fs::read(folder.path().join(file)).unwrap();
        fs::write(folder.path().join(file), text).unwrap();
        let message = Checkpoint::open(folder.path()).unwrap_err().to_string();
        fs::write(folder.path().join(file), kept).unwrap();
        message
    };
    let module =
        |kind: &str, path: &str| format!(r#"[{{"type": "sentence_transformers.models.{kind}", "path": "{path}"}}]"#);
    assert!(error("modules.json", &module("LSTM", "1_LSTM")).contains(r#"a module "LSTM", which is not implemented"#));
    assert!(error("modules.json", &module("Dense", "../x")).contains("names a folder outside"));
    let pooling = error("1_Pooling/config.json", r#"{"pooling_mode_attention": true}"#);
    assert!(pooling.contains(r#"pooling by ["attention"], which is not implemented"#), "{pooling}");
    let function = error("2_Dense/config.json", r#"{"out_features": 17, "activation_function": "torch.nn.Mish"}"#);
    assert!(function.contains("`activation_function` is \"torch.nn.Mish\", expected torch's Identity"), "{function}");
}

#[test]
fn gguf_has_the_names_and_shapes_of_the_same_model_in_safetensors() {
    let shapes = |name| open(name).shapes().unwrap();
    let mut expected: Vec<String> = shapes("llama-gqa").into_keys().collect();
    expected.retain(|name| !name.contains("layers.") || name.contains("layers.0.") || name.contains("layers.1."));
    let checkpoint = open("llama-gguf-mixed");
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), expected);
    assert_eq!(checkpoint.shape("model.embed_tokens.weight"), Some(&[300, 64][..]));
    assert_eq!(checkpoint.shape("model.layers.1.mlp.down_proj.weight"), Some(&[64, 96][..]));
    let storage = |name| checkpoint.storage(name).unwrap();
    assert_eq!(storage("model.layers.0.self_attn.q_proj.weight"), Storage::Blocks(BlockFormat::Q4_0));
    assert_eq!(storage("model.layers.0.self_attn.v_proj.weight"), Storage::Dense(DType::F16));
    assert!(open("llama-gguf-f16").shape("lm_head.weight").is_none());
}

#[test]
fn gguf_keys_become_a_config() {
    let config = |name| Value::from(open(name).config);
    let plain = config("llama-gguf-bf16");
    assert_eq!(
        plain,
        json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 300, "hidden_size": 32,
            "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
            "head_dim": 48, "hidden_act": "silu", "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            "partial_rotary_factor": 1.0,
            "attention_bias": false, "mlp_bias": false, "tie_word_embeddings": false,
            "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
        })
    );
    assert_eq!(config("llama-gguf-f16")["tie_word_embeddings"], json!(true));
    let rope = |name| config(name)["rope_parameters"].clone();
    let linear = json!({"rope_type": "linear", "rope_theta": 100.0, "factor": 3.0});
    assert_eq!(rope("llama-gguf-rope-linear"), linear);
    let yarn = json!(
        {"rope_type": "yarn", "rope_theta": 50.0, "factor": 4.0, "original_max_position_embeddings": 32}
    );
    assert_eq!(rope("llama-gguf-rope-yarn"), yarn);
    let llama3 = rope("llama-gguf-rope-llama3");
    assert_eq!((&llama3["rope_type"], &llama3["attention_factor"]), (&json!("longrope"), &json!(1.0)));
    // The fastest pair of llama3's scaling is untouched, the slowest is stretched by the factor.
    assert_eq!(llama3["short_factor"], llama3["long_factor"]);
    let factors = llama3["long_factor"].as_array().unwrap();
    assert_eq!((factors.len(), &factors[0]), (8, &json!(1.0)));
    assert!((factors[7].as_f64().unwrap() - 8.0).abs() < 1e-5);
}

#[test]
fn tensors_are_lent_and_only_rearranged_ones_are_copied() {
    let checkpoint = open("llama-gguf-mixed");
    let is_borrowed = |name| {
        let stored = TensorSource::tensor(&checkpoint, name).unwrap();
        matches!(stored.bytes, Cow::Borrowed(_))
    };
    assert!(is_borrowed("model.embed_tokens.weight") && is_borrowed("model.layers.0.self_attn.v_proj.weight"));
    assert!(!is_borrowed("model.layers.0.self_attn.q_proj.weight"));
    let values = checkpoint.tensor("model.layers.0.self_attn.k_proj.weight").unwrap();
    assert_eq!((values.dtype, values.data.len()), (DType::F32, 32 * 64));
}

#[test]
fn checkpoints_are_told_apart_by_their_hash() {
    assert_eq!(open("llama-gguf-f32").hash(), open("llama-gguf-f32").hash());
    assert_ne!(open("llama-gqa").hash(), open("llama-mha").hash());
    assert_eq!(open("llama-base").hash().len(), 64);
}

#[test]
fn what_is_no_checkpoint_is_said_to_be_none() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Checkpoint::open(folder.path());
    assert!(matches!(open(), Err(CheckpointError::NoWeights(_))));
    let file = |name: &str| folder.path().join(name);
    fs::write(file("a.gguf"), "nothing").unwrap();
    assert!(matches!(open(), Err(CheckpointError::NoWeights(path)) if path == file("a.gguf")));
    fs::copy(fixture("llama-gguf-f32/model.gguf"), file("a.gguf")).unwrap();
    assert!(open().is_ok() && Checkpoint::open(&file("a.gguf")).is_ok());
    fs::write(file("b.gguf"), "nothing").unwrap();
    assert!(matches!(open(), Err(CheckpointError::SeveralFiles { files, .. }) if files == ["a.gguf", "b.gguf"]));
    assert!(matches!(Checkpoint::open(&file("missing")), Err(CheckpointError::Io { .. })));
}

#[test]
fn indexes_fit_the_files_beside_them() {
    let files = ["config.json", "model.safetensors.index.json"];
    let [first, second] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let all: Vec<&str> = files.into_iter().chain([first, second]).collect();
    let folder = copy("llama-sharded", &all);
    let file = |name: &str| folder.path().join(name);
    let error = || Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert!(Checkpoint::open(folder.path()).is_ok());
    fs::copy(file(second), file("model-00004-of-00004.safetensors")).unwrap();
    assert!(error().contains("does not name `model-00004-of-00004.safetensors`"), "{}", error());
    fs::remove_file(file("model-00004-of-00004.safetensors")).unwrap();
    fs::copy(file(first), file(second)).unwrap();
    assert!(error().contains("says that `model-00002-of-00002.safetensors` holds"), "{}", error());
    fs::remove_file(file(second)).unwrap();
    assert!(error().contains("names `model-00002-of-00002.safetensors`, which is not there"), "{}", error());
}

#[test]
fn safetensors_win_over_pytorch_files() {
    let folder = copy("torch-zip", &["config.json", "pytorch_model.bin"]);
    let has_halves = || Checkpoint::open(folder.path()).unwrap().storage("model.norm.weight") == Some(HALVES);
    const HALVES: Storage = Storage::Dense(DType::F16);
    assert!(!has_halves());
    fs::copy(fixture("llama-f16/model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    assert!(has_halves());
}

#[test]
fn quantised_weights_keep_their_bits_where_blocks_hold_them() {
    let storage = |name: &str| open(name).storage("model.layers.0.mlp.up_proj.weight").unwrap();
    assert_eq!(storage("gptq-symmetric"), Storage::Blocks(BlockFormat::Q4_0));
    assert_eq!(storage("gptq-zero-points"), Storage::Blocks(BlockFormat::Q5_0));
    assert_eq!(storage("gptq-permuted"), Storage::Dense(DType::F32));
    assert_eq!(storage("awq"), Storage::Blocks(BlockFormat::Q5_0));
    assert_eq!(storage("fp8"), Storage::Dense(DType::F32));
    assert_eq!(storage("llama-f8"), Storage::Dense(DType::F16));
}

#[test]
fn quantisations_that_are_not_implemented_are_named() {
    let error = |name: &str, key: &str, value: Value| {
        let folder = copy(name, &["config.json", "model.safetensors"]);
        let path = folder.path().join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config["quantization_config"][key] = value;
        fs::write(&path, config.to_string()).unwrap();
        Checkpoint::open(folder.path()).unwrap_err().to_string()
    };
    for (name, key, value) in [
        ("gptq-symmetric", "bits", json!(3)),
        ("gptq-symmetric", "checkpoint_format", json!("marlin")),
        ("gptq-symmetric", "quant_method", json!("hqq")),
        ("gptq-symmetric", "dynamic", json!({"-:.*": {}})),
        ("gptq-symmetric", "new_switch", json!(1)),
        ("awq", "version", json!("gemv")),
        ("awq", "zero_point", json!(false)),
        ("fp8", "activation_scheme", json!("static")),
        ("fp8", "weight_block_size", json!([16])),
    ] {
        let error = error(name, key, value);
        assert!(error.contains(&format!("quantization_config.{key}")), "{error}");
    }
    let misfit = error("gptq-symmetric", "group_size", json!(16));
    assert!(misfit.contains("quantised weight `model.layers.0.mlp.down_proj` has `scales`"), "{misfit}");
}
