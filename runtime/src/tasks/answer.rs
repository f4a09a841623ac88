//! Answers that are part of a given text.

use castiron_ir::Task;

use super::{Pipeline, TaskError, softmax};
use crate::text::{Batch, EncodeOptions, Truncation};

/// Most tokens of an answer, as in transformers' pipeline.
const LONGEST_ANSWER: usize = 15;

/// A part of a text that answers a question.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The part.
    pub text: String,
    /// Where it begins and ends, in bytes.
    pub range: (usize, usize),
    /// Product of the probabilities of its start and its end.
    pub score: f32,
}

impl Pipeline {
    /// The part of a text that answers a question best; a text that is too long is cut.
    ///
    /// # Errors
    /// A model that answers no questions, a text that cannot be encoded.
    pub fn answer(&mut self, question: &str, context: &str) -> Result<Option<Answer>, TaskError> {
        self.require(Task::QuestionAnswering)?;
        let limit = self.description().max_input.or(self.description().max_positions);
        let truncation = limit.map(|max_length| Truncation { max_length, keep_first: true });
        let options = EncodeOptions { special_tokens: true, truncation };
        let encoding = self.text.tokenizer()?.encode_pair(question, context, options)?;
        let outputs = self.run_batch("forward", &Batch::new(std::slice::from_ref(&encoding), 0))?;
        let logits = |output: &'static str| {
            let missing = TaskError::Output { entry: "forward", output, task: Task::QuestionAnswering };
            Ok::<_, TaskError>(outputs.get(output).ok_or(missing)?.as_f32()?)
        };
        let (start, end) = (logits("start_logits")?, logits("end_logits")?);
        let places: Vec<usize> = (0..encoding.ids.len()).filter(|&i| encoding.sequences[i] == Some(1)).collect();
        let spans = places
            .iter()
            .flat_map(|&a| places.iter().filter(move |&&b| (a..a + LONGEST_ANSWER).contains(&b)).map(move |&b| (a, b)));
        let sum = |&(a, b): &(usize, usize)| start[a] + end[b];
        let best = spans.fold(None, |best: Option<(usize, usize)>, span| match best {
            Some(best) if sum(&best) >= sum(&span) => Some(best),
            _ => Some(span),
        });
        let only = |scores: &[f32]| softmax(&places.iter().map(|&i| scores[i]).collect::<Vec<_>>());
        let (starts, ends) = (only(start), only(end));
        Ok(best.and_then(|(a, b)| {
            let range = (encoding.offsets[a].0, encoding.offsets[b].1);
            let at = |place: usize| places.iter().position(|&p| p == place);
            let score = starts[at(a)?] * ends[at(b)?];
            Some(Answer { text: context.get(range.0..range.1)?.to_owned(), range, score })
        }))
    }
}
