//! Falcon: parallel or sequential layers, one key head, or one for each group of queries, or for each;
//! rotary positions or scores that fall with the distance.
//! Sources: arXiv:2311.16867; transformers `models/falcon/modeling_falcon.py`.

use super::family::{Family, Head, Request};
use super::{ModelError, rope};
use crate::blocks::{
    Alibi, Attention, Decoder, Embedding, FeedForward, Layer, LinearKind, Mlp, NamedNorm, Norm, Projections, Scores,
    Size,
};
use crate::config::ConfigReader;

pub(super) const FAMILY: Family = Family {
    model_type: "falcon",
    architectures: &[
        ("FalconModel", Head::None),
        ("FalconForCausalLM", Head::LanguageModel),
        ("FalconForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&read(request)?),
};

fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let (config, tensors) = (request.config, request.tensors);
    let (width, vocab) = (config.extent("hidden_size")?, config.extent("vocab_size")?);
    let heads = config.equal_heads("num_attention_heads", "hidden_size", &width)?;
    let linear = LinearKind::with_bias(config.flag("bias", false)?);
    let prefix = tensors.prefix("transformer.");
    let tie = config.flag("tie_word_embeddings", true)?;
    let (table, matrix) = tensors.tied(&format!("{prefix}word_embeddings.weight"), "lm_head.weight", tie);
    let has_alibi = config.flag("alibi", false)?;
    let (kv_heads, projections) = key_heads(config, &heads.heads)?;
    let attention = Attention {
        kv_heads: kv_heads.clone(),
        projections,
        linear,
        output: ("dense", linear),
        rotary: (!has_alibi).then_some(0),
        ..Attention::causal(&width, &heads.heads, &heads.head_dim)
    };
    let mlp = Mlp {
        width: width.clone(),
        inner: config.size("ffn_hidden_size")?.map_or_else(|| &width * 4, |n| Size::new(n, "ffn_hidden_size")),
        activation: config.activation("activation", "gelu")?,
        layers: ["dense_h_to_4h", "dense_4h_to_h"],
        linear,
    };
    let norm = Norm::layer(&width, config.positive("layer_norm_epsilon")?.unwrap_or(1e-5));
    let (parallel, before) = norms(config, &norm)?;
    let layer = Layer::pre_norm(("self_attention", attention), ("mlp", FeedForward::Plain(mlp)), ["", ""], &norm);
    let layer = Layer { before, parallel, ..layer };
    let max_positions = config.size("max_position_embeddings")?.unwrap_or(2048);
    let defaults = rope::Defaults { head_dim: heads.head_dim.value(), share: 1.0, theta: 10_000.0, max_positions };
    // ALiBi is added before the scores are scaled, and was computed in bf16.
    let rounding = Some(1.0 / (heads.head_dim.value() as f64).sqrt());
    let alibi = Alibi { heads: heads.heads.value(), kv_heads: kv_heads.value(), rounding };
    Ok(Decoder {
        embedding: Embedding::plain(table, &vocab, &width),
        rotary: vec![rope::rotary(config, &defaults)?],
        alibi: has_alibi.then_some(alibi),
        layers_name: "h",
        layers: vec![layer; config.layers("num_hidden_layers")?],
        final_norm: Some(("ln_f", norm)),
        projection: None,
        scores: Scores::plain(matrix),
        max_positions: None,
        known_unused: &["*.rotary_emb.inv_freq", "*.maybe_rotary.inv_freq"],
        prefix,
        width,
    })
}

/// Number of key heads, and how they lie beside the queries.
fn key_heads(config: &ConfigReader<'_>, heads: &Size) -> Result<(Size, Projections), ModelError> {
    let grouped = config.flag("new_decoder_architecture", false)?;
    let one = config.flag("multi_query", true)?;
    let count = config.size("num_kv_heads")?.unwrap_or(heads.value());
    if !heads.value().is_multiple_of(count) || (!grouped && !one && count != heads.value()) {
        return Err(config.invalid("num_kv_heads", "a divisor of num_attention_heads, or that number").into());
    }
    Ok(match (grouped, one) {
        (false, true) => (Size::new(1, "multi_query"), Projections::Joint("query_key_value")),
        _ => (Size::new(count, "num_kv_heads"), Projections::Grouped("query_key_value")),
    })
}

/// Whether layers are parallel, and their norms.
fn norms(config: &ConfigReader<'_>, norm: &Norm) -> Result<(bool, [Option<NamedNorm>; 2]), ModelError> {
    let named = |name| Some((name, norm.clone()));
    let grouped = config.flag("new_decoder_architecture", false)?;
    let parallel = config.flag("parallel_attn", true)?;
    let count = config.size("num_ln_in_parallel_attn")?.unwrap_or(if grouped { 2 } else { 1 });
    match (grouped, parallel, count) {
        (false, false, _) => Ok((false, [named("input_layernorm"), named("post_attention_layernorm")])),
        (_, true, 1) => Ok((true, [named("input_layernorm"), None])),
        (true, true, 2) => Ok((true, [named("ln_attn"), named("ln_mlp")])),
        (true, false, _) => Err(config.invalid("parallel_attn", "true with new_decoder_architecture").into()),
        _ => Err(config.invalid("num_ln_in_parallel_attn", "1, or 2 with new_decoder_architecture").into()),
    }
}
