//! Entries that every decoder has.

use castiron_ir::op::Gather;
use castiron_ir::{BuildError, Entry, Value};

use super::{Inventory, ModelBuilder, Tokens};

/// A causal model of token sequences, in parts that its entries put together.
pub trait Decoder {
    /// Embeddings and layers: vectors `[b, s, n]`.
    fn layers(&self, m: &ModelBuilder<'_>, tokens: &Tokens) -> Value;

    /// What comes after the last layer and sees each token alone.
    fn final_norm(&self, m: &ModelBuilder<'_>, x: &Value) -> Value;

    /// Scores of the next token, `[.., vocab]`.
    fn logits(&self, m: &ModelBuilder<'_>, x: &Value) -> Value;
}

/// The entry `forward` of a base model: a whole sequence to `last_hidden_state`.
///
/// # Errors
/// The first op that could not be applied.
pub fn hidden_entries(model: &impl Decoder, tensors: &Inventory<'_>) -> Result<Vec<Entry>, BuildError> {
    let forward = ModelBuilder::entry("forward", tensors, |m| {
        let (m, tokens) = m.whole_sequence();
        vec![("last_hidden_state", model.final_norm(&m, &model.layers(&m, &tokens)))]
    })?;
    Ok(vec![forward])
}

/// The entries of a language model: `forward`, a whole sequence to the `logits` of every token; and
/// `step`, a continuation to the `logits` after the tokens at the positions `last: i32[b]`, and to the
/// `best` token there: `i32[b]`, the first of the largest logits.
///
/// # Errors
/// The first op that could not be applied.
pub fn language_model_entries(model: &impl Decoder, tensors: &Inventory<'_>) -> Result<Vec<Entry>, BuildError> {
    let forward = ModelBuilder::entry("forward", tensors, |m| {
        let (m, tokens) = m.whole_sequence();
        let x = model.final_norm(&m, &model.layers(&m, &tokens));
        vec![("logits", model.logits(&m, &x))]
    })?;
    let step = ModelBuilder::entry("step", tensors, |m| {
        let (m, tokens, last) = m.next_tokens();
        let x = model.layers(&m, &tokens).apply(Gather { axis: 1, batch: Some(1) }, &[&last]);
        let logits = model.logits(&m, &model.final_norm(&m, &x));
        let best = logits.arg_max_last();
        vec![("logits", logits), ("best", best)]
    })?;
    Ok(vec![forward, step])
}
