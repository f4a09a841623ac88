//! A `llama` GGUF file as transformers' `LlamaForCausalLM`: names of tensors, config.
//!
//! llama.cpp's converter interleaves the rows of each query and key head, so that a rotary pair is
//! two neighbours; transformers keeps the pair half a head apart.
//!
//! Rotary scaling becomes `rope_parameters`. Divisors of the frequencies (`rope_freqs.weight`, which
//! the converter computes for llama3's scaling) become `longrope` with equal short and long factors
//! and an attention factor of one, whose frequencies are `1 / (factor_j · theta^(2j/d))` at every
//! length.

use castiron_ir::{DType, Storage, StoredTensor};
use serde_json::{Map, Value as Json, json};

use super::super::stored::{Recipe, Rows, Span};
use super::metadata::Keys;
use super::tensors::TensorInfo;
use super::{GgufError, Model, Stored};

const DIVISORS: &str = "rope_freqs.weight";

/// Parts of a layer, in llama.cpp's words and in transformers'.
const LAYER: [(&str, &str); 9] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

const TOP: [(&str, &str); 3] =
    [("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("output", "lm_head")];

/// Numbers that both config and tensors go by.
struct Sizes {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
}

pub(super) fn model(keys: &Keys<'_>, infos: &[TensorInfo], bytes: &[u8]) -> Result<Model, GgufError> {
    let width = keys.required_size("llama.embedding_length")?;
    let heads = keys.required_size("llama.attention.head_count")?;
    let kv_heads = keys.size("llama.attention.head_count_kv")?.unwrap_or(heads);
    let head_dim = head_dim(keys, width, heads)?;
    let sizes = Sizes { heads, kv_heads, head_dim };
    let find = |name: &str| infos.iter().find(|info| info.name == name);
    let table = find("token_embd.weight").ok_or_else(|| GgufError::tensor("token_embd.weight", "is missing"))?;
    let divisors = find(DIVISORS).map(|info| divisors(info, bytes, head_dim / 2)).transpose()?;
    for key in ["llama.expert_count", "llama.expert_used_count"] {
        if keys.size(key)?.is_some_and(|count| count > 0) {
            return Err(GgufError::key(key, "asks for experts, which are not supported"));
        }
    }
    if keys.text("llama.tensor_data_layout")?.is_some_and(|layout| layout != "Meta AI original pth") {
        return Err(GgufError::key("llama.tensor_data_layout", "is a layout that is not supported"));
    }
    keys.size("llama.vocab_size")?;
    let positions = keys.required_size("llama.context_length")?;
    let config = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": table.shape[0],
        "hidden_size": width,
        "intermediate_size": keys.required_size("llama.feed_forward_length")?,
        "num_hidden_layers": keys.required_size("llama.block_count")?,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": positions,
        "rms_norm_eps": keys.number("llama.attention.layer_norm_rms_epsilon")?
            .ok_or_else(|| GgufError::key("llama.attention.layer_norm_rms_epsilon", "is missing"))?,
        "rope_parameters": rope(keys, positions, divisors)?,
        "attention_bias": find("blk.0.attn_q.bias").is_some(),
        "mlp_bias": find("blk.0.ffn_up.bias").is_some(),
        "tie_word_embeddings": find("output.weight").is_none(),
        "bos_token_id": keys.token("tokenizer.ggml.bos_token_id")?,
        "eos_token_id": keys.token("tokenizer.ggml.eos_token_id")?,
        "pad_token_id": keys.token("tokenizer.ggml.padding_token_id")?,
    });
    keys.finish("llama.")?;
    let Json::Object(config) = config else { unreachable!("an object literal") };
    let tensors = infos.iter().filter(|info| info.name != DIVISORS).map(|info| locate(info, &sizes));
    Ok(Model { config, tensors: tensors.collect::<Result<_, _>>()? })
}

fn head_dim(keys: &Keys<'_>, width: usize, heads: usize) -> Result<usize, GgufError> {
    let head_dim = keys.size("llama.attention.key_length")?.unwrap_or(width / heads);
    if head_dim == 0 || head_dim % 2 == 1 {
        return Err(GgufError::key("llama.attention.key_length", format!("makes heads of {head_dim} channels")));
    }
    for key in ["llama.attention.value_length", "llama.rope.dimension_count"] {
        if let Some(other) = keys.size(key)?.filter(|&other| other != head_dim) {
            let problem = format!("is {other} where heads have {head_dim} channels, which is not supported");
            return Err(GgufError::key(key, problem));
        }
    }
    Ok(head_dim)
}

/// What each of `pairs` frequencies is divided by.
fn divisors(info: &TensorInfo, bytes: &[u8], pairs: usize) -> Result<Vec<f64>, GgufError> {
    let problem = |problem: String| GgufError::tensor(&info.name, problem);
    if info.shape != [pairs] || info.storage != Storage::Dense(DType::F32) {
        return Err(problem(format!("is no f32[{pairs}]")));
    }
    let stored =
        StoredTensor { shape: info.shape.clone(), storage: info.storage, bytes: bytes[info.bytes.clone()].into() };
    let mut divisors = vec![0.0; pairs];
    stored.read(0, &mut divisors);
    match divisors.iter().find(|d| !(d.is_finite() && **d > 0.0)) {
        Some(divisor) => Err(problem(format!("holds {divisor}"))),
        None => Ok(divisors.into_iter().map(f64::from).collect()),
    }
}

