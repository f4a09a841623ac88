//! BERT: bidirectional encoder, layer norms after each block, learned positions, token types.
//! Sources: arXiv:1810.04805; transformers `models/bert/modeling_bert.py`.

use castiron_ir::op::UnaryOp;

use super::ModelError;
use super::family::{Family, Head, Request};
use crate::blocks::{
    Attention, Embedding, Encoder, FeedForward, Heads, Layer, LinearKind, MaskedHead, Mlp, Norm, Positions,
    Projections, Size, Stack, TokenTypes, Transform,
};
use crate::config::{ConfigError, ConfigReader};

pub(super) const FAMILY: Family = Family {
    model_type: "bert",
    architectures: &[
        ("BertModel", Head::None),
        ("BertForMaskedLM", Head::MaskedTokens),
        ("BertForSequenceClassification", Head::Sequence),
        ("BertForTokenClassification", Head::Tokens),
        ("BertForQuestionAnswering", Head::Span),
        ("BertForMultipleChoice", Head::Choice),
    ],
    build: |request| {
        let model = encoder(request, "bert.", &MASKED, None)?;
        let known_unused = if request.head == Head::MaskedTokens { UNUSED_BESIDE_SCORES } else { UNUSED };
        request.encoder(&Encoder { known_unused, known_heads: &["cls.*"], ..model })
    },
};

/// Tensors that no head needs, or only the base model and classifiers of sequences.
const UNUSED: &[&str] = &["*embeddings.position_ids", "*pooler.*"];
const UNUSED_BESIDE_SCORES: &[&str] =
    &["*embeddings.position_ids", "*pooler.*", "cls.seq_relationship.*", "cls.predictions.bias"];

/// BERT's head of masked language models.
pub(super) const MASKED: MaskedNames = MaskedNames {
    transform: ["cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm"],
    decoder: "cls.predictions.decoder",
    bias: "cls.predictions.bias",
};

/// Names of a masked language model's head.
pub(super) struct MaskedNames {
    /// Dense layer and norm before the scores.
    pub transform: [&'static str; 2],
    /// The layer of the scores.
    pub decoder: &'static str,
    /// Its bias as it is also stored.
    pub bias: &'static str,
}

impl MaskedNames {
    /// The table of tokens that a checkpoint names `table` unless it is tied and stored as scores, and the head,
    /// with `activation` and vectors that a norm like `norm` gives.
    pub fn read(
        &self,
        request: &Request<'_>,
        table: &str,
        activation: UnaryOp,
        norm: &Norm,
    ) -> Result<(String, MaskedHead), ConfigError> {
        let [dense, normed] = self.transform;
        let tie = request.config.flag("tie_word_embeddings", true)?;
        let (table, matrix) = request.tensors.tied(table, &format!("{}.weight", self.decoder), tie);
        let (_, bias) = request.tensors.tied(self.bias, &format!("{}.bias", self.decoder), tie);
        let transform = Transform::dense(dense, &norm.width, activation).normed((normed, norm.clone()));
        Ok((table, MaskedHead { transform, matrix, bias: Some(bias) }))
    }
}

/// Refuses switches that make decoders of encoders, and positions that are not learned.
pub(super) fn refuse_switches(config: &ConfigReader<'_>) -> Result<(), ConfigError> {
    for key in ["is_decoder", "add_cross_attention"] {
        if config.flag(key, false)? {
            return Err(config.invalid(key, "false"));
        }
    }
    match config.text("position_embedding_type")? {
        None | Some("absolute") => Ok(()),
        Some(_) => Err(config.invalid("position_embedding_type", "absolute")),
    }
}

/// Norm of a width with BERT's key.
pub(super) fn norm(config: &ConfigReader<'_>, width: &Size) -> Result<Norm, ConfigError> {
    Ok(Norm::layer(width, config.positive("layer_norm_eps")?.unwrap_or(1e-12)))
}

/// A layer with BERT's names and keys, and an attention of other projections if that is wanted.
pub(super) fn layer(config: &ConfigReader<'_>, width: &Size) -> Result<Layer, ConfigError> {
    let heads = config.equal_heads("num_attention_heads", "hidden_size", width)?;
    let attention = Attention {
        projections: Projections::Separate(["self.query", "self.key", "self.value"]),
        linear: LinearKind::BIASED,
        output: ("output.dense", LinearKind::BIASED),
        causal: false,
        ..Attention::causal(width, &heads.heads, &heads.head_dim)
    };
    let mlp = Mlp {
        width: width.clone(),
        inner: config.extent("intermediate_size")?,
        activation: config.activation("hidden_act", "gelu")?,
        layers: ["intermediate.dense", "output.dense"],
        linear: LinearKind::BIASED,
    };
    let norms = ["attention.output.LayerNorm", "output.LayerNorm"];
    Ok(Layer::post_norm(("attention", attention), ("", FeedForward::Plain(mlp)), norms, &norm(config, width)?))
}

/// Tokens, positions and types, as wide as `width`, and their norm.
pub(super) fn embedding(
    config: &ConfigReader<'_>,
    table: String,
    width: &Size,
) -> Result<(Embedding, usize), ConfigError> {
    let rows = config.extent("max_position_embeddings")?;
    let limit = rows.value();
    let types = Size::new(config.size_or_zero("type_vocab_size")?.unwrap_or(2), "type_vocab_size");
    let embedding = Embedding {
        positions: Some(Positions { table: "embeddings.position_embeddings", rows, offset: 0, skip_padding: false }),
        types: Some(TokenTypes { table: "embeddings.token_type_embeddings", rows: types }),
        norm: Some(("embeddings.LayerNorm", norm(config, width)?)),
        ..Embedding::plain(table, &config.extent("vocab_size")?, width)
    };
    Ok((embedding, limit))
}

/// An encoder with BERT's names and keys: what its descendants begin with. `activation` is that of the masked
/// language model's head if it is not the layers'.
pub(super) fn encoder(
    request: &Request<'_>,
    prefix: &str,
    masked: &MaskedNames,
    activation: Option<UnaryOp>,
) -> Result<Encoder, ModelError> {
    let (config, tensors) = (request.config, request.tensors);
    refuse_switches(config)?;
    let width = config.extent("hidden_size")?;
    let prefix = tensors.prefix(prefix);
    let activation = activation.map_or_else(|| config.activation("hidden_act", "gelu"), Ok)?;
    let table = format!("{prefix}embeddings.word_embeddings.weight");
    let (table, masked) = masked.read(request, &table, activation, &norm(config, &width)?)?;
    let (embedding, limit) = embedding(config, table, &width)?;
    let pooler = Transform::dense(format!("{prefix}pooler.dense"), &width, UnaryOp::Tanh);
    Ok(Encoder {
        embedding,
        uncounted: None,
        rotary: vec![],
        relative: None,
        distances: None,
        layers: Stack::Own("encoder.layer", vec![layer(config, &width)?; config.layers("num_hidden_layers")?]),
        final_norm: None,
        heads: Heads::of_pooler(pooler, masked),
        max_positions: Some(limit),
        known_unused: UNUSED,
        known_heads: &[],
        prefix,
        width,
    })
}
