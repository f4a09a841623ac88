//! ALBERT: BERT with few layers' weights for all layers, and a narrow table of tokens.
//! Sources: arXiv:1909.11942; transformers `models/albert/modeling_albert.py`.

use castiron_ir::op::UnaryOp;

use super::ModelError;
use super::bert::{self, MaskedNames};
use super::family::{Built, Family, Head, Request};
use crate::blocks::{
    Attention, Embedding, Encoder, FeedForward, Heads, Layer, LinearKind, Mlp, Projections, Size, Stack, Transform,
};
use crate::config::ConfigReader;

pub(super) const FAMILY: Family = Family {
    model_type: "albert",
    architectures: &[
        ("AlbertModel", Head::None),
        ("AlbertForMaskedLM", Head::MaskedTokens),
        ("AlbertForSequenceClassification", Head::Sequence),
        ("AlbertForTokenClassification", Head::Tokens),
        ("AlbertForQuestionAnswering", Head::Span),
        ("AlbertForMultipleChoice", Head::Choice),
    ],
    build,
};

/// Most layers with weights of their own, each of which is written out.
const MOST_LAYERS: usize = 1000;

const MASKED: MaskedNames = MaskedNames {
    transform: ["predictions.dense", "predictions.LayerNorm"],
    decoder: "predictions.decoder",
    bias: "predictions.bias",
};

fn build(request: &Request<'_>) -> Result<Built, ModelError> {
    let (config, tensors) = (request.config, request.tensors);
    bert::refuse_switches(config)?;
    let (width, narrow) = (config.extent("hidden_size")?, config.extent("embedding_size")?);
    let activation = config.activation("hidden_act", "gelu_new")?;
    let prefix = tensors.prefix("albert.");
    let table = format!("{prefix}embeddings.word_embeddings.weight");
    let (table, masked) = MASKED.read(request, &table, activation, &bert::norm(config, &narrow)?)?;
    let (embedding, limit) = bert::embedding(config, table, &narrow)?;
    let mapping = Some(("encoder.embedding_hidden_mapping_in", width.clone(), LinearKind::BIASED));
    let pooler = Transform::dense(format!("{prefix}pooler"), &width, UnaryOp::Tanh);
    request.encoder(&Encoder {
        embedding: Embedding { mapping, ..embedding },
        uncounted: None,
        rotary: vec![],
        relative: None,
        distances: None,
        layers: layers(config, &width, activation)?,
        final_norm: None,
        heads: Heads::of_pooler(pooler, masked),
        max_positions: Some(limit),
        known_unused: &["*embeddings.position_ids", "*pooler.*", "predictions.bias", "sop_classifier.*"],
        known_heads: &["predictions.*"],
        prefix,
        width,
    })
}

/// Groups of layers, each of which stands for equally many of `num_hidden_layers`.
fn layers(config: &ConfigReader<'_>, width: &Size, activation: UnaryOp) -> Result<Stack, ModelError> {
    let heads = config.equal_heads("num_attention_heads", "hidden_size", width)?;
    let attention = Attention {
        projections: Projections::Separate(["query", "key", "value"]),
        linear: LinearKind::BIASED,
        output: ("dense", LinearKind::BIASED),
        causal: false,
        ..Attention::causal(width, &heads.heads, &heads.head_dim)
    };
    let mlp = Mlp {
        width: width.clone(),
        inner: config.extent("intermediate_size")?,
        activation,
        layers: ["ffn", "ffn_output"],
        linear: LinearKind::BIASED,
    };
    let norms = ["attention.LayerNorm", "full_layer_layer_norm"];
    let norm = bert::norm(config, width)?;
    let layer = Layer::post_norm(("attention", attention), ("", FeedForward::Plain(mlp)), norms, &norm);
    let all = config.layers("num_hidden_layers")?;
    let or_one = |key: &str| if config.get(key).is_some() { config.layers(key) } else { Ok(1) };
    let (groups, inner) = (or_one("num_hidden_groups")?, or_one("inner_group_num")?);
    if groups > all {
        return Err(config.invalid("num_hidden_groups", "at most num_hidden_layers").into());
    }
    if groups * inner > MOST_LAYERS {
        return Err(config.invalid("inner_group_num", &format!("at most {MOST_LAYERS} layers in all groups")).into());
    }
    let mut times = vec![0; groups];
    // In transformers' arithmetic, which decides where groups do not divide the layers.
    (0..all).for_each(|i| times[((i as f64 / (all as f64 / groups as f64)) as usize).min(groups - 1)] += 1);
    let names = ["encoder.albert_layer_groups", "albert_layers"];
    Ok(Stack::Shared { names, group: vec![layer; inner], times })
}
