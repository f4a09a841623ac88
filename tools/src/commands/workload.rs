//! What `castiron bench` feeds to models.

use std::error::Error;

use castiron_runtime::session::Model;
use castiron_runtime::tensor::TensorRef;

use super::arguments::Bench;

/// So many tokens that any vocabulary has.
pub(super) fn ids(count: usize) -> impl Iterator<Item = i32> {
    (0..count as i32).map(|i| i % 29 + 3)
}

/// A batch of texts as token numbers, padded to the longest.
pub(super) struct Texts {
    shape: [usize; 2],
    ids: Vec<i32>,
    mask: Vec<i32>,
    zeros: Vec<i32>,
}

impl Texts {
    pub fn new(arguments: &Bench) -> Texts {
        let equal = vec![arguments.seq; arguments.batch];
        let lengths = if arguments.lengths.is_empty() { &equal } else { &arguments.lengths };
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let shape = [lengths.len(), longest];
        let count = shape.iter().product::<usize>();
        let mask = lengths.iter().flat_map(|&length| (0..longest).map(move |i| i32::from(i < length)));
        Texts { shape, ids: ids(count).collect(), mask: mask.collect(), zeros: vec![0; count] }
    }

    /// The inputs of `forward`.
    ///
    /// # Errors
    /// A model that has no such entry.
    pub fn inputs<'a>(&'a self, model: &'a Model) -> Result<Vec<(&'a str, TensorRef<'a>)>, Box<dyn Error>> {
        let entry = model.entry("forward").ok_or("the artifact has no entry `forward`")?;
        let mut inputs = Vec::new();
        for (name, _) in &entry.inputs {
            let values = match name.as_str() {
                "input_ids" => &self.ids,
                "attention_mask" => &self.mask,
                _ => &self.zeros,
            };
            inputs.push((name.as_str(), TensorRef::i32(&self.shape, values)?));
        }
        Ok(inputs)
    }
}
