//! LLaMA: pre-norm decoder, RMS norms, rotary positions, grouped-query attention, gated MLP.
//! Sources: arXiv:2302.13971; transformers `models/llama/modeling_llama.py`.

use super::ModelError;
use super::family::{Family, Head, Request};
use super::rope;
use crate::blocks::{
    Attention, Decoder, Embedding, FeedForward, Gate, GatedMlp, Layer, LinearKind, Mixer, Norm, Scores, Size,
};

pub(super) const FAMILY: Family = Family {
    model_type: "llama",
    architectures: &[
        ("LlamaModel", Head::None),
        ("LlamaForCausalLM", Head::LanguageModel),
        ("LlamaForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&read(request)?),
};

fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    if request.config.flag("rope_interleaved", false)? {
        return Err(request.config.invalid("rope_interleaved", "false").into());
    }
    let mut model = decoder(request, &Defaults::LLAMA)?;
    biases(request, &mut model)?;
    Ok(model)
}

/// What LLaMA's descendants assume where their configs are silent.
pub(super) struct Defaults {
    /// Key of the width inside gated perceptrons.
    pub inner: &'static str,
    /// Key and default of the gate's activation.
    pub activation: (&'static str, &'static str),
    /// `tie_word_embeddings`
    pub tie: bool,
    /// Share of a head's channels that turn.
    pub rotary_share: f64,
    /// Base of the rotary frequencies.
    pub theta: f64,
    /// Makes all norms of the layers' width.
    pub norm: fn(&Size, f64) -> Norm,
    /// Key and default of the norms' epsilon.
    pub eps: (&'static str, f64),
}

impl Defaults {
    pub const LLAMA: Defaults = Defaults {
        inner: "intermediate_size",
        activation: ("hidden_act", "silu"),
        tie: false,
        rotary_share: 1.0,
        theta: 10_000.0,
        norm: Norm::rms,
        eps: ("rms_norm_eps", 1e-6),
    };
}

/// A decoder with LLaMA's names and keys and no biases: what its many descendants begin with.
pub(super) fn decoder(request: &Request<'_>, defaults: &Defaults) -> Result<Decoder, ModelError> {
    let config = request.config;
    let width = config.extent("hidden_size")?;
    let heads = config.heads("num_attention_heads", "num_key_value_heads", "head_dim", &width)?;
    let rotary = rope::rotary(config, &rope_defaults(request, defaults, &heads.head_dim)?)?;
    let attention = Attention {
        kv_heads: heads.kv_heads,
        rotary: Some(0),
        ..Attention::causal(&width, &heads.heads, &heads.head_dim)
    };
    Ok(Decoder { rotary: vec![rotary], ..with_mixer(request, defaults, attention)? })
}

/// The same with another mixer in all layers, and without positions.
pub(super) fn with_mixer(
    request: &Request<'_>,
    defaults: &Defaults,
    mixer: impl Into<Mixer>,
) -> Result<Decoder, ModelError> {
    let (config, tensors) = (request.config, request.tensors);
    let (width, vocab) = (config.extent("hidden_size")?, config.extent("vocab_size")?);
    let prefix = tensors.prefix("model.");
    let tie = config.flag("tie_word_embeddings", defaults.tie)?;
    let (table, matrix) = tensors.tied(&format!("{prefix}embed_tokens.weight"), "lm_head.weight", tie);
    let norm = (defaults.norm)(&width, config.positive(defaults.eps.0)?.unwrap_or(defaults.eps.1));
    let mlp = GatedMlp {
        width: width.clone(),
        inner: config.extent(defaults.inner)?,
        activation: config.activation(defaults.activation.0, defaults.activation.1)?,
        gate: Gate::Separate(["gate_proj", "up_proj"]),
        down: "down_proj",
        bias: false,
    };
    let norms = ["input_layernorm", "post_attention_layernorm"];
    let layer = Layer::pre_norm(("self_attn", mixer), ("mlp", FeedForward::Gated(mlp)), norms, &norm);
    Ok(Decoder {
        embedding: Embedding::plain(table, &vocab, &width),
        rotary: vec![],
        alibi: None,
        layers_name: "layers",
        layers: vec![layer; config.layers("num_hidden_layers")?],
        final_norm: Some(("norm", norm)),
        projection: None,
        scores: Scores::plain(matrix),
        max_positions: None, // rotary positions go on for ever
        known_unused: &["*.rotary_emb.inv_freq"],
        prefix,
        width,
    })
}

/// What the rotary positions of [`decoder`] go by.
pub(super) fn rope_defaults(
    request: &Request<'_>,
    defaults: &Defaults,
    head_dim: &Size,
) -> Result<rope::Defaults, ModelError> {
    let max_positions = request.config.size("max_position_embeddings")?.unwrap_or(2048);
    let (share, theta) = (defaults.rotary_share, defaults.theta);
    Ok(rope::Defaults { head_dim: head_dim.value(), share, theta, max_positions })
}

/// Biases of attention where `attention_bias` asks for them.
pub(super) fn attention_biases(request: &Request<'_>, model: &mut Decoder) -> Result<(), ModelError> {
    let linear = LinearKind::with_bias(request.config.flag("attention_bias", false)?);
    for layer in &mut model.layers {
        let attention = layer.attention_mut();
        (attention.linear, attention.output.1) = (linear, linear);
    }
    Ok(())
}

/// Biases where `attention_bias` and `mlp_bias` ask for them.
pub(super) fn biases(request: &Request<'_>, model: &mut Decoder) -> Result<(), ModelError> {
    attention_biases(request, model)?;
    let bias = request.config.flag("mlp_bias", false)?;
    for layer in &mut model.layers {
        if let FeedForward::Gated(mlp) = &mut layer.feed_forward.1 {
            mlp.bias = bias;
        }
    }
    Ok(())
}
