//! What a model is for and how its texts are read, besides its graph: plain data that frontends find
//! in a checkpoint, artifacts carry, and the runtime goes by.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What the outputs of a model mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Hidden states, and embeddings of sentences where the checkpoint says how to pool them.
    FeatureExtraction,
    /// Scores of the tokens that could stand at a mask.
    FillMask,
    /// Scores of the labels of a text.
    SequenceClassification,
    /// Scores of the labels of each token.
    TokenClassification,
    /// Scores of each token as the start and as the end of an answer.
    QuestionAnswering,
    /// A score of each of several texts.
    MultipleChoice,
    /// A score of each token as one that does not belong there.
    ReplacedTokens,
    /// Scores of the next token.
    TextGeneration,
}

impl Task {
    /// Every task.
    pub const ALL: [Task; 8] = [
        Task::FeatureExtraction,
        Task::FillMask,
        Task::SequenceClassification,
        Task::TokenClassification,
        Task::QuestionAnswering,
        Task::MultipleChoice,
        Task::ReplacedTokens,
        Task::TextGeneration,
    ];

    /// Name, as Hugging Face's hub writes it.
    pub fn name(self) -> &'static str {
        match self {
            Task::FeatureExtraction => "feature-extraction",
            Task::FillMask => "fill-mask",
            Task::SequenceClassification => "sequence-classification",
            Task::TokenClassification => "token-classification",
            Task::QuestionAnswering => "question-answering",
            Task::MultipleChoice => "multiple-choice",
            Task::ReplacedTokens => "replaced-token-detection",
            Task::TextGeneration => "text-generation",
        }
    }
}

/// What `config.json`, `generation_config.json` and their like say beyond the graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// Name of the architecture, such as `LlamaForCausalLM`.
    pub architecture: String,
    /// What the outputs mean.
    pub task: Task,
    /// Names of the labels of a classifier, by number.
    pub labels: Vec<String>,
    /// Whether the labels of a text exclude one another: probabilities are a softmax, else sigmoids.
    pub exclusive_labels: bool,
    /// Number of positions that the model can tell apart; nothing if there is no limit.
    pub max_positions: Option<usize>,
    /// Length beyond which all positions count otherwise than before, so that a cache has to be made anew.
    pub recompute_beyond: Option<usize>,
    /// Tokens after which a sentence encoder cuts its input.
    pub max_input: Option<usize>,
    /// How generation goes unless a caller says otherwise.
    pub generation: Generation,
}

/// Defaults of generation, as in `generation_config.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    /// Token that starts a sequence.
    pub bos: Option<u32>,
    /// Tokens that end a sequence.
    pub eos: Vec<u32>,
    /// Token that fills a row up.
    pub pad: Option<u32>,
    /// Whether tokens are drawn at random.
    pub do_sample: bool,
    /// Divides the scores before drawing.
    pub temperature: Option<f32>,
    /// Draw among so many of the best.
    pub top_k: Option<u32>,
    /// Draw among the best whose probabilities reach this sum.
    pub top_p: Option<f32>,
    /// Factor against tokens that have occurred.
    pub repetition_penalty: Option<f32>,
}

/// How text becomes tokens and back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TextAssets {
    /// `tokenizer.json`; empty if there is none.
    pub tokenizer: Vec<u8>,
    /// Jinja template that lays out a conversation.
    pub chat_template: Option<String>,
    /// Special tokens by role (`bos_token`, `eos_token`, …), which a template may name.
    pub special_tokens: BTreeMap<String, String>,
}
