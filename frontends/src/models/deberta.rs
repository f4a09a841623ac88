//! DeBERTa, DeBERTa-v2 and -v3: BERT whose scores also go by contents and relative positions.
//! Sources: arXiv:2006.03654, arXiv:2111.09543; transformers `models/deberta` and `models/deberta_v2`.

use serde_json::Value;

use super::family::{Built, Family, Head, Request};
use super::{ModelError, bert};
use crate::blocks::{
    Classifier, Convolution, Disentangled, Distances, Embedding, Encoder, Heads, Layer, LinearKind, MaskedHead, Norm,
    Projections, Size, Stack, Transform, distances,
};
use crate::config::{ConfigError, ConfigReader};

pub(super) const FIRST: Family = Family {
    model_type: "deberta",
    architectures: &[
        ("DebertaModel", Head::None),
        ("DebertaForMaskedLM", Head::MaskedTokens),
        ("DebertaForSequenceClassification", Head::Sequence),
        ("DebertaForTokenClassification", Head::Tokens),
        ("DebertaForQuestionAnswering", Head::Span),
    ],
    build: |request| build(request, Version::First),
};

pub(super) const SECOND: Family = Family {
    model_type: "deberta-v2",
    architectures: &[
        ("DebertaV2Model", Head::None),
        ("DebertaV2ForMaskedLM", Head::MaskedTokens),
        ("DebertaV2ForSequenceClassification", Head::Sequence),
        ("DebertaV2ForTokenClassification", Head::Tokens),
        ("DebertaV2ForQuestionAnswering", Head::Span),
        ("DebertaV2ForMultipleChoice", Head::Choice),
    ],
    build: |request| build(request, Version::Second),
};

/// Keys without effect where relative positions have none.
const NAMED_ALONE: &[&str] = &["max_relative_positions", "norm_rel_ebd", "position_buckets", "share_att_key"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    First,
    Second,
}

/// Most relative positions, each of which has a row in a table of constants.
const MOST_POSITIONS: usize = 1 << 16;

fn build(request: &Request<'_>, version: Version) -> Result<Built, ModelError> {
    let (config, tensors) = (request.config, request.tensors);
    bert::refuse_switches(config)?;
    config.get("padding_idx"); // the row of padding is as any other
    let width = config.extent("hidden_size")?;
    for key in ["embedding_size", "pooler_hidden_size"] {
        if config.size(key)?.is_some_and(|size| size != width.value()) {
            return Err(config.invalid(key, "the same as hidden_size").into());
        }
    }
    let norm = Norm::layer(&width, config.positive("layer_norm_eps")?.unwrap_or(1e-7));
    let prefix = tensors.prefix("deberta.");
    let table = format!("{prefix}embeddings.word_embeddings.weight");
    let (table, masked) = masked_head(request, table, &norm)?;
    let (layers, distances) = layers(config, version, &prefix, &norm)?;
    let biased_input = config.flag("position_biased_input", true)?;
    let (embedding, limit) = bert::embedding(config, table, &width)?;
    let has_types = config.size_or_zero("type_vocab_size")?.unwrap_or(0) > 0;
    let activation = config.activation("pooler_hidden_act", "gelu")?;
    let pooler = Transform::dense("pooler.dense", &width, activation);
    request.encoder(&Encoder {
        embedding: Embedding {
            positions: embedding.positions.filter(|_| biased_input),
            types: embedding.types.filter(|_| has_types),
            norm: Some(("embeddings.LayerNorm", norm)),
            ..embedding
        },
        uncounted: None,
        rotary: vec![],
        relative: None,
        distances,
        layers: Stack::Own("encoder.layer", layers),
        final_norm: None,
        heads: Heads {
            pooler: None,
            sequence: Classifier::first_token(pooler.clone(), "classifier"),
            ..Heads::of_pooler(pooler, masked)
        },
        max_positions: biased_input.then_some(limit),
        known_unused: &["*embeddings.position*", "*encoder.LayerNorm.*", "mask_predictions.*", "cls.predictions.bias"],
        known_heads: &["cls.*", "lm_predictions.*"],
        prefix,
        width,
    })
}

/// The table of tokens and the head of masked language models: BERT's, or the paper's, which always multiplies
/// with the table.
fn masked_head(request: &Request<'_>, table: String, norm: &Norm) -> Result<(String, MaskedHead), ModelError> {
    let activation = request.config.activation("hidden_act", "gelu")?;
    if request.config.flag("legacy", true)? {
        return Ok(bert::MASKED.read(request, &table, activation, norm)?);
    }
    let transform = Transform::dense("lm_predictions.lm_head.dense", &norm.width, activation);
    let transform = transform.normed(("lm_predictions.lm_head.LayerNorm", norm.clone()));
    request.config.flag("tie_word_embeddings", true)?;
    let bias = Some("lm_predictions.lm_head.bias".to_owned());
    Ok((table.clone(), MaskedHead { transform, matrix: table, bias }))
}

