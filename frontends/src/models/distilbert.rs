//! DistilBERT: half of BERT's layers, no token types, no pooler.
//! Sources: arXiv:1910.01108; transformers `models/distilbert/modeling_distilbert.py`.

use castiron_ir::op::UnaryOp;

use super::ModelError;
use super::bert::MaskedNames;
use super::family::{Built, Family, Head, Request};
use crate::blocks::{
    Attention, Classifier, Embedding, Encoder, FeedForward, Heads, Layer, LinearKind, Mlp, Norm, Positions,
    Projections, Stack, Transform,
};

pub(super) const FAMILY: Family = Family {
    model_type: "distilbert",
    architectures: &[
        ("DistilBertModel", Head::None),
        ("DistilBertForMaskedLM", Head::MaskedTokens),
        ("DistilBertForSequenceClassification", Head::Sequence),
        ("DistilBertForTokenClassification", Head::Tokens),
        ("DistilBertForQuestionAnswering", Head::Span),
        ("DistilBertForMultipleChoice", Head::Choice),
    ],
    build,
};

const MASKED: MaskedNames = MaskedNames {
    transform: ["vocab_transform", "vocab_layer_norm"],
    decoder: "vocab_projector",
    bias: "vocab_projector.bias",
};

fn build(request: &Request<'_>) -> Result<Built, ModelError> {
    let (config, tensors) = (request.config, request.tensors);
    let (width, vocab) = (config.extent("dim")?, config.extent("vocab_size")?);
    let heads = config.equal_heads("n_heads", "dim", &width)?;
    let activation = config.activation("activation", "gelu")?;
    // Positions that were made of sines are stored as any others.
    config.flag("sinusoidal_pos_embds", false)?;
    let norm = Norm::layer(&width, 1e-12);
    let prefix = tensors.prefix("distilbert.");
    let table = format!("{prefix}embeddings.word_embeddings.weight");
    let (table, masked) = MASKED.read(request, &table, activation, &norm)?;
    let rows = config.extent("max_position_embeddings")?;
    let max_positions = Some(rows.value());
    let attention = Attention {
        projections: Projections::Separate(["q_lin", "k_lin", "v_lin"]),
        linear: LinearKind::BIASED,
        output: ("out_lin", LinearKind::BIASED),
        causal: false,
        ..Attention::causal(&width, &heads.heads, &heads.head_dim)
    };
    let mlp = Mlp {
        width: width.clone(),
        inner: config.extent("hidden_dim")?,
        activation,
        layers: ["lin1", "lin2"],
        linear: LinearKind::BIASED,
    };
    let norms = ["sa_layer_norm", "output_layer_norm"];
    let layer = Layer::post_norm(("attention", attention), ("ffn", FeedForward::Plain(mlp)), norms, &norm);
    let classifier = Transform::dense("pre_classifier", &width, UnaryOp::Relu);
    request.encoder(&Encoder {
        embedding: Embedding {
            positions: Some(Positions {
                table: "embeddings.position_embeddings",
                rows,
                offset: 0,
                skip_padding: false,
            }),
            norm: Some(("embeddings.LayerNorm", norm)),
            ..Embedding::plain(table, &vocab, &width)
        },
        uncounted: None,
        rotary: vec![],
        relative: None,
        distances: None,
        layers: Stack::Own("transformer.layer", vec![layer; config.layers("n_layers")?]),
        final_norm: None,
        heads: Heads {
            pooler: None,
            choice: Classifier::first_token(classifier.clone(), "classifier"),
            ..Heads::of_pooler(classifier, masked)
        },
        max_positions,
        known_unused: &["*embeddings.position_ids"],
        known_heads: &["vocab_*"],
        prefix,
        width,
    })
}
