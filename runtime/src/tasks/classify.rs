//! Classification of texts and of tokens.

use castiron_ir::Task;

use super::{Pipeline, TaskError, rows, softmax};
use crate::text::Batch;

/// A label with its probability.
#[derive(Clone, Debug, PartialEq)]
pub struct Labelled {
    /// The label.
    pub label: String,
    /// Its probability.
    pub score: f32,
}

/// A token with its most probable label.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledToken {
    /// The part of the text that the token stands for.
    pub text: String,
    /// Where it begins and ends, in bytes.
    pub range: (usize, usize),
    /// Its label.
    pub best: Labelled,
}

impl Pipeline {
    /// Labels of a text, the most probable one first.
    ///
    /// # Errors
    /// A model that is no classifier of texts, a text that cannot be encoded or is too long.
    pub fn classify(&mut self, text: &str) -> Result<Vec<Labelled>, TaskError> {
        self.require(Task::SequenceClassification)?;
        let encoding = self.text.tokenizer()?.encode(text, self.encode_options())?;
        let batch = Batch::new(&[encoding], 0);
        let (labels, exclusive) = (self.description().labels.clone(), self.description().exclusive_labels);
        let outputs = self.run_batch("forward", &batch)?;
        let missing = TaskError::Output { entry: "forward", output: "logits", task: Task::SequenceClassification };
        let scores = outputs.get("logits").ok_or(missing)?.as_f32()?;
        let exclusive = exclusive && scores.len() > 1;
        let scores =
            if exclusive { softmax(scores) } else { scores.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect() };
        let mut labelled: Vec<Labelled> =
            labels.into_iter().zip(scores).map(|(label, score)| Labelled { label, score }).collect();
        labelled.sort_by(|a, b| b.score.total_cmp(&a.score));
        Ok(labelled)
    }

    /// The most probable label of each token of a text, special tokens left out.
    ///
    /// # Errors
    /// A model that is no classifier of tokens, a text that cannot be encoded or is too long.
    pub fn classify_tokens(&mut self, text: &str) -> Result<Vec<LabelledToken>, TaskError> {
        self.require(Task::TokenClassification)?;
        let encoding = self.text.tokenizer()?.encode(text, self.encode_options())?;
        let batch = Batch::new(std::slice::from_ref(&encoding), 0);
        let labels = self.description().labels.clone();
        let outputs = self.run_batch("forward", &batch)?;
        let missing = TaskError::Output { entry: "forward", output: "logits", task: Task::TokenClassification };
        let scores = rows(outputs.get("logits").ok_or(missing)?)?;
        let tokens = scores.zip(&encoding.sequences).zip(&encoding.offsets).filter(|((_, from), _)| from.is_some());
        let labelled = tokens.filter_map(|((scores, _), &(start, end))| {
            let probabilities = softmax(scores);
            let best = (0..probabilities.len()).max_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b]))?;
            let best = Labelled { label: labels.get(best)?.clone(), score: probabilities[best] };
            Some(LabelledToken { text: text.get(start..end)?.to_owned(), range: (start, end), best })
        });
        Ok(labelled.collect())
    }
}
