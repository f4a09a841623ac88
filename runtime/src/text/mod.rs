//! Text on its way to tokens and back: tokenizer, chat template, incremental output, choice of tokens.
//!
//! [`Text`] makes these from an artifact's [`TextAssets`] when they are first asked for, since
//! reading a large vocabulary costs more than a program that brings its own tokens should pay.

mod chat;
mod date;
mod error;
mod python;
mod rules;
mod sampling;
mod stream;
mod tokenizer;

use std::sync::OnceLock;

use castiron_ir::TextAssets;

use crate::artifact::format::TextAside;

pub use chat::{ChatMessage, ChatRequest, ChatTemplate};
pub use date::Date;
pub use error::TextError;
pub use rules::Place;
pub use sampling::{NoCandidate, Sampler, Sampling};
pub use stream::TokenStream;
pub use tokenizer::{Batch, EncodeOptions, Encoding, Tokenizer, Truncation};

/// Tokenizer and chat template of a model, each read at its first use.
pub struct Text {
    aside: TextAside,
    source: Box<dyn AsRef<[u8]> + Send + Sync>,
    tokenizer: OnceLock<Tokenizer>,
    chat_template: OnceLock<ChatTemplate>,
}

impl Text {
    /// Text handling by these assets; reads nothing yet.
    pub fn new(assets: TextAssets) -> Text {
        Text::with_tokenizer(TextAside::new(&assets), assets.tokenizer)
    }

    /// Text handling by a `tokenizer.json` that lies elsewhere, such as in an artifact; it is not touched
    /// before the first use. No bytes mean no tokenizer.
    pub fn with_tokenizer(aside: TextAside, tokenizer: impl AsRef<[u8]> + Send + Sync + 'static) -> Text {
        Text { aside, source: Box::new(tokenizer), tokenizer: OnceLock::new(), chat_template: OnceLock::new() }
    }

    /// Chat template and special tokens as text.
    pub fn aside(&self) -> &TextAside {
        &self.aside
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// A model without one, or one that is not valid.
    pub fn tokenizer(&self) -> Result<&Tokenizer, TextError> {
        if let Some(tokenizer) = self.tokenizer.get() {
            return Ok(tokenizer);
        }
        let json: &[u8] = (*self.source).as_ref();
        if json.is_empty() {
            return Err(TextError::NoTokenizer);
        }
        let tokenizer = Tokenizer::from_json(json)?;
        Ok(self.tokenizer.get_or_init(|| tokenizer))
    }

    /// The chat template.
    ///
    /// # Errors
    /// A model without one, or one that is not valid.
    pub fn chat_template(&self) -> Result<&ChatTemplate, TextError> {
        if let Some(template) = self.chat_template.get() {
            return Ok(template);
        }
        let source = self.aside.chat_template.as_deref().ok_or(TextError::NoChatTemplate)?;
        let template = ChatTemplate::new(source, &self.aside.special_tokens)?;
        Ok(self.chat_template.get_or_init(|| template))
    }

    /// Number of the special token with a role such as `pad_token`; `None` if the model has none.
    ///
    /// # Errors
    /// As [`Text::tokenizer`].
    pub fn special_token(&self, role: &str) -> Result<Option<u32>, TextError> {
        let tokenizer = self.tokenizer()?;
        Ok(self.aside.special_tokens.get(role).and_then(|token| tokenizer.token_id(token)))
    }
}
