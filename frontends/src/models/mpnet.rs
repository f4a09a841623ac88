//! MPNet: BERT's shape, with a bias of scores by distance that all layers share.
//! Sources: arXiv:2004.09297; transformers `models/mpnet/modeling_mpnet.py`.

use castiron_ir::op::UnaryOp;

use super::ModelError;
use super::family::{Built, Family, Head, Request};
use super::{bert, roberta};
use crate::blocks::{
    Classifier, Embedding, Encoder, Heads, LinearKind, Projections, RelativeBias, Size, Stack, Transform,
};

pub(super) const FAMILY: Family = Family {
    model_type: "mpnet",
    architectures: &[
        ("MPNetModel", Head::None),
        ("MPNetForMaskedLM", Head::MaskedTokens),
        ("MPNetForSequenceClassification", Head::Sequence),
        ("MPNetForTokenClassification", Head::Tokens),
        ("MPNetForQuestionAnswering", Head::Span),
        ("MPNetForMultipleChoice", Head::Choice),
    ],
    build,
};

/// Classes of distances that are told apart, whatever the table's rows, and the first distance of the last one.
const BUCKETS: usize = 32;
const FURTHEST: usize = 128;
/// The token that positions are counted without, whatever `pad_token_id` says.
const PADDING: usize = 1;

fn build(request: &Request<'_>) -> Result<Built, ModelError> {
    let config = request.config;
    let model = bert::encoder(request, "mpnet.", &roberta::MASKED, Some(UnaryOp::Gelu))?;
    let mut layer = bert::layer(config, &model.width)?;
    layer.attention_mut().projections = Projections::Separate(["attn.q", "attn.k", "attn.v"]);
    layer.attention_mut().output = ("attn.o", LinearKind::BIASED);
    if let Some((name, _)) = &mut layer.sums[0] {
        *name = "attention.LayerNorm";
    }
    let rows = config.size("relative_attention_num_buckets")?.unwrap_or(BUCKETS);
    if rows < BUCKETS {
        return Err(config.invalid("relative_attention_num_buckets", "at least 32, the number that is used").into());
    }
    let relative = RelativeBias {
        rows: Size::new(rows, "relative_attention_num_buckets"),
        heads: layer.attention().heads.clone(),
        buckets: BUCKETS,
        max_distance: FURTHEST,
        bidirectional: true,
    };
    let transform = Transform::dense("classifier.dense", &model.width, UnaryOp::Tanh);
    let mut model = Encoder {
        embedding: Embedding { types: None, ..model.embedding },
        relative: Some(("encoder.relative_attention_bias", relative)),
        layers: Stack::Own("encoder.layer", vec![layer; config.layers("num_hidden_layers")?]),
        heads: Heads { sequence: Classifier::first_token(transform, "classifier.out_proj"), ..model.heads },
        known_unused: &["*embeddings.position_ids", "*pooler.*", "lm_head.bias"],
        known_heads: &["lm_head.*"],
        ..model
    };
    roberta::count_from(config, &mut model, PADDING)?;
    request.encoder(&model)
}
