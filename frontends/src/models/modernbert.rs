//! ModernBERT: pre-norm encoder, rotary positions, gated MLP, few layers that see all and many that see near tokens.
//! Sources: arXiv:2412.13663; transformers `models/modernbert/modeling_modernbert.py`.

use super::family::{Built, Family, Head, Request};
use super::{ModelError, bert, layer_types, rope};
use crate::blocks::{
    Attention, Classifier, Embedding, Encoder, FeedForward, Gate, GatedMlp, Heads, Layer, LinearKind, MaskedHead, Norm,
    PoolingMode, Projections, Rotary, Stack, Transform,
};
use crate::config::{ConfigError, ConfigReader};

pub(super) const FAMILY: Family = Family {
    model_type: "modernbert",
    architectures: &[
        ("ModernBertModel", Head::None),
        ("ModernBertForMaskedLM", Head::MaskedTokens),
        ("ModernBertForSequenceClassification", Head::Sequence),
        ("ModernBertForTokenClassification", Head::Tokens),
        ("ModernBertForQuestionAnswering", Head::Span),
        ("ModernBertForMultipleChoice", Head::Choice),
    ],
    build,
};

/// Kinds of layers, in the order of their rotary tables.
const GLOBAL: usize = 0;
const LOCAL: usize = 1;

fn build(request: &Request<'_>) -> Result<Built, ModelError> {
    let (config, tensors) = (request.config, request.tensors);
    let (width, vocab) = (config.extent("hidden_size")?, config.extent("vocab_size")?);
    // Named in published configs, which mean `norm_eps` by it and turn nothing on.
    config.number("layer_norm_eps")?;
    bert::refuse_switches(config)?;
    let norm = Norm {
        bias: config.flag("norm_bias", false)?,
        ..Norm::layer(&width, config.positive("norm_eps")?.unwrap_or(1e-5))
    };
    let prefix = tensors.prefix("model.");
    let tie = config.flag("tie_word_embeddings", true)?;
    let table = format!("{prefix}embeddings.tok_embeddings.weight");
    let (table, matrix) = tensors.tied(&table, "decoder.weight", tie);
    let transform = Transform {
        linear: LinearKind::with_bias(config.flag("classifier_bias", false)?),
        ..Transform::dense("head.dense", &width, config.activation("classifier_activation", "gelu")?)
    };
    let transform = transform.normed(("head.norm", norm.clone()));
    let bias = config.flag("decoder_bias", true)?.then(|| "decoder.bias".to_owned());
    let tokens = Classifier { transform: Some(transform.clone()), ..Classifier::tokens("classifier") };
    let pooling = match config.text("classifier_pooling")? {
        None | Some("cls") => PoolingMode::Cls,
        Some("mean") => PoolingMode::Mean,
        Some(_) => return Err(config.invalid("classifier_pooling", "cls or mean").into()),
    };
    // A choice skips padding on the left.
    let of_choice = if pooling == PoolingMode::Cls { PoolingMode::First } else { pooling };
    let max_positions = config.size("max_position_embeddings")?.unwrap_or(8192);
    let (layers, rotary) = layers(config, &norm, max_positions)?;
    request.encoder(&Encoder {
        embedding: Embedding {
            norm: Some(("embeddings.norm", norm.clone())),
            ..Embedding::plain(table, &vocab, &width)
        },
        uncounted: None,
        rotary,
        relative: None,
        distances: None,
        layers: Stack::Own("layers", layers),
        final_norm: Some(("final_norm", norm)),
        heads: Heads {
            pooler: None,
            masked: Some(MaskedHead { transform, matrix, bias }),
            sequence: Classifier { pooling: Some(pooling), ..tokens.clone() },
            choice: Classifier { pooling: Some(of_choice), ..tokens.clone() },
            span: tokens.clone(),
            tokens,
            replaced: None,
        },
        max_positions: None, // rotary positions go on for ever
        known_unused: &["*.rotary_emb.inv_freq"],
        known_heads: &["head.*", "decoder.*"],
        prefix,
        width,
    })
}

/// The layers, and the rotary tables that they take.
fn layers(config: &ConfigReader<'_>, norm: &Norm, limit: usize) -> Result<(Vec<Layer>, Vec<Rotary>), ConfigError> {
    let width = &norm.width;
    let heads = config.equal_heads("num_attention_heads", "hidden_size", width)?;
    if !heads.head_dim.value().is_multiple_of(2) {
        return Err(config.invalid("num_attention_heads", "heads of even width"));
    }
    let linear = LinearKind::with_bias(config.flag("attention_bias", false)?);
    let attention = Attention {
        projections: Projections::Joint("Wqkv"),
        linear,
        output: ("Wo", linear),
        causal: false,
        ..Attention::causal(width, &heads.heads, &heads.head_dim)
    };
    let mlp = GatedMlp {
        width: width.clone(),
        inner: config.extent("intermediate_size")?,
        activation: config.activation("hidden_activation", "gelu")?,
        gate: Gate::Joint("Wi"),
        down: "Wo",
        bias: config.flag("mlp_bias", false)?,
    };
    let layer = Layer::pre_norm(("attn", attention), ("mlp", FeedForward::Gated(mlp)), ["attn_norm", "mlp_norm"], norm);
    // Tokens up to half of it away are seen, on both sides.
    let reach = config.size("local_attention")?.unwrap_or(128) / 2;
    let of_kind = |kind: usize| {
        let mut layer = layer.clone();
        layer.attention_mut().rotary = Some(kind);
        layer.attention_mut().window = (kind == LOCAL).then_some(reach + 1);
        layer
    };
    let mut layers: Vec<Layer> = kinds(config)?.into_iter().map(of_kind).collect();
    layers[0].before[0] = None; // the embeddings' norm stands before it
    Ok((layers, rotary(config, heads.head_dim.value(), limit)?))
}

/// The kind of each layer: listed, or every so manieth sees all.
fn kinds(config: &ConfigReader<'_>) -> Result<Vec<usize>, ConfigError> {
    let every = config.size("global_attn_every_n_layers")?.unwrap_or(3);
    let local = layer_types::sliding(config, config.layers("num_hidden_layers")?, |i| i % every != 0)?;
    Ok(local.into_iter().map(|local| if local { LOCAL } else { GLOBAL }).collect())
}

/// The rotary tables of both kinds: today's `rope_parameters` of each, or the older `global_rope_theta` and
/// `local_rope_theta`.
fn rotary(config: &ConfigReader<'_>, head_dim: usize, max_positions: usize) -> Result<Vec<Rotary>, ConfigError> {
    let table = |(kind, key, usual): (&str, &str, f64)| {
        let theta = config.positive(key)?.unwrap_or(usual);
        let defaults = rope::Defaults { head_dim, share: 1.0, theta, max_positions };
        Ok(rope::of_layer_type(config, kind, &defaults)?.unwrap_or_else(|| rope::unscaled(&defaults)))
    };
    let named = |key: &String| layer_types::KINDS.contains(&key.as_str());
    if config.get("rope_parameters").is_some_and(|all| !all.as_object().is_some_and(|all| all.keys().all(named))) {
        return Err(config.invalid("rope_parameters", "an object for each type of layers"));
    }
    let kinds =
        [("full_attention", "global_rope_theta", 160_000.0), ("sliding_attention", "local_rope_theta", 10_000.0)];
    kinds.into_iter().map(table).collect()
}
