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
    /// Scores of the next token of a text that follows from another, as a translation.
    #[serde(rename = "text2text-generation")]
    Text2TextGeneration,
}

impl Task {
    /// Every task.
    pub const ALL: [Task; 9] = [
        Task::FeatureExtraction,
        Task::FillMask,
        Task::SequenceClassification,
        Task::TokenClassification,
        Task::QuestionAnswering,
        Task::MultipleChoice,
        Task::ReplacedTokens,
        Task::TextGeneration,
        Task::Text2TextGeneration,
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
            Task::Text2TextGeneration => "text2text-generation",
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
#[serde(default)]
pub struct Generation {
    /// Token that starts a sequence.
    pub bos: Option<u32>,
    /// Tokens that end a sequence.
    pub eos: Vec<u32>,
    /// Token that fills a row up.
    pub pad: Option<u32>,
    /// Token that an encoder–decoder's text begins with.
    pub decoder_start: Option<u32>,
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
    /// How many tokens a text has at most, the prompt among them.
    pub max_length: Option<usize>,
    /// How many tokens are generated at most; goes before `max_length`.
    pub max_new_tokens: Option<usize>,
    /// How many tokens are generated before a text may end.
    pub min_new_tokens: usize,
    /// What tokens can follow, whatever their scores.
    pub rules: Rules,
}

impl Generation {
    /// How many tokens to add to a prompt of so many, if the model says so.
    pub fn new_tokens_after(&self, prompt: usize) -> Option<usize> {
        self.max_new_tokens.or(self.max_length.map(|length| length.saturating_sub(prompt)))
    }
}

/// What tokens can follow, whatever their scores. Lengths are those of the text so far, prompt included; that
/// of an encoder–decoder begins with its start token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rules {
    /// Texts shorter than this do not end.
    pub min_length: usize,
    /// The token behind the first.
    pub forced_bos: Option<u32>,
    /// Tokens of which the last one, where there is no room for more, is.
    pub forced_eos: Vec<u32>,
    /// Sequences that do not occur.
    pub bad_words: Vec<Vec<u32>>,
    /// No sequence of so many tokens occurs twice; 0 is no rule.
    pub no_repeat_ngram: usize,
    /// No sequence of so many tokens of an encoder–decoder's source occurs; 0 is no rule.
    pub encoder_no_repeat_ngram: usize,
    /// Tokens that do not occur.
    pub suppress: Vec<u32>,
    /// Tokens that no text begins with.
    pub begin_suppress: Vec<u32>,
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
