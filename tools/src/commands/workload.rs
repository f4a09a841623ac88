//! What `castiron bench` feeds to models.

use std::error::Error;

use castiron_runtime::session::Model;
use castiron_runtime::tensor::TensorRef;

use super::arguments::Bench;

/// So many tokens that any vocabulary has.
pub(super) fn ids(count: usize) -> impl Iterator<Item = i32> {
    (0..count as i32).map(|i| i % 29 + 3)
}

/// A batch of texts as token numbers.
pub(super) struct Texts {
    shape: [usize; 2],
    ids: Vec<i32>,
    ones: Vec<i32>,
    zeros: Vec<i32>,
}

impl Texts {
    pub fn new(arguments: &Bench) -> Texts {
        let shape = [arguments.batch, arguments.seq];
        let count = shape.iter().product::<usize>();
        let ids = ids(count).collect();
        Texts { shape, ids, ones: vec![1; count], zeros: vec![0; count] }
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
                "attention_mask" => &self.ones,
                _ => &self.zeros,
            };
            inputs.push((name.as_str(), TensorRef::i32(&self.shape, values)?));
        }
        Ok(inputs)
    }
}
