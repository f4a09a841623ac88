//! Architectures: one file for each family, and the table that finds them.

mod albert;
mod bamba;
mod bart;
mod bert;
mod bloom;
mod cohere;
mod deberta;
mod deepseek;
mod delta;
mod description;
mod distilbert;
mod electra;
mod falcon;
mod falcon_h1;
mod family;
mod fla;
mod gemma;
mod glm;
mod gpt2;
mod gpt_bigcode;
mod gpt_neo;
mod gpt_neox;
mod gpt_oss;
mod gptj;
mod granite;
mod granite_hybrid;
mod hybrid;
mod hyenadna;
mod jamba;
mod kimi_linear;
mod layer_types;
mod lfm2;
mod llama;
mod mamba;
mod mamba2;
mod minimax;
mod mistral;
mod mixtral;
mod modernbert;
mod mpnet;
mod nemotron_h;
mod nomic_bert;
mod olmo;
mod olmo_hybrid;
mod opt;
mod phi;
mod phi3;
mod qwen2;
mod qwen3;
mod qwen3_next;
mod qwen_moe;
mod recurrent_gemma;
mod retnet;
mod roberta;
mod rope;
mod rwkv;
mod rwkv4;
mod rwkv_fla;
mod s4;
mod smollm3;
mod sparse;
mod stablelm;
mod starcoder2;
mod t5;
mod xlstm;
mod zamba;

use std::collections::BTreeMap;

use castiron_ir::{BuildError, Description, Module};
use serde_json::{Map, Value};

use crate::blocks::{Inventory, Pooling, SameValues, Size, TensorError};
use crate::checkpoint::Checkpoint;
use crate::config::{ConfigError, ConfigReader};
use family::{Family, Head, Request};

/// Every family of architectures.
const FAMILIES: &[&Family] = &[
    &albert::FAMILY,
    &bamba::FAMILY,
    &bart::BART,
    &bart::MARIAN,
    &bart::MBART,
    &bart::PEGASUS,
    &bert::FAMILY,
    &bloom::FAMILY,
    &cohere::COHERE,
    &cohere::COHERE2,
    &deberta::FIRST,
    &deberta::SECOND,
    &deepseek::V2,
    &deepseek::V3,
    &distilbert::FAMILY,
    &electra::FAMILY,
    &falcon::FAMILY,
    &falcon_h1::FAMILY,
    &gemma::GEMMA,
    &gemma::GEMMA2,
    &gemma::GEMMA3,
    &glm::GLM,
    &glm::GLM4,
    &gpt2::FAMILY,
    &gpt_bigcode::FAMILY,
    &gpt_neo::FAMILY,
    &gpt_neox::FAMILY,
    &gpt_oss::FAMILY,
    &gptj::FAMILY,
    &granite::FAMILY,
    &granite::MIXTURE,
    &granite_hybrid::FAMILY,
    &jamba::FAMILY,
    &lfm2::DENSE,
    &lfm2::MIXTURE,
    &kimi_linear::FAMILY,
    &hyenadna::FAMILY,
    &llama::FAMILY,
    &mamba2::FAMILY,
    &mamba::FALCON,
    &mamba::MAMBA,
    &minimax::FAMILY,
    &mistral::FAMILY,
    &mixtral::FAMILY,
    &modernbert::FAMILY,
    &mpnet::FAMILY,
    &nemotron_h::FAMILY,
    &nomic_bert::FAMILY,
    &olmo::OLMO2,
    &olmo::OLMO3,
    &olmo_hybrid::FAMILY,
    &opt::FAMILY,
    &phi3::FAMILY,
    &phi::FAMILY,
    &qwen2::FAMILY,
    &qwen3::FAMILY,
    &qwen3_next::DENSE,
    &qwen3_next::MIXTURE,
    &qwen3_next::NEXT,
    &qwen_moe::QWEN2,
    &qwen_moe::QWEN3,
    &recurrent_gemma::FAMILY,
    &retnet::GLA,
    &retnet::RETNET,
    &roberta::CAMEMBERT,
    &roberta::ROBERTA,
    &roberta::XLM_ROBERTA,
    &rwkv4::FAMILY,
    &rwkv::FIFTH,
    &rwkv::SEVENTH,
    &rwkv::SIXTH,
    &s4::FAMILY,
    &smollm3::FAMILY,
    &stablelm::FAMILY,
    &starcoder2::FAMILY,
    &t5::MT5,
    &t5::T5,
    &t5::UMT5,
    &xlstm::FAMILY,
    &zamba::FIRST,
    &zamba::SECOND,
];

