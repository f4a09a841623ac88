//! ELECTRA: BERT with a narrow table of tokens; a generator, and a discriminator that tells its tokens.
//! Sources: arXiv:2003.10555; transformers `models/electra/modeling_electra.py`.

use castiron_ir::op::UnaryOp;

use super::ModelError;
use super::bert::{self, MaskedNames};
use super::family::{Built, Family, Head, Request};
use crate::blocks::{Classifier, Embedding, Encoder, Heads, LinearKind, PoolingMode, Size, Stack, Transform};
use crate::config::{ConfigError, ConfigReader};

pub(super) const FAMILY: Family = Family {
    model_type: "electra",
    architectures: &[
        ("ElectraModel", Head::None),
        ("ElectraForPreTraining", Head::Replaced),
        ("ElectraForMaskedLM", Head::MaskedTokens),
        ("ElectraForSequenceClassification", Head::Sequence),
        ("ElectraForTokenClassification", Head::Tokens),
        ("ElectraForQuestionAnswering", Head::Span),
        ("ElectraForMultipleChoice", Head::Choice),
    ],
    build,
};

const MASKED: MaskedNames = MaskedNames {
    transform: ["generator_predictions.dense", "generator_predictions.LayerNorm"],
    decoder: "generator_lm_head",
    bias: "generator_lm_head.bias",
};

fn build(request: &Request<'_>) -> Result<Built, ModelError> {
    let (config, tensors) = (request.config, request.tensors);
    bert::refuse_switches(config)?;
    let width = config.extent("hidden_size")?;
    let narrow = Size::new(config.size("embedding_size")?.unwrap_or(128), "embedding_size");
    let prefix = tensors.prefix("electra.");
    let table = format!("{prefix}embeddings.word_embeddings.weight");
    let (table, masked) = MASKED.read(request, &table, UnaryOp::Gelu, &bert::norm(config, &narrow)?)?;
    let (embedding, limit) = bert::embedding(config, table, &narrow)?;
    let is_narrow = narrow.value() != width.value();
    let mapping = is_narrow.then(|| ("embeddings_project", width.clone(), LinearKind::BIASED));
    let replaced =
        Transform::dense("discriminator_predictions.dense", &width, config.activation("hidden_act", "gelu")?);
    let layer = bert::layer(config, &width)?;
    request.encoder(&Encoder {
        embedding: Embedding { mapping, ..embedding },
        uncounted: None,
        rotary: vec![],
        relative: None,
        distances: None,
        layers: Stack::Own("encoder.layer", vec![layer; config.layers("num_hidden_layers")?]),
        final_norm: None,
        heads: Heads {
            pooler: None,
            masked: Some(masked),
            sequence: Classifier::first_token(
                Transform::dense("classifier.dense", &width, UnaryOp::Gelu),
                "classifier.out_proj",
            ),
            choice: choice(config, request.head, &width)?,
            tokens: Classifier::tokens("classifier"),
            span: Classifier::tokens("qa_outputs"),
            replaced: Some(Classifier {
                transform: Some(replaced),
                ..Classifier::tokens("discriminator_predictions.dense_prediction")
            }),
        },
        max_positions: Some(limit),
        known_unused: &["*embeddings.position_ids"],
        known_heads: &["discriminator_predictions.*", "generator_predictions.*", "generator_lm_head.*"],
        prefix,
        width,
    })
}

/// What chooses: the first token through a layer that keys describe.
fn choice(config: &ConfigReader<'_>, head: Head, width: &Size) -> Result<Classifier, ConfigError> {
    let plain = Classifier { pooling: Some(PoolingMode::Cls), ..Classifier::tokens("classifier") };
    if head != Head::Choice {
        return Ok(plain);
    }
    if config.text("summary_type")?.is_some_and(|kind| kind != "first") {
        return Err(config.invalid("summary_type", "first"));
    }
    if config.flag("summary_proj_to_labels", false)? {
        return Err(config.invalid("summary_proj_to_labels", "false"));
    }
    if !config.flag("summary_use_proj", true)? {
        return Err(config.invalid("summary_use_proj", "true"));
    }
    let activation = config.activation("summary_activation", "gelu")?;
    let transform = Transform::dense("sequence_summary.summary", width, activation);
    Ok(Classifier { transform: Some(transform), ..plain })
}
