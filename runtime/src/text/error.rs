//! What can go wrong with text.

/// Why text has no tokens, or tokens no text.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// The model came without `tokenizer.json`.
    #[error("the model has no tokenizer; give token numbers instead of text")]
    NoTokenizer,
    /// The model came without a chat template.
    #[error("the model has no chat template; it continues plain text only")]
    NoChatTemplate,
    /// `tokenizer.json` is not valid.
    #[error("tokenizer.json is not valid: {0}")]
    InvalidTokenizer(String),
    /// The tokenizer cannot encode a text.
    #[error("cannot encode the text: {0}")]
    Encode(String),
    /// The tokenizer cannot decode tokens.
    #[error("cannot decode the tokens: {0}")]
    Decode(String),
    /// Special tokens, and a first sequence that must stay whole, leave no room for text.
    #[error("at most {max_length} tokens are allowed, and {needed} are taken before the text that may be cut")]
    NoRoom {
        /// The limit.
        max_length: usize,
        /// Tokens that cannot be cut.
        needed: usize,
    },
    /// The chat template is not valid, or fails on these messages.
    #[error("chat template, line {line}: {message}")]
    Template {
        /// Line of the template, from 1; 0 when it is not known.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// The chat template refuses the messages by `raise_exception`.
    #[error("the chat template refuses the conversation (line {line}): {message}")]
    Refused {
        /// Line of the template, from 1; 0 when it is not known.
        line: usize,
        /// The template's own words.
        message: String,
    },
}