/// A checkpoint that no builder can turn into a graph.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// An architecture that no builder knows.
    #[error("architecture `{found}` is not known; the known families are {}", known())]
    Architecture {
        /// What the config says.
        found: String,
    },
    /// A config that asks for what is not there.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A config that does not fit the tensors.
    #[error(transparent)]
    Tensors(#[from] TensorError),
    /// Extents that contradict one another.
    #[error("the graph cannot be built: {0}")]
    Build(#[from] BuildError),
}

/// Names of the families, for people.
pub fn known() -> String {
    FAMILIES.iter().map(|family| family.model_type).collect::<Vec<_>>().join(", ")
}

/// What a checkpoint says of its model.
pub struct Sources<'a> {
    /// `config.json`.
    pub config: &'a Map<String, Value>,
    /// `generation_config.json`.
    pub generation: Option<&'a Map<String, Value>>,
    /// How sentences are embedded, for sentence encoders.
    pub pooling: Option<Pooling>,
    /// Tokens after which a sentence encoder cuts its input.
    pub max_input: Option<usize>,
    /// Names and extents of the tensors; none where there is only a config.
    pub shapes: Option<BTreeMap<String, Vec<usize>>>,
    /// Tells whether two tensors hold the same values.
    pub same_values: &'a SameValues<'a>,
}

/// A model as a graph of plain ops, and what it is for.
#[derive(Debug)]
pub struct Model {
    /// Entries `forward`; `step` of models that generate, and `encode` of those that read a source; `embed` of
    /// sentence encoders.
    pub module: Module,
    /// What the outputs mean, how texts are read.
    pub description: Description,
    /// The tensors that the model is made of, with their shapes by the config.
    pub tensors: BTreeMap<String, Vec<usize>>,
}

/// Builds the graph of an opened checkpoint.
///
/// # Errors
/// As [`build`].
pub fn of(checkpoint: &Checkpoint) -> Result<Model, ModelError> {
    build(Sources {
        config: &checkpoint.config,
        generation: checkpoint.generation.as_ref(),
        pooling: checkpoint.sentence.as_ref().map(|s| s.pooling.clone()),
        max_input: checkpoint.sentence.as_ref().and_then(|s| s.max_input),
        shapes: checkpoint.shapes(),
        same_values: &|a, b| checkpoint.same_values(a, b),
    })
}

/// Builds the graph of a checkpoint from what it says of itself.
///
/// # Errors
/// An unknown architecture; config keys that are missing, invalid or not implemented; tensors that
/// are missing, left over or of another shape.
pub fn build(sources: Sources<'_>) -> Result<Model, ModelError> {
    let config = ConfigReader::new(sources.config);
    let (family, name, head) = architecture(&config)?;
    let tensors = Inventory::new(sources.shapes, sources.same_values);
    let labels = description::labels(&config, head)?;
    let count = Size::new(labels.len(), "number of labels");
    let request = Request { config: &config, tensors: &tensors, head, labels: count, pooling: sources.pooling };
    let built = (family.build)(&request)?;
    let description = Description {
        architecture: name.to_owned(),
        task: head.task(),
        labels,
        exclusive_labels: config.text("problem_type")? != Some("multi_label_classification"),
        max_positions: built.max_positions,
        recompute_beyond: built.recompute_beyond,
        max_input: sources.max_input.map(|length| length.min(built.max_positions.unwrap_or(length))),
        generation: description::generation(&config, sources.generation)?,
    };
    config.finish()?;
    Ok(Model { module: Module { entries: built.entries }, description, tensors: tensors.used() })
}

/// The family, the architecture's name and its head; the base model for a config that names none.
fn architecture(config: &ConfigReader<'_>) -> Result<(&'static Family, &'static str, Head), ModelError> {
    let model_type = config.text("model_type")?;
    let named = match config.get("architectures") {
        None => None,
        Some(Value::Array(names)) => names.first().and_then(Value::as_str),
        Some(_) => return Err(config.invalid("architectures", "a list of names").into()),
    };
    let mut all = FAMILIES.iter().flat_map(|&family| family.architectures.iter().map(move |&(n, h)| (family, n, h)));
    let found = match named {
        Some(name) => all.find(|&(_, known, _)| known == name),
        None => all.find(|(family, _, _)| model_type == Some(family.model_type)),
    };
    let unknown = || named.or(model_type).unwrap_or("(none)").to_owned();
    found.ok_or_else(|| ModelError::Architecture { found: unknown() })
}

#[cfg(test)]
mod tests;