/// `rope_parameters` of transformers' config.
fn rope(keys: &Keys<'_>, positions: usize, divisors: Option<Vec<f64>>) -> Result<Json, GgufError> {
    let key = |name: &str| format!("llama.rope.{name}");
    let positive = |name: &str| match keys.number(&key(name))? {
        Some(x) if x <= 0.0 => Err(GgufError::key(&key(name), "is not positive")),
        other => Ok(other),
    };
    keys.flag(&key("scaling.finetuned"))?;
    let theta = positive("freq_base")?.unwrap_or(10_000.0);
    let old_factor = keys.number(&key("scale_linear"))?.filter(|&factor| factor != 0.0);
    let factor = keys.number(&key("scaling.factor"))?.filter(|&factor| factor != 0.0).or(old_factor).unwrap_or(1.0);
    let kind = keys.text(&key("scaling.type"))?.unwrap_or("linear");
    let attention = positive("scaling.attn_factor")?.unwrap_or(1.0);
    let original = keys.size(&key("scaling.original_context_length"))?.filter(|&n| n > 0).unwrap_or(positions);
    if factor < 0.0 {
        return Err(GgufError::key(&key("scaling.factor"), "is negative"));
    }
    if kind != "yarn" && attention != 1.0 {
        return Err(GgufError::key(&key("scaling.attn_factor"), "is supported with YaRN only"));
    }
    Ok(match (kind, divisors) {
        ("none" | "linear", Some(divisors)) => {
            let stretch = if kind == "linear" { factor } else { 1.0 };
            let factors: Vec<f64> = divisors.iter().map(|divisor| divisor * stretch).collect();
            json!({
                "rope_type": "longrope",
                "rope_theta": theta,
                "short_factor": factors,
                "long_factor": factors,
                "attention_factor": 1.0,
                "original_max_position_embeddings": positions,
            })
        }
        ("linear", None) if factor != 1.0 => json!({"rope_type": "linear", "rope_theta": theta, "factor": factor}),
        ("none" | "linear", None) => json!({"rope_type": "default", "rope_theta": theta}),
        ("yarn", None) => yarn(keys, theta, factor, attention, original)?,
        ("yarn", Some(_)) => return Err(GgufError::tensor(DIVISORS, "is not supported together with YaRN")),
        (other, _) => {
            return Err(GgufError::key(&key("scaling.type"), format!("is `{other}`, expected none, linear or yarn")));
        }
    })
}

/// YaRN. llama.cpp multiplies `attn_factor` to the factor that the paper suggests.
fn yarn(keys: &Keys<'_>, theta: f64, factor: f64, attention: f64, original: usize) -> Result<Json, GgufError> {
    let key = |name: &str| format!("llama.rope.scaling.yarn_{name}");
    if keys.number(&key("ext_factor"))?.is_some_and(|share| share != 1.0 && share >= 0.0) {
        return Err(GgufError::key(&key("ext_factor"), "is supported as 1 only"));
    }
    let attention = attention * keys.number(&key("attn_factor"))?.filter(|&x| x > 0.0).unwrap_or(1.0);
    let mut parameters = Map::new();
    parameters.insert("rope_type".into(), "yarn".into());
    parameters.insert("rope_theta".into(), theta.into());
    parameters.insert("factor".into(), factor.into());
    parameters.insert("original_max_position_embeddings".into(), original.into());
    for name in ["beta_fast", "beta_slow"] {
        if let Some(beta) = keys.number(&key(name))?.filter(|&beta| beta > 0.0) {
            parameters.insert(name.into(), beta.into());
        }
    }
    if attention != 1.0 {
        let suggested = 0.1 * factor.max(1.0).ln() + 1.0;
        parameters.insert("attention_factor".into(), (attention * suggested).into());
    }
    Ok(parameters.into())
}

/// A tensor under transformers' name; one that is not known keeps its own.
fn locate(info: &TensorInfo, sizes: &Sizes) -> Result<(String, Stored), GgufError> {
    let name = translated(&info.name).unwrap_or_else(|| info.name.clone());
    let heads = match info.name.rsplit('.').nth(1) {
        Some("attn_q") => Some(sizes.heads),
        Some("attn_k") => Some(sizes.kv_heads),
        _ => None,
    };
    if let Some(heads) = heads {
        let rows = heads * sizes.head_dim;
        if info.shape[0] != rows {
            let problem = format!("has {} rows, expected {rows} ({heads} heads × {})", info.shape[0], sizes.head_dim);
            return Err(GgufError::tensor(&info.name, problem));
        }
        if info.shape.len() == 1 && info.storage.block().0 > 1 {
            return Err(GgufError::tensor(
                &info.name,
                "is a vector stored in blocks, whose rows cannot be put in order",
            ));
        }
    }
    let span = Span { file: 0, bytes: info.bytes.clone() };
    let recipe = match heads {
        Some(outer) => Recipe::Rows(Rows { spans: vec![span], outer, groups: 2, parts: vec![1; sizes.head_dim / 2] }),
        None => Recipe::Plain(span),
    };
    Ok((name, Stored { shape: info.shape.clone(), storage: info.storage, recipe }))
}

/// `blk.3.ffn_up.weight` is `model.layers.3.mlp.up_proj.weight`.
fn translated(name: &str) -> Option<String> {
    let (stem, kind) = name.rsplit_once('.').filter(|(_, kind)| matches!(*kind, "weight" | "bias"))?;
    let lookup = |table: &[(&str, &'static str)], word| table.iter().find(|(own, _)| *own == word).map(|(_, hf)| *hf);
    if let Some(top) = lookup(&TOP, stem) {
        return Some(format!("{top}.{kind}"));
    }
    let (layer, part) = stem.strip_prefix("blk.")?.split_once('.')?;
    let part = lookup(&LAYER, part)?;
    layer.bytes().all(|b| b.is_ascii_digit()).then(|| format!("model.layers.{layer}.{part}.{kind}"))
}
