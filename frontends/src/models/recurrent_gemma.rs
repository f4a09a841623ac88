//! RecurrentGemma: Griffin, with recurrent blocks beside attention within a window.
//! Sources: arXiv:2404.07839; transformers `models/recurrent_gemma`.

use castiron_ir::op::UnaryOp;
use half::bf16;

use super::family::{Family, Head, Request};
use super::{ModelError, rope};
use crate::blocks::{
    Attention, Decoder, Embedding, FeedForward, Gate, GatedMlp, Griffin, Layer, LinearKind, Mixer, Norm, NormWeight,
    Scores, Size,
};
use crate::config::{ConfigError, ConfigReader};

pub(super) const FAMILY: Family = Family {
    model_type: "recurrent_gemma",
    architectures: &[("RecurrentGemmaModel", Head::None), ("RecurrentGemmaForCausalLM", Head::LanguageModel)],
    build: |request| request.decoder(&read(request)?),
};

fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let (config, tensors) = (request.config, request.tensors);
    config.disregard(&["w_init_variance_scale", "final_w_init_variance_scale"]);
    if !config.flag("embeddings_scale_by_sqrt_dim", true)? {
        return Err(config.invalid("embeddings_scale_by_sqrt_dim", "true").into());
    }
    let (width, vocab) = (config.extent("hidden_size")?, config.extent("vocab_size")?);
    let prefix = tensors.prefix("model.");
    let tie = config.flag("tie_word_embeddings", true)?;
    let (table, matrix) = tensors.tied(&format!("{prefix}embed_tokens.weight"), "lm_head.weight", tie);
    // The reference keeps the factor as a bf16.
    let scale = bf16::from_f64((width.value() as f64).sqrt()).to_f64();
    let norm = Norm::rms(&width, config.positive("rms_norm_eps")?.unwrap_or(1e-6));
    let norm = Norm { weight: NormWeight::PlusOne, ..norm };
    let activation = config.activation("hidden_activation", "gelu_pytorch_tanh")?;
    let attention = attention(config, &width)?;
    let rotary = rope::Defaults {
        head_dim: attention.head_dim.value(),
        share: 0.5,
        theta: 10_000.0,
        max_positions: 0, // no scaling that would depend on it
    };
    let kind = ["rope_parameters", "rope_scaling"].iter().find_map(|key| config.get(key)?.get("rope_type"));
    if kind.is_some_and(|kind| kind != "default") {
        return Err(config.invalid("rope_parameters", "rotary positions of the type `default`").into());
    }
    let rotary = rope::rotary(config, &rotary)?;
    let mixers = [Mixer::Griffin(griffin(config, &width, activation)?), Mixer::Attention(attention)];
    let mlp = FeedForward::Gated(GatedMlp {
        width: width.clone(),
        inner: half_of(config, "intermediate_size")?,
        activation,
        gate: Gate::Separate(["gate_proj", "up_proj"]),
        down: "down_proj",
        bias: true,
    });
    let layer = |kind: usize| {
        let mixer = ("temporal_block", mixers[kind].clone());
        Layer::pre_norm(mixer, ("mlp_block", mlp.clone()), ["temporal_pre_norm", "channel_pre_norm"], &norm)
    };
    let cap = config.positive("logits_soft_cap")?.unwrap_or(30.0);
    Ok(Decoder {
        embedding: Embedding { scale, ..Embedding::plain(table, &vocab, &width) },
        rotary: vec![rotary],
        alibi: None,
        layers_name: "layers",
        layers: kinds(config)?.into_iter().map(layer).collect(),
        final_norm: Some(("final_norm", norm.clone())),
        projection: None,
        scores: Scores { soft_cap: Some(cap), ..Scores::plain(matrix) },
        max_positions: None, // rotary positions go on for ever
        known_unused: &[],
        prefix,
        width,
    })
}

/// What mixes tokens in each layer, 0 for recurrence and 1 for attention: `block_types`, over and over.
fn kinds(config: &ConfigReader<'_>) -> Result<Vec<usize>, ConfigError> {
    let count = config.layers("num_hidden_layers")?;
    let Some(list) = config.get("block_types") else { return Ok([0, 0, 1].into_iter().cycle().take(count).collect()) };
    let kind = |name: &serde_json::Value| ["recurrent", "attention"].iter().position(|&kind| name == kind);
    let kinds: Option<Vec<usize>> = list.as_array().and_then(|list| list.iter().map(kind).collect());
    let expected = "a list out of \"recurrent\" and \"attention\"";
    let kinds = kinds.filter(|kinds| !kinds.is_empty()).ok_or_else(|| config.invalid("block_types", expected))?;
    Ok(kinds.into_iter().cycle().take(count).collect())
}

fn attention(config: &ConfigReader<'_>, width: &Size) -> Result<Attention, ModelError> {
    let heads = config.heads("num_attention_heads", "num_key_value_heads", "head_dim", width)?;
    Ok(Attention {
        kv_heads: heads.kv_heads,
        linear: LinearKind::with_bias(config.flag("attention_bias", false)?),
        output: ("o_proj", LinearKind::BIASED),
        rotary: Some(0),
        window: Some(config.size("attention_window_size")?.unwrap_or(2048)),
        ..Attention::causal(width, &heads.heads, &heads.head_dim)
    })
}

fn griffin(config: &ConfigReader<'_>, width: &Size, activation: UnaryOp) -> Result<Griffin, ModelError> {
    let inner = config.size("lru_width")?.map_or_else(|| width.clone(), |n| Size::new(n, "lru_width"));
    let heads = config.extent("num_attention_heads")?;
    if !inner.value().is_multiple_of(heads.value()) {
        return Err(config.invalid("lru_width", "a multiple of num_attention_heads").into());
    }
    let taps = Size::new(config.size("conv1d_width")?.unwrap_or(4), "conv1d_width");
    Ok(Griffin { width: width.clone(), inner, heads, taps, activation })
}

fn half_of(config: &ConfigReader<'_>, key: &str) -> Result<Size, ConfigError> {
    match config.required_size(key)? / 2 {
        0 => Err(config.invalid(key, "an integer above 1")),
        half => Ok(Size::new(half, format!("{key} / 2"))),
    }
}