/// The layers, and the rows of relative positions that they take.
fn layers(
    config: &ConfigReader<'_>,
    version: Version,
    prefix: &str,
    norm: &Norm,
) -> Result<(Vec<Layer>, Option<Distances>), ConfigError> {
    let mut layer = bert::layer(config, &norm.width)?;
    layer.sums.iter_mut().flatten().for_each(|(_, own)| own.eps = norm.eps);
    let kinds = position_kinds(config)?;
    let attention = layer.attention_mut();
    attention.scale = 1.0 / ((attention.head_dim.value() * (1 + kinds.count())) as f64).sqrt();
    attention.projections = match version {
        Version::First => Projections::GroupedWithBiases("self.in_proj", ["self.q_bias", "self.v_bias"]),
        Version::Second => Projections::Separate(["self.query_proj", "self.key_proj", "self.value_proj"]),
    };
    let mut taken = None;
    if config.flag("relative_attention", false)? {
        let (own, rows) = distances_and_rows(config, version)?;
        taken = Some(own);
        attention.disentangled = Some(disentangled(config, version, kinds, rows, prefix, norm)?);
    } else {
        NAMED_ALONE.iter().for_each(|key| _ = config.get(key));
    }
    if config.flag("talking_head", false)? {
        return Err(config.invalid("talking_head", "false"));
    }
    if config.size("attention_head_size")?.is_some_and(|size| size != attention.head_dim.value()) {
        return Err(config.invalid("attention_head_size", "hidden_size / num_attention_heads"));
    }
    let mut layers = vec![layer; config.layers("num_hidden_layers")?];
    if version == Version::Second {
        layers[0].convolution = convolution(config, prefix, norm)?;
    }
    Ok((layers, taken))
}

/// Whether queries of contents meet keys of positions, and queries of positions keys of contents.
#[derive(Clone, Copy)]
struct PositionKinds {
    c2p: bool,
    p2c: bool,
}

impl PositionKinds {
    fn count(self) -> usize {
        usize::from(self.c2p) + usize::from(self.p2c)
    }
}

/// `pos_att_type`, a list or names between bars.
fn position_kinds(config: &ConfigReader<'_>) -> Result<PositionKinds, ConfigError> {
    let names: Option<Vec<String>> = match config.get("pos_att_type") {
        None => Some(vec![]),
        Some(Value::String(text)) => Some(text.to_lowercase().split('|').map(|name| name.trim().into()).collect()),
        Some(Value::Array(list)) => list.iter().map(|name| name.as_str().map(str::to_owned)).collect(),
        Some(_) => None,
    };
    let names = names.filter(|names| names.iter().all(|name| ["c2p", "p2c", ""].contains(&name.as_str())));
    let names = names.ok_or_else(|| config.invalid("pos_att_type", "c2p, p2c or both"))?;
    let names_one = |kind: &str| names.iter().any(|name| name == kind);
    Ok(PositionKinds { c2p: names_one("c2p"), p2c: names_one("p2c") })
}

fn disentangled(
    config: &ConfigReader<'_>,
    version: Version,
    kinds: PositionKinds,
    rows: Size,
    prefix: &str,
    norm: &Norm,
) -> Result<Disentangled, ConfigError> {
    let (mut keys, mut queries, mut table_norm) =
        (("self.pos_proj", LinearKind::PLAIN), ("self.pos_q_proj", LinearKind::BIASED), None);
    if version == Version::Second {
        (keys, queries) = match config.flag("share_att_key", false)? {
            true => (("self.key_proj", LinearKind::BIASED), ("self.query_proj", LinearKind::BIASED)),
            false => (("self.pos_key_proj", LinearKind::BIASED), ("self.pos_query_proj", LinearKind::BIASED)),
        };
        let names = config.text("norm_rel_ebd")?.unwrap_or("none").to_lowercase();
        for name in names.split('|').map(str::trim) {
            match name {
                "layer_norm" => table_norm = Some(("LayerNorm", norm.clone())),
                "none" => {}
                _ => return Err(config.invalid("norm_rel_ebd", "none or layer_norm")),
            }
        }
    }
    Ok(Disentangled {
        scope: format!("{prefix}encoder"),
        table: "rel_embeddings",
        rows,
        norm: table_norm,
        keys: kinds.c2p.then_some(keys),
        queries: kinds.p2c.then_some(queries),
    })
}

/// The row of each distance, and how many rows there are: one for each distance up to a limit, or for each class
/// of distances.
fn distances_and_rows(config: &ConfigReader<'_>, version: Version) -> Result<(Distances, Size), ConfigError> {
    let limit = match config.size_or_zero("max_relative_positions")? {
        Some(limit) if limit > 0 => limit,
        _ => config.required_size("max_position_embeddings")?,
    };
    if limit > MOST_POSITIONS {
        return Err(config.invalid("max_relative_positions", &format!("at most {MOST_POSITIONS}, not {limit}")));
    }
    let buckets = match version {
        Version::First => 0,
        Version::Second => config.size_or_zero("position_buckets")?.unwrap_or(0),
    };
    if buckets == 0 {
        return Ok((distances::each(limit), Size::new(2 * limit, "2·max_relative_positions")));
    }
    let expected = || config.invalid("position_buckets", &format!("from 2 to less than twice {limit} - 1 positions"));
    let rows = distances::by_logarithm(buckets, limit).ok_or_else(expected)?;
    Ok((rows, Size::new(2 * buckets, "2·position_buckets")))
}

/// The convolution beside the first layer.
fn convolution(config: &ConfigReader<'_>, prefix: &str, norm: &Norm) -> Result<Option<Convolution>, ConfigError> {
    let (activation, groups) = (config.activation("conv_act", "tanh")?, config.size("conv_groups")?.unwrap_or(1));
    let Some(taps) = config.size_or_zero("conv_kernel_size")?.filter(|&taps| taps > 0) else { return Ok(None) };
    if taps.is_multiple_of(2) {
        return Err(config.invalid("conv_kernel_size", "an odd number"));
    }
    if !norm.width.value().is_multiple_of(groups) {
        return Err(config.invalid("conv_groups", "a divisor of hidden_size"));
    }
    Ok(Some(Convolution {
        scope: format!("{prefix}encoder.conv"),
        name: "conv",
        width: norm.width.clone(),
        taps: Size::new(taps, "conv_kernel_size"),
        groups,
        activation,
        norm: ("LayerNorm", norm.clone()),
    }))
}
