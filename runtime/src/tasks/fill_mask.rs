//! Tokens that could stand at a mask.

use castiron_ir::Task;

use super::{Pipeline, TaskError, rows, softmax};
use crate::text::Batch;

/// Masks of tokenizers whose files name none.
const USUAL_MASKS: [&str; 2] = ["[MASK]", "<mask>"];

/// A token that could stand at a mask.
#[derive(Clone, Debug, PartialEq)]
pub struct Filling {
    /// The token's number.
    pub token: u32,
    /// The token's text.
    pub text: String,
    /// Its probability.
    pub score: f32,
}

impl Pipeline {
    /// For each mask of a text, the `count` most probable tokens, the best first.
    ///
    /// # Errors
    /// A model that fills no masks, a text without mask, or one that is too long.
    pub fn fill_mask(&mut self, text: &str, count: usize) -> Result<Vec<Vec<Filling>>, TaskError> {
        self.require(Task::FillMask)?;
        let (name, mask) = self.mask_token()?;
        let encoding = self.text.tokenizer()?.encode(text, self.encode_options())?;
        let places: Vec<usize> = (0..encoding.ids.len()).filter(|&i| encoding.ids[i] == mask).collect();
        if places.is_empty() {
            return Err(TaskError::NoMask(name));
        }
        let outputs = self.run_batch("forward", &Batch::new(&[encoding], 0))?;
        let missing = TaskError::Output { entry: "forward", output: "logits", task: Task::FillMask };
        let scores = rows(outputs.get("logits").ok_or(missing)?)?;
        let best: Vec<Vec<(u32, f32)>> =
            scores.enumerate().filter(|(i, _)| places.contains(i)).map(|(_, row)| best(row, count)).collect();
        let tokenizer = self.text.tokenizer()?;
        let filling = |(token, score): (u32, f32)| {
            Ok(Filling { token, text: tokenizer.decode(&[token], false)?.trim().to_owned(), score })
        };
        best.into_iter().map(|row| row.into_iter().map(filling).collect()).collect()
    }

    /// The mask's spelling and number; a usual spelling where the checkpoint names none.
    fn mask_token(&self) -> Result<(String, u32), TaskError> {
        let tokenizer = self.text.tokenizer()?;
        let named = self.text.aside().special_tokens.get("mask_token").map(String::as_str);
        let found = named.into_iter().chain(USUAL_MASKS).find_map(|name| Some((name, tokenizer.token_id(name)?)));
        let missing = || TaskError::NoMask(named.unwrap_or(USUAL_MASKS[0]).to_owned());
        found.map(|(name, id)| (name.to_owned(), id)).ok_or_else(missing)
    }
}

/// The most probable tokens.
fn best(scores: &[f32], count: usize) -> Vec<(u32, f32)> {
    let probabilities = softmax(scores);
    let mut order: Vec<u32> = (0..scores.len() as u32).collect();
    order.sort_by(|&a, &b| probabilities[b as usize].total_cmp(&probabilities[a as usize]));
    order.into_iter().take(count).map(|token| (token, probabilities[token as usize])).collect()
}
