//! SmolLM3: LLaMA that leaves every fourth layer without positions.
//! Sources: transformers `models/smollm3/modeling_smollm3.py`; arXiv:2501.18795 for layers without positions.

use serde_json::Value;

use super::ModelError;
use super::family::{Family, Head, Request};
use super::layer_types;
use super::llama::{self, Defaults};
use crate::blocks::Decoder;
use crate::config::{ConfigError, ConfigReader};

pub(super) const FAMILY: Family = Family {
    model_type: "smollm3",
    architectures: &[
        ("SmolLM3Model", Head::None),
        ("SmolLM3ForCausalLM", Head::LanguageModel),
        ("SmolLM3ForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&read(request)?),
};

fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let config = request.config;
    let mut model = llama::decoder(request, &Defaults { tie: true, theta: 2_000_000.0, ..Defaults::LLAMA })?;
    llama::biases(request, &mut model)?;
    let rotated = rotated(config, model.layers.len())?;
    let (used, window) = (config.flag("use_sliding_window", false)?, config.size("sliding_window")?);
    let window = window.filter(|_| used);
    let sliding = layer_types::sliding(config, model.layers.len(), |i| window.is_some() && !rotated[i])?;
    for (i, layer) in model.layers.iter_mut().enumerate() {
        layer.attention_mut().rotary = rotated[i].then_some(0);
        layer.attention_mut().window = window.filter(|_| sliding[i]);
    }
    Ok(model)
}

/// Which layers turn their heads.
fn rotated(config: &ConfigReader<'_>, count: usize) -> Result<Vec<bool>, ConfigError> {
    let period = config.size("no_rope_layer_interval")?.unwrap_or(4);
    let Some(list) = config.get("no_rope_layers") else {
        return Ok((0..count).map(|i| (i + 1) % period != 0).collect());
    };
    let flag = |v: &Value| v.as_u64().filter(|&v| v < 2).map(|v| v == 1);
    let flags: Option<Vec<bool>> = list.as_array().and_then(|list| list.iter().map(flag).collect());
    let expected = format!("a list of {count} times 0 or 1");
    flags.filter(|flags| flags.len() == count).ok_or_else(|| config.invalid("no_rope_layers", &expected))
}
