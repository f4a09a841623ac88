//! Sentence embeddings.

use castiron_ir::Task;

use super::{Pipeline, TaskError, rows};

/// Texts that are embedded at once.
const BATCH: usize = 32;

impl Pipeline {
    /// Embeddings of texts, one vector each. Texts longer than the model reads are cut. `progress` is
    /// told how many texts are done.
    ///
    /// # Errors
    /// A model that gives no sentence embeddings, a text that cannot be encoded.
    pub fn embed(&mut self, texts: &[&str], progress: &mut dyn FnMut(usize)) -> Result<Vec<Vec<f32>>, TaskError> {
        self.require(Task::FeatureExtraction)?;
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&i| texts[i].len());
        let mut embeddings = vec![Vec::new(); texts.len()];
        for (done, part) in order.chunks(BATCH).enumerate() {
            let chosen: Vec<&str> = part.iter().map(|&i| texts[i]).collect();
            let pad = self.description().generation.pad.unwrap_or(0);
            let batch = self.text.tokenizer()?.encode_batch(&chosen, self.encode_options(), pad)?;
            let outputs = self.run_batch("embed", &batch)?;
            let missing =
                TaskError::Output { entry: "embed", output: "sentence_embedding", task: Task::FeatureExtraction };
            let vectors = outputs.get("sentence_embedding").ok_or(missing)?;
            for (&i, vector) in part.iter().zip(rows(vectors)?) {
                embeddings[i] = vector.to_vec();
            }
            progress(done * BATCH + part.len());
        }
        Ok(embeddings)
    }
}
