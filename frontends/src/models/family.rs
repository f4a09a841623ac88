//! What a family of architectures is, and what its builder is told.

use castiron_ir::{Entry, Task};

use super::ModelError;
use crate::blocks::{
    Classified, Decoder, Encoder, EncoderDecoder, Growth, Inventory, Pooling, Rotary, SequenceHead, Shift, Size,
};
use crate::config::{ConfigError, ConfigReader};

/// What stands on top of the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    None,
    /// Nothing, on an encoder–decoder's encoder alone.
    Encoder,
    LanguageModel,
    ConditionalGeneration,
    MaskedTokens,
    Sequence,
    Tokens,
    Span,
    Choice,
    Replaced,
}

impl Head {
    /// What the outputs mean.
    pub fn task(self) -> Task {
        match self {
            Head::None | Head::Encoder => Task::FeatureExtraction,
            Head::LanguageModel => Task::TextGeneration,
            Head::ConditionalGeneration => Task::Text2TextGeneration,
            Head::MaskedTokens => Task::FillMask,
            Head::Sequence => Task::SequenceClassification,
            Head::Tokens => Task::TokenClassification,
            Head::Span => Task::QuestionAnswering,
            Head::Choice => Task::MultipleChoice,
            Head::Replaced => Task::ReplacedTokens,
        }
    }
}

/// Architectures that one builder makes.
pub(super) struct Family {
    /// `model_type` of its configs.
    pub model_type: &'static str,
    /// Names and heads. The first one is meant by a config that names none.
    pub architectures: &'static [(&'static str, Head)],
    /// Makes the entries.
    pub build: fn(&Request<'_>) -> Result<Built, ModelError>,
}

/// What a builder goes by.
pub(super) struct Request<'a> {
    pub config: &'a ConfigReader<'a>,
    pub tensors: &'a Inventory<'a>,
    pub head: Head,
    /// Number of labels of a classifier.
    pub labels: Size,
    /// How sentences are embedded, if the checkpoint says so.
    pub pooling: Option<Pooling>,
}

/// What a builder makes.
pub(super) struct Built {
    pub entries: Vec<Entry>,
    /// Positions that the model can tell apart; nothing if there is no limit.
    pub max_positions: Option<usize>,
    /// Length beyond which all positions count otherwise; nothing if there is none.
    pub recompute_beyond: Option<usize>,
}

impl Request<'_> {
    /// The entries of a decoder under any head, with a check that all tensors are used but those that are
    /// known not to be.
    pub fn decoder(&self, model: &Decoder) -> Result<Built, ModelError> {
        let mut known_unused = model.known_unused.to_vec();
        let entries = match self.head {
            Head::LanguageModel => model.language_model_entries(self.tensors)?,
            Head::Sequence => {
                let pad = self.config.size_or_zero("pad_token_id")?;
                let token = pad.map_or(Classified::Last, |pad| Classified::LastOther(pad as u32));
                let head = SequenceHead { labels: self.labels.clone(), token };
                model.sequence_entries(self.tensors, &head)?
            }
            _ => {
                known_unused.push("lm_head.*");
                model.hidden_entries(self.tensors, self.pooling.as_ref())?
            }
        };
        self.tensors.check(&known_unused)?;
        let beyond = |rotary: &Rotary| match rotary.growth {
            Some(Growth::Long { beyond, .. }) => Some(beyond),
            _ => None,
        };
        let recompute_beyond = model.rotary.iter().find_map(beyond);
        Ok(Built { entries, max_positions: model.max_positions, recompute_beyond })
    }

    /// The entries of an encoder under any head, with a check that all tensors are used but those that are known
    /// not to be.
    pub fn encoder(&self, model: &Encoder) -> Result<Built, ModelError> {
        let (tensors, heads) = (self.tensors, &model.heads);
        let mut known_unused = model.known_unused.to_vec();
        let entries = match (self.head, &heads.masked, &heads.replaced) {
            (Head::MaskedTokens, Some(masked), _) => model.masked_entries(tensors, masked)?,
            (Head::Replaced, _, Some(replaced)) => model.replaced_entries(tensors, replaced)?,
            (Head::Sequence, ..) => model.class_entries(tensors, &heads.sequence, &self.labels)?,
            (Head::Tokens, ..) => model.class_entries(tensors, &heads.tokens, &self.labels)?,
            (Head::Span, ..) => model.span_entries(tensors, &self.labels)?,
            (Head::Choice, ..) => model.choice_entries(tensors)?,
            _ => {
                known_unused.extend(model.known_heads);
                model.hidden_entries(tensors, &self.pooling.clone().unwrap_or_default())?
            }
        };
        tensors.check(&known_unused)?;
        Ok(Built { entries, max_positions: model.max_positions, recompute_beyond: None })
    }

    /// The entries of an encoder–decoder under any head; `last_before` tells a family that begins the decoder's
    /// side of a lone text with the text's own last token.
    pub fn encoder_decoder(&self, model: &EncoderDecoder, last_before: bool) -> Result<Vec<Entry>, ModelError> {
        let shift = || -> Result<Shift, ConfigError> {
            Ok(if last_before {
                Shift::LastBefore(self.token("pad_token_id")?)
            } else {
                Shift::Start(self.token("decoder_start_token_id")?)
            })
        };
        Ok(match self.head {
            Head::ConditionalGeneration => model.generation_entries(self.tensors)?,
            Head::Sequence => {
                let by = (shift()?, self.token("eos_token_id")?);
                model.sequence_entries(self.tensors, &self.labels, by)?
            }
            Head::Tokens => model.encoder.token_entries(self.tensors, &self.labels)?,
            Head::Span => model.span_entries(self.tensors, &self.labels, shift()?)?,
            Head::Encoder => model.encoder.hidden_entries(self.tensors, self.pooling.as_ref())?,
            _ => model.hidden_entries(self.tensors)?,
        })
    }

    /// A token that the config has to name.
    fn token(&self, key: &str) -> Result<u32, ConfigError> {
        let token = self.config.size_or_zero(key)?.ok_or_else(|| self.config.missing(key))?;
        Ok(token as u32)
    }
}
