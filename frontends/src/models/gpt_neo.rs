//! GPT-Neo: GPT-2 whose layers see all tokens and near ones in turn, with scores that are not scaled.
//! Sources: transformers `models/gpt_neo/modeling_gpt_neo.py`.

use serde_json::Value;

use super::ModelError;
use super::family::{Family, Head, Request};
use crate::blocks::{
    Attention, Decoder, Embedding, FeedForward, Layer, LinearKind, Mlp, Norm, Positions, Scores, Size,
};
use crate::config::{ConfigError, ConfigReader};

pub(super) const FAMILY: Family = Family {
    model_type: "gpt_neo",
    architectures: &[
        ("GPTNeoModel", Head::None),
        ("GPTNeoForCausalLM", Head::LanguageModel),
        ("GPTNeoForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&read(request)?),
};

fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let (config, tensors) = (request.config, request.tensors);
    let (width, vocab) = (config.extent("hidden_size")?, config.extent("vocab_size")?);
    let heads = config.equal_heads("num_heads", "hidden_size", &width)?;
    let inner = config.size("intermediate_size")?.map_or_else(|| &width * 4, |n| Size::new(n, "intermediate_size"));
    let prefix = tensors.prefix("transformer.");
    let tie = config.flag("tie_word_embeddings", true)?;
    let (table, matrix) = tensors.tied(&format!("{prefix}wte.weight"), "lm_head.weight", tie);
    let norm = Norm::layer(&width, config.positive("layer_norm_epsilon")?.unwrap_or(1e-5));
    let attention = Attention {
        output: ("out_proj", LinearKind::BIASED),
        scale: 1.0,
        ..Attention::causal(&width, &heads.heads, &heads.head_dim)
    };
    let mlp = Mlp {
        width: width.clone(),
        inner,
        activation: config.activation("activation_function", "gelu_new")?,
        layers: ["c_fc", "c_proj"],
        linear: LinearKind::BIASED,
    };
    let feed_forward = ("mlp", FeedForward::Plain(mlp));
    let layer = Layer::pre_norm(("attn.attention", attention), feed_forward, ["ln_1", "ln_2"], &norm);
    let mut layers = vec![layer; config.layers("num_layers")?];
    let window = config.size("window_size")?.unwrap_or(256);
    for (layer, local) in layers.iter_mut().zip(local_layers(config)?) {
        layer.attention_mut().window = local.then_some(window);
    }
    let rows = config.extent("max_position_embeddings")?;
    let max_positions = Some(rows.value());
    let positions = Some(Positions { table: "wpe", rows, offset: 0, skip_padding: false });
    Ok(Decoder {
        embedding: Embedding { positions, ..Embedding::plain(table, &vocab, &width) },
        rotary: vec![],
        alibi: None,
        layers_name: "h",
        layers,
        final_norm: Some(("ln_f", norm)),
        projection: None,
        scores: Scores::plain(matrix),
        max_positions,
        known_unused: &["*.attn.attention.bias", "*.attn.attention.masked_bias"],
        prefix,
        width,
    })
}

/// Which layers see near tokens only: `attention_types` is a list of patterns and how often each stands,
/// `attention_layers` the same written out.
fn local_layers(config: &ConfigReader<'_>) -> Result<Vec<bool>, ConfigError> {
    let count = config.layers("num_layers")?;
    config.get("attention_layers");
    let Some(types) = config.get("attention_types") else { return Ok((0..count).map(|i| i % 2 == 1).collect()) };
    let is_local = |kind: &Value| match kind.as_str() {
        Some("global") => Some(false),
        Some("local") => Some(true),
        _ => None,
    };
    let repeated = |part: &Value| {
        let [kinds, times] = part.as_array()?.as_slice() else { return None };
        let kinds: Vec<bool> = kinds.as_array()?.iter().map(is_local).collect::<Option<_>>()?;
        let times = times.as_u64().filter(|times| *times as usize <= count)?;
        Some(kinds.repeat(times as usize))
    };
    let parts: Option<Vec<Vec<bool>>> = types.as_array().and_then(|parts| parts.iter().map(repeated).collect());
    let expected = format!("lists of global and local with how often they stand, for {count} layers in all");
    let layers = parts.map(|parts| parts.concat()).filter(|layers| layers.len() == count);
    layers.ok_or_else(|| config.invalid("attention_types", &expected))
}
