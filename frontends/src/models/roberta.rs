//! RoBERTa, XLM-RoBERTa and CamemBERT: BERT with positions that count tokens from the number after the padding's,
//! and heads of their own.
//! Sources: arXiv:1907.11692, arXiv:1911.02116, arXiv:1911.03894; transformers `models/roberta/modeling_roberta.py`.

use castiron_ir::op::UnaryOp;

use super::ModelError;
use super::bert::{self, MaskedNames};
use super::family::{Built, Family, Head, Request};
use crate::blocks::{Classifier, Encoder, Heads, Transform};
use crate::config::{ConfigError, ConfigReader};

macro_rules! family {
    ($model_type:literal, $name:literal) => {
        Family {
            model_type: $model_type,
            architectures: &[
                (concat!($name, "Model"), Head::None),
                (concat!($name, "ForMaskedLM"), Head::MaskedTokens),
                (concat!($name, "ForSequenceClassification"), Head::Sequence),
                (concat!($name, "ForTokenClassification"), Head::Tokens),
                (concat!($name, "ForQuestionAnswering"), Head::Span),
                (concat!($name, "ForMultipleChoice"), Head::Choice),
            ],
            build,
        }
    };
}

pub(super) const ROBERTA: Family = family!("roberta", "Roberta");
pub(super) const XLM_ROBERTA: Family = family!("xlm-roberta", "XLMRoberta");
pub(super) const CAMEMBERT: Family = family!("camembert", "Camembert");

/// Names of the head of masked language models, with an activation that no key sets.
pub(super) const MASKED: MaskedNames = MaskedNames {
    transform: ["lm_head.dense", "lm_head.layer_norm"],
    decoder: "lm_head.decoder",
    bias: "lm_head.bias",
};

fn build(request: &Request<'_>) -> Result<Built, ModelError> {
    let mut model = bert::encoder(request, "roberta.", &MASKED, Some(UnaryOp::Gelu))?;
    let transform = Transform::dense("classifier.dense", &model.width, UnaryOp::Tanh);
    model.heads = Heads { sequence: Classifier::first_token(transform, "classifier.out_proj"), ..model.heads };
    let pad = padding(request.config)?;
    count_from(request.config, &mut model, pad)?;
    let known_unused: &[&str] = &["*embeddings.position_ids", "*pooler.*", "lm_head.bias"];
    request.encoder(&Encoder { known_unused, known_heads: &["lm_head.*"], ..model })
}

/// The token that pads, which positions begin after.
fn padding(config: &ConfigReader<'_>) -> Result<usize, ConfigError> {
    Ok(config.size_or_zero("pad_token_id")?.unwrap_or(1))
}

/// Counts positions from the number after that of the token that pads.
pub(super) fn count_from(config: &ConfigReader<'_>, model: &mut Encoder, pad: usize) -> Result<(), ConfigError> {
    let rows = model.max_positions.unwrap_or(0);
    let too_few = || config.invalid("max_position_embeddings", &format!("more than {}, the first position", pad + 1));
    model.max_positions = Some(rows.checked_sub(pad + 1).filter(|&n| n > 0).ok_or_else(too_few)?);
    model.uncounted = Some(pad as u32);
    Ok(())
}
