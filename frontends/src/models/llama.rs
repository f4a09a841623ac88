//! LLaMA: pre-norm decoder, RMS norms, rotary positions, grouped-query attention, gated MLP.
//! Sources: arXiv:2302.13971; transformers `models/llama/modeling_llama.py`.

use super::ModelError;
use super::family::{Family, Head, Request};
use super::rope;
use crate::blocks::{Attention, Decoder, Embedding, FeedForward, Gate, GatedMlp, Layer, LinearKind, Norm, Scores};

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
    let config = request.config;
    let biases = (config.flag("attention_bias", false)?, config.flag("mlp_bias", false)?);
    if config.flag("rope_interleaved", false)? {
        return Err(config.invalid("rope_interleaved", "false").into());
    }
    let linear = LinearKind::with_bias(biases.0);
    let mut model = decoder(request, "silu")?;
    for layer in &mut model.layers {
        layer.attention.1.linear = linear;
        layer.attention.1.output.1 = linear;
        if let FeedForward::Gated(mlp) = &mut layer.feed_forward.1 {
            mlp.bias = biases.1;
        }
    }
    Ok(model)
}

/// A decoder with LLaMA's names and keys, and no biases: what its many descendants begin with.
pub(super) fn decoder(request: &Request<'_>, activation: &str) -> Result<Decoder, ModelError> {
    let (config, tensors) = (request.config, request.tensors);
    let (width, vocab) = (config.extent("hidden_size")?, config.extent("vocab_size")?);
    let heads = config.heads("num_attention_heads", "num_key_value_heads", "head_dim", &width)?;
    let max_positions = config.size("max_position_embeddings")?.unwrap_or(2048);
    let prefix = tensors.prefix("model.");
    let tie = config.flag("tie_word_embeddings", false)?;
    let (table, matrix) = tensors.tied(&format!("{prefix}embed_tokens.weight"), "lm_head.weight", tie);
    let norm = Norm::rms(&width, config.positive("rms_norm_eps")?.unwrap_or(1e-6));
    let attention = Attention {
        kv_heads: heads.kv_heads,
        rotary: Some(0),
        ..Attention::causal(&width, &heads.heads, &heads.head_dim)
    };
    let mlp = GatedMlp {
        width: width.clone(),
        inner: config.extent("intermediate_size")?,
        activation: config.activation("hidden_act", activation)?,
        gate: Gate::Separate(["gate_proj", "up_proj"]),
        down: "down_proj",
        bias: false,
    };
    let norms = ["input_layernorm", "post_attention_layernorm"];
    let layer = Layer::pre_norm(("self_attn", attention), ("mlp", FeedForward::Gated(mlp)), norms, &norm);
    Ok(Decoder {
        embedding: Embedding::plain(table, &vocab, &width),
        rotary: vec![rope::rotary(config, heads.head_dim.value(), max_positions)?],
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
