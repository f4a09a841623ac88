//! Rotary positions of a GGUF file as transformers' `rope_parameters`.
//!
//! Divisors of the frequencies (`rope_freqs.weight`, which llama.cpp's converter computes for llama3's scaling)
//! become `longrope` with equal short and long factors and an attention factor of one, whose frequencies are
//! `1 / (factor_j · theta^(2j/d))` at every length.

use castiron_ir::{DType, Storage, StoredTensor};
use serde_json::{Map, Value as Json, json};

use super::GgufError;
use super::architecture::{Reader, Sizes};

const DIVISORS: &str = "rope_freqs.weight";
const SHORT: &str = "rope_factors_short.weight";
const LONG: &str = "rope_factors_long.weight";

/// Tensors that the config speaks for.
pub(super) const TENSORS: [&str; 3] = [DIVISORS, SHORT, LONG];

/// What an architecture assumes where a file is silent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rope {
    /// Base of the frequencies.
    pub(super) theta: f64,
}

/// `rope_parameters` of transformers' config.
pub(super) fn parameters(file: &Reader<'_>, rope: Rope, sizes: &Sizes) -> Result<Json, GgufError> {
    let keys = file.keys;
    let key = |name: &str| file.key(&format!("rope.{name}"));
    let positive = |name: &str| match keys.number(&key(name))? {
        Some(x) if x <= 0.0 => Err(GgufError::key(&key(name), "is not positive")),
        other => Ok(other),
    };
    let positions = keys.required_size(&file.key("context_length"))?;
    keys.flag(&key("scaling.finetuned"))?;
    let theta = positive("freq_base")?.unwrap_or(rope.theta);
    let old_factor = keys.number(&key("scale_linear"))?.filter(|&factor| factor != 0.0);
    let factor = keys.number(&key("scaling.factor"))?.filter(|&factor| factor != 0.0).or(old_factor).unwrap_or(1.0);
    let kind = keys.text(&key("scaling.type"))?;
    let attention = positive("scaling.attn_factor")?.unwrap_or(1.0);
    let original = keys.size(&key("scaling.original_context_length"))?.filter(|&n| n > 0).unwrap_or(positions);
    if factor < 0.0 {
        return Err(GgufError::key(&key("scaling.factor"), "is negative"));
    }
    let factors = |name| file.find(name).map(|info| divisors(file, info, sizes.rotary / 2)).transpose();
    if let (Some(short), Some(long)) = (factors(SHORT)?, factors(LONG)?) {
        let mut parameters = json!({
            "rope_type": "longrope",
            "rope_theta": theta,
            "short_factor": short,
            "long_factor": long,
            "original_max_position_embeddings": original,
        });
        if attention != 1.0 {
            parameters["attention_factor"] = attention.into();
        }
        return Ok(parameters);
    }
    let kind = kind.unwrap_or("linear");
    if kind != "yarn" && attention != 1.0 {
        return Err(GgufError::key(&key("scaling.attn_factor"), "is supported with YaRN only"));
    }
    Ok(match (kind, factors(DIVISORS)?) {
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
        ("yarn", None) => yarn(file, theta, factor, attention, original)?,
        ("yarn", Some(_)) => return Err(GgufError::tensor(DIVISORS, "is not supported together with YaRN")),
        (other, _) => {
            return Err(GgufError::key(&key("scaling.type"), format!("is `{other}`, expected none, linear or yarn")));
        }
    })
}

/// Adds what a file does not say, or says elsewhere, to a config's parameters if they are YaRN's.
pub(super) fn add_to_yarn(config: &mut Map<String, Json>, more: &[(&str, Json)]) {
    let parameters = config.get_mut("rope_parameters").and_then(Json::as_object_mut);
    let is_yarn = |parameters: &&mut Map<String, Json>| parameters.get("rope_type").is_some_and(|kind| kind == "yarn");
    if let Some(parameters) = parameters.filter(is_yarn) {
        parameters.extend(more.iter().map(|(key, value)| (key.to_string(), value.clone())));
    }
}

/// What each of `pairs` frequencies is divided by.
fn divisors(file: &Reader<'_>, info: &super::tensors::TensorInfo, pairs: usize) -> Result<Vec<f64>, GgufError> {
    let problem = |problem: String| GgufError::tensor(&info.name, problem);
    if info.shape != [pairs] || info.storage() != Storage::Dense(DType::F32) {
        return Err(problem(format!("is no f32[{pairs}]")));
    }
    let bytes = file.files[info.file][info.bytes.clone()].into();
    let stored = StoredTensor { shape: info.shape.clone(), storage: info.storage(), bytes };
    let mut divisors = vec![0.0; pairs];
    stored.read(0, &mut divisors);
    match divisors.iter().find(|d| !(d.is_finite() && **d > 0.0)) {
        Some(divisor) => Err(problem(format!("holds {divisor}"))),
        None => Ok(divisors.into_iter().map(f64::from).collect()),
    }
}

/// YaRN. llama.cpp multiplies `attn_factor` to the factor that the paper suggests.
fn yarn(file: &Reader<'_>, theta: f64, factor: f64, attention: f64, original: usize) -> Result<Json, GgufError> {
    let keys = file.keys;
    let key = |name: &str| file.key(&format!("rope.scaling.yarn_{name}"));
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
