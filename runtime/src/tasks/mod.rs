//! What models are for: texts in, answers out, over the entries of an artifact.
//!
//! A [`Pipeline`] is a model with its text handling. Its methods stand in a file for each task:
//! [`generate`] (with [`source`] for what encoder–decoders read), [`embed`], [`classify`], [`fill_mask`], [`answer`].

pub mod answer;
pub mod classify;
pub mod embed;
pub mod fill_mask;
pub mod generate;
mod source;

use std::path::Path;
use std::sync::Arc;

use castiron_ir::{Description, Task};

use crate::session::{Model, Options, Outputs, RunError, Session};
use crate::tensor::{TensorError, TensorRef};
use crate::text::{Batch, EncodeOptions, NoCandidate, Text, TextError};

/// Why a task has no result.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The model did not run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A text could not be handled.
    #[error(transparent)]
    Text(#[from] TextError),
    /// An output is not of the type that the task expects.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// No token can follow.
    #[error(transparent)]
    NoCandidate(#[from] NoCandidate),
    /// The model is for something else.
    #[error("this model is for {}, not for {}", found.name(), wanted.name())]
    WrongTask {
        /// What it is for.
        found: Task,
        /// What was asked of it.
        wanted: Task,
    },
    /// An entry lacks an output that the task reads.
    #[error("entry `{entry}` has no output `{output}` of the shape that {task} needs", task = task.name())]
    Output {
        /// The entry.
        entry: &'static str,
        /// The output.
        output: &'static str,
        /// The task.
        task: Task,
    },
    /// A text of more tokens than the model can tell positions apart.
    #[error("the text has {tokens} tokens, the model takes at most {limit}")]
    TooLong {
        /// Its tokens.
        tokens: usize,
        /// The limit.
        limit: usize,
    },
    /// A prompt without tokens.
    #[error("the prompt has no tokens")]
    EmptyPrompt,
    /// An encoder–decoder of which nothing says how its texts begin.
    #[error(
        "nothing says which token the text begins with; generation_config.json names it as `decoder_start_token_id`"
    )]
    NoStart,
    /// A text without anything to fill in.
    #[error("the text holds no mask; write {0} where a token is to be filled in")]
    NoMask(String),
}

/// A model with its text handling.
///
/// ```no_run
/// use castiron_runtime::tasks::{Pipeline, generate::Request};
/// use castiron_runtime::session::Options;
///
/// let mut pipeline = Pipeline::open("smol.iron", Options::default())?;
/// let prompt = pipeline.text().tokenizer()?.encode("Iron is", Default::default())?.ids;
/// let answer = pipeline.generate(&[prompt], &Request::of_model(pipeline.description(), 32), &mut |_| true)?;
/// println!("{}", pipeline.text().tokenizer()?.decode(&answer.rows[0].tokens, true)?);
/// # Ok::<(), castiron_runtime::tasks::TaskError>(())
/// ```
pub struct Pipeline {
    model: Model,
    text: Arc<Text>,
    session: Option<Session>,
}

/// The tokenizer where it lies in a model's artifact.
struct TokenizerOf(Model);

impl AsRef<[u8]> for TokenizerOf {
    fn as_ref(&self) -> &[u8] {
        self.0.artifact().tokenizer().unwrap_or_default()
    }
}

impl Pipeline {
    /// Opens an artifact.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Pipeline, TaskError> {
        Ok(Pipeline::new(Model::open(path, options)?))
    }

    /// Takes a model.
    pub fn new(model: Model) -> Pipeline {
        let text = Text::with_tokenizer(model.artifact().text().clone(), TokenizerOf(model.clone()));
        Pipeline { model, text: Arc::new(text), session: None }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// What the model is for.
    pub fn description(&self) -> &Description {
        self.model.artifact().description()
    }

    /// Tokenizer and chat template, shared so that they can be used while the model runs.
    pub fn text(&self) -> &Arc<Text> {
        &self.text
    }

    fn require(&self, wanted: Task) -> Result<(), TaskError> {
        let found = self.description().task;
        if found == wanted { Ok(()) } else { Err(TaskError::WrongTask { found, wanted }) }
    }

    /// Options for texts that the model reads whole: cut where a sentence encoder cuts.
    fn encode_options(&self) -> EncodeOptions {
        self.description().max_input.map_or_else(EncodeOptions::default, EncodeOptions::at_most)
    }

    fn check_length(&self, tokens: usize) -> Result<(), TaskError> {
        match self.description().max_positions {
            Some(limit) if tokens > limit => Err(TaskError::TooLong { tokens, limit }),
            _ => Ok(()),
        }
    }

    /// Runs an entry on a batch of texts; token types go to models that take them.
    fn run_batch(&mut self, entry: &'static str, batch: &Batch) -> Result<Outputs<'_>, TaskError> {
        self.check_length(batch.length)?;
        let shape = [batch.rows, batch.length];
        let integers = |values: &[u32]| values.iter().map(|&v| v as i32).collect::<Vec<i32>>();
        let (ids, mask) = (integers(&batch.ids), integers(&batch.attention_mask));
        let types = integers(&batch.token_type_ids);
        let mut inputs =
            vec![("input_ids", TensorRef::i32(&shape, &ids)?), ("attention_mask", TensorRef::i32(&shape, &mask)?)];
        let takes = |name: &str| self.model.entry(entry).is_some_and(|e| e.inputs.iter().any(|(n, _)| n == name));
        if takes("token_type_ids") {
            inputs.push(("token_type_ids", TensorRef::i32(&shape, &types)?));
        }
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(self.model.smallest_session()?),
        };
        Ok(session.run(entry, &inputs)?)
    }
}

/// `e^(x_i) / Σ e^(x_j)`.
fn softmax(scores: &[f32]) -> Vec<f32> {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f32> = scores.iter().map(|x| (x - largest).exp()).collect();
    let sum: f32 = weights.iter().sum();
    weights.into_iter().map(|w| w / sum).collect()
}

/// Rows of the last axis of an output.
fn rows(tensor: TensorRef<'_>) -> Result<std::slice::ChunksExact<'_, f32>, TensorError> {
    let width = tensor.shape().last().copied().unwrap_or(1).max(1);
    Ok(tensor.as_f32()?.chunks_exact(width))
}
