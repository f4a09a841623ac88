//! Architectures: one file each, and the table that finds them.

mod bert;
mod description;
mod gpt2;
mod llama;
mod rope;

use std::collections::BTreeMap;

use castiron_ir::{BuildError, Description, Entry, Module, Task};
use serde_json::{Map, Value};

use crate::blocks::{Decoder, Inventory, Pooling, SameValues, TensorError, hidden_entries, language_model_entries};
use crate::checkpoint::Checkpoint;
use crate::config::{ConfigError, ConfigReader};
use gpt2::Gpt2;
use llama::Llama;

/// A checkpoint that no builder can turn into a graph.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// An architecture that no builder knows.
    #[error("architecture `{found}` is not known; the known ones are {}", known())]
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

/// What stands on top of the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    None,
    LanguageModel,
    MaskedTokens,
    Sequence,
    Tokens,
    Span,
}

#[derive(Clone, Copy)]
enum Family {
    Bert,
    Gpt2,
    Llama,
}

/// Name, family, head and task of each architecture.
const ARCHITECTURES: &[(&str, Family, Head, Task)] = &[
    ("BertModel", Family::Bert, Head::None, Task::FeatureExtraction),
    ("BertForMaskedLM", Family::Bert, Head::MaskedTokens, Task::FillMask),
    ("BertForSequenceClassification", Family::Bert, Head::Sequence, Task::SequenceClassification),
    ("BertForTokenClassification", Family::Bert, Head::Tokens, Task::TokenClassification),
    ("BertForQuestionAnswering", Family::Bert, Head::Span, Task::QuestionAnswering),
    ("GPT2Model", Family::Gpt2, Head::None, Task::FeatureExtraction),
    ("GPT2LMHeadModel", Family::Gpt2, Head::LanguageModel, Task::TextGeneration),
    ("LlamaModel", Family::Llama, Head::None, Task::FeatureExtraction),
    ("LlamaForCausalLM", Family::Llama, Head::LanguageModel, Task::TextGeneration),
];

/// The base model of each `model_type`, for configs that name no architecture.
const BASE_MODELS: &[(&str, &str)] = &[("bert", "BertModel"), ("gpt2", "GPT2Model"), ("llama", "LlamaModel")];

/// Names of the architectures, for people.
pub fn known() -> String {
    ARCHITECTURES.iter().map(|a| a.0).collect::<Vec<_>>().join(", ")
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
    /// Names and extents of the tensors.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// Tells whether two tensors hold the same values.
    pub same_values: &'a SameValues<'a>,
}

/// A model as a graph of plain ops, and what it is for.
#[derive(Debug)]
pub struct Model {
    /// Entries `forward`, and `step` (decoders) or `embed` (sentence encoders).
    pub module: Module,
    /// What the outputs mean, how texts are read.
    pub description: Description,
}

/// Builds the graph of an opened checkpoint.
///
/// # Errors
/// As [`build`].
pub fn of(checkpoint: &Checkpoint) -> Result<Model, ModelError> {
    build(Sources {
        config: &checkpoint.config,
        generation: checkpoint.generation.as_ref(),
        pooling: checkpoint.sentence.map(|s| s.pooling),
        max_input: checkpoint.sentence.and_then(|s| s.max_input),
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
    let &(name, family, head, task) = architecture(&config)?;
    let tensors = Inventory::new(sources.shapes, sources.same_values);
    let labels = description::labels(&config, head)?;
    let entries: Vec<Entry> = match family {
        Family::Bert => bert::entries(&config, &tensors, head, labels.len(), sources.pooling)?,
        Family::Gpt2 => decoder_entries(&Gpt2::read(&config, &tensors)?, &tensors, head, gpt2::KNOWN_UNUSED)?,
        Family::Llama => decoder_entries(&Llama::read(&config, &tensors)?, &tensors, head, llama::KNOWN_UNUSED)?,
    };
    let description = Description {
        architecture: name.to_owned(),
        task,
        labels,
        exclusive_labels: config.text("problem_type")? != Some("multi_label_classification"),
        max_positions: match family {
            Family::Bert => config.size("max_position_embeddings")?,
            Family::Gpt2 => config.size("n_positions")?,
            Family::Llama => None, // rotary positions go on for ever
        },
        max_input: sources.max_input,
        generation: description::generation(&config, sources.generation)?,
    };
    config.finish()?;
    Ok(Model { module: Module { entries }, description })
}

/// The entries of a decoder, with a check that all tensors are used but those that are known not to be.
fn decoder_entries(
    model: &impl Decoder,
    tensors: &Inventory<'_>,
    head: Head,
    known_unused: &[&'static str],
) -> Result<Vec<Entry>, ModelError> {
    let mut known_unused = known_unused.to_vec();
    let entries = match head {
        Head::LanguageModel => language_model_entries(model, tensors)?,
        _ => {
            known_unused.push("lm_head.weight");
            hidden_entries(model, tensors)?
        }
    };
    tensors.check(&known_unused)?;
    Ok(entries)
}

fn architecture(config: &ConfigReader<'_>) -> Result<&'static (&'static str, Family, Head, Task), ModelError> {
    let model_type = config.text("model_type")?;
    let named = match config.get("architectures") {
        None => None,
        Some(Value::Array(names)) => names.first().and_then(Value::as_str),
        Some(_) => return Err(config.invalid("architectures", "a list of names").into()),
    };
    let base = || BASE_MODELS.iter().find(|(kind, _)| model_type == Some(kind)).map(|(_, name)| *name);
    let name = named.or_else(base);
    let found = ARCHITECTURES.iter().find(|a| name == Some(a.0));
    let unknown = || name.or(model_type).unwrap_or("(none)").to_owned();
    found.ok_or_else(|| ModelError::Architecture { found: unknown() })
}

#[cfg(test)]
mod tests;
