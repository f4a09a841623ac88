//! Falcon-H1: attention and Mamba-2 side by side in each layer, with factors of nearly everything.
//! Sources: arXiv:2507.22448; transformers `models/falcon_h1`.

use serde_json::Value;

use super::ModelError;
use super::bamba::renamed;
use super::family::{Family, Head, Request};
use super::hybrid::{self, Keys};
use super::llama::{self, Defaults};
use crate::blocks::{Branch, Decoder, Factors, FeedForward, GatedNorm, LinearKind, Mamba2, Mixer, Size};
use crate::config::{ConfigError, ConfigReader};

pub(super) const FAMILY: Family = Family {
    model_type: "falcon_h1",
    architectures: &[("FalconH1Model", Head::None), ("FalconH1ForCausalLM", Head::LanguageModel)],
    build: |request| request.decoder(&read(request)?),
};

const DEFAULTS: Defaults = Defaults { eps: ("rms_norm_eps", 1e-5), ..Defaults::LLAMA };

/// Keys that transformers reads nowhere either.
const UNREAD: &[&str] = &[
    "attn_layer_indices",
    "mamba_chunk_size",
    "mamba_use_mlp",
    "mlp_expansion_factor",
    "num_logits_to_keep",
    "time_step_floor",
    "time_step_max",
    "time_step_min",
];

fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let config = request.config;
    config.disregard(UNREAD);
    let factor = |key: &str| config.number(key).map(|factor| factor.unwrap_or(1.0));
    let mut model = llama::decoder(request, &DEFAULTS)?;
    llama::biases(request, &mut model)?;
    renamed(&mut model);
    model.embedding.scale = factor("embedding_multiplier")?;
    model.scores.scale = factor("lm_head_multiplier")?;
    let mut attention = model.layers[0].attention().clone();
    attention.scale *= factor("key_multiplier")?;
    let branch = |name, mixer: Mixer, [input, output]: [f64; 2]| Branch { mixer: (name, mixer), input, output };
    let mixer = Mixer::Sum(vec![
        branch("mamba", mamba(config, &model.width)?.into(), [1.0, factor("ssm_out_multiplier")?]),
        branch(
            "self_attn",
            attention.into(),
            [factor("attention_in_multiplier")?, factor("attention_out_multiplier")?],
        ),
    ]);
    let of_mlp = factors::<2>(config, "mlp_multipliers")?;
    for layer in &mut model.layers {
        layer.mixer = ("", mixer.clone());
        if let FeedForward::Gated(mlp) = &layer.feed_forward.1 {
            layer.feed_forward.1 = FeedForward::Scaled(mlp.clone(), of_mlp);
        }
    }
    Ok(model)
}

fn mamba(config: &ConfigReader<'_>, width: &Size) -> Result<Mamba2, ModelError> {
    let expanded = hybrid::channels(config, "mamba_expand", width)?;
    let inner = match config.size("mamba_d_ssm")? {
        Some(inner) => inner,
        None if config.is_null("mamba_d_ssm") => expanded,
        None => 1024,
    };
    let eps = config.positive("rms_norm_eps")?.unwrap_or(DEFAULTS.eps.1);
    let mut mamba = hybrid::mamba2(config, width, Some(inner), eps, &Keys::BAMBA)?;
    mamba.linear[1] = LinearKind::with_bias(config.flag("projectors_bias", false)?);
    let before_gate = config.flag("mamba_norm_before_gate", true)?;
    mamba.norm = config.flag("mamba_rms_norm", false)?.then_some(GatedNorm { eps, before_gate });
    let input = config.number("ssm_in_multiplier")?.unwrap_or(1.0);
    let factors = Factors { input, parts: factors(config, "ssm_multipliers")? };
    mamba.factors = Some(factors).filter(|factors| factors.input != 1.0 || factors.parts != [1.0; 5]);
    Ok(mamba)
}

/// A list of so many factors, or ones.
fn factors<const N: usize>(config: &ConfigReader<'_>, key: &str) -> Result<[f64; N], ConfigError> {
    let Some(list) = config.get(key) else { return Ok([1.0; N]) };
    let factors: Option<Vec<f64>> = list.as_array().and_then(|list| list.iter().map(Value::as_f64).collect());
    let factors = factors.and_then(|factors| factors.try_into().ok());
    factors.ok_or_else(|| config.invalid(key, &format!("a list of {N} numbers")))
}
