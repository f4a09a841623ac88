//! Reference folders under the reference interpreter.

use std::collections::HashMap;

use castiron_frontends::checkpoint::Checkpoint;
use castiron_frontends::models::Model;
use castiron_ir::interpret::{Binding, run_entry};
use castiron_ir::{DType, Tensor};

/// A model under the interpreter.
pub struct Oracle<'a> {
    /// Its graph.
    pub model: &'a Model,
    checkpoint: &'a Checkpoint,
    states: HashMap<String, Tensor>,
}

impl<'a> Oracle<'a> {
    /// A model that has seen nothing.
    pub fn new(model: &'a Model, checkpoint: &'a Checkpoint) -> Oracle<'a> {
        Oracle { model, checkpoint, states: HashMap::new() }
    }

    /// Runs an entry on inputs by name; missing token types are zeros, a missing mask ones.
    pub fn run(
        &mut self,
        entry: &str,
        inputs: &dyn Fn(&str) -> Option<Tensor>,
        capacity: usize,
    ) -> HashMap<String, Tensor> {
        // What an encoder–decoder has read keeps its length.
        let source = self.states.get("source_mask").map(|mask| ("e".to_owned(), mask.shape[1]));
        let entry = self.model.module.entry(entry).expect("the model has the entry");
        let ids = inputs("input_ids");
        let missing = |name: &str| {
            let value = f64::from(u8::from(name == "attention_mask"));
            Tensor::from_fn(DType::I32, &ids.as_ref().expect("a test gives token ids").shape, |_| value)
        };
        let arguments: Vec<Tensor> =
            entry.body.argument_names.iter().map(|name| inputs(name).unwrap_or_else(|| missing(name))).collect();
        let params = |name: &str| self.checkpoint.tensor(name);
        let binding: Binding = source.into_iter().chain([("c".to_owned(), capacity)]).collect();
        let results = run_entry(entry, &arguments, &binding, &params, &mut self.states).expect("the entry runs");
        entry.outputs.iter().cloned().zip(results).collect()
    }

    /// Reads an encoder–decoder's source.
    pub fn encode(&mut self, source: &[u32]) {
        let ones = vec![1; source.len()];
        let inputs = |name: &str| Some(if name == "attention_mask" { row(&ones) } else { row(source) });
        self.run("encode", &inputs, 0);
    }

    /// Feeds tokens at a position of a row that will have `length` when its prompt has been read; gives the
    /// scores of the next one.
    pub fn step(&mut self, tokens: &[u32], past: usize, length: usize, capacity: usize) -> Vec<f64> {
        let ids = row(tokens);
        let one = |x: usize| Tensor { dtype: DType::I32, shape: vec![1], data: vec![x as f64] };
        let inputs = |name: &str| match name {
            "input_ids" => Some(ids.clone()),
            "past" => Some(one(past)),
            "last" => Some(one(tokens.len() - 1)),
            "length" => Some(one(length)),
            "count" => Some(one(tokens.len())),
            _ => None,
        };
        self.run("step", &inputs, capacity).remove("logits").expect("a step gives logits").data
    }
}

/// A batch of one row of tokens.
fn row(tokens: &[u32]) -> Tensor {
    Tensor::from_fn(DType::I32, &[1, tokens.len()], |i| tokens[i[1]].into())
}

/// Number of the largest score among the tokens that are not barred, the first of equal ones.
pub fn argmax(scores: &[f64], barred: &[u32]) -> u32 {
    let allowed = (0..scores.len()).filter(|&i| !barred.contains(&(i as u32)));
    let best = allowed.reduce(|best, i| if scores[i] > scores[best] { i } else { best });
    best.expect("some token is allowed") as u32
}
