//! GPT-NeoX and Pythia: parallel layers with two norms, partly rotated heads.
//! Sources: arXiv:2204.06745; transformers `models/gpt_neox/modeling_gpt_neox.py`.

use super::family::{Family, Head, Request};
use super::{ModelError, rope};
use crate::blocks::{Attention, Decoder, Embedding, FeedForward, Layer, LinearKind, Mlp, Norm, Projections, Scores};

pub(super) const FAMILY: Family = Family {
    model_type: "gpt_neox",
    architectures: &[
        ("GPTNeoXModel", Head::None),
        ("GPTNeoXForCausalLM", Head::LanguageModel),
        ("GPTNeoXForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&read(request)?),
};

fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let (config, tensors) = (request.config, request.tensors);
    let (width, vocab) = (config.extent("hidden_size")?, config.extent("vocab_size")?);
    let heads = config.equal_heads("num_attention_heads", "hidden_size", &width)?;
    if config.flag("is_decoder", false)? {
        return Err(config.invalid("is_decoder", "false, which leaves attention causal all the same").into());
    }
    let prefix = tensors.prefix("gpt_neox.");
    let tie = config.flag("tie_word_embeddings", false)?;
    // The newest release calls the matrix of scores by another name.
    let head = if tensors.has("lm_head.weight") { "lm_head.weight" } else { "embed_out.weight" };
    let (table, matrix) = tensors.tied(&format!("{prefix}embed_in.weight"), head, tie);
    let norm = Norm::layer(&width, config.positive("layer_norm_eps")?.unwrap_or(1e-5));
    let linear = LinearKind::with_bias(config.flag("attention_bias", true)?);
    let attention = Attention {
        projections: Projections::Grouped("query_key_value"),
        linear,
        output: ("dense", linear),
        rotary: Some(0),
        ..Attention::causal(&width, &heads.heads, &heads.head_dim)
    };
    let mlp = Mlp {
        width: width.clone(),
        inner: config.extent("intermediate_size")?,
        activation: config.activation("hidden_act", "gelu")?,
        layers: ["dense_h_to_4h", "dense_4h_to_h"],
        linear: LinearKind::BIASED,
    };
    let norms = ["input_layernorm", "post_attention_layernorm"];
    let mut layer = Layer::pre_norm(("attention", attention), ("mlp", FeedForward::Plain(mlp)), norms, &norm);
    layer.parallel = config.flag("use_parallel_residual", true)?;
    let max_positions = config.size("max_position_embeddings")?.unwrap_or(2048);
    let defaults = rope::Defaults { head_dim: heads.head_dim.value(), share: 0.25, theta: 10_000.0, max_positions };
    Ok(Decoder {
        embedding: Embedding::plain(table, &vocab, &width),
        rotary: vec![rope::rotary(config, &defaults)?],
        alibi: None,
        layers_name: "layers",
        layers: vec![layer; config.layers("num_hidden_layers")?],
        final_norm: Some(("final_layer_norm", norm)),
        projection: None,
        scores: Scores::plain(matrix),
        max_positions: None,
        known_unused: &["*.attention.bias", "*.attention.masked_bias", "*.rotary_emb.inv_freq", "embed_out.*"],
        prefix,
        width,
    })
}
