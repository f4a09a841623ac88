//! Phi-1, 1.5 and 2: parallel layers, partly rotated heads, biases everywhere.
//! Sources: arXiv:2306.11644, 2309.05463; transformers `models/phi/modeling_phi.py`.

use super::ModelError;
use super::family::{Family, Head, Request};
use super::rope;
use crate::blocks::{
    Attention, Decoder, Embedding, FeedForward, HeadNormScope, HeadNorms, Layer, LinearKind, Mlp, Norm, Scores,
};

pub(super) const FAMILY: Family = Family {
    model_type: "phi",
    architectures: &[
        ("PhiModel", Head::None),
        ("PhiForCausalLM", Head::LanguageModel),
        ("PhiForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&read(request)?),
};

fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let (config, tensors) = (request.config, request.tensors);
    let (width, vocab) = (config.extent("hidden_size")?, config.extent("vocab_size")?);
    let heads = config.heads("num_attention_heads", "num_key_value_heads", "head_dim", &width)?;
    let prefix = tensors.prefix("model.");
    let tie = config.flag("tie_word_embeddings", false)?;
    let (table, matrix) = tensors.tied(&format!("{prefix}embed_tokens.weight"), "lm_head.weight", tie);
    let eps = config.positive("layer_norm_eps")?.unwrap_or(1e-5);
    let norm = Norm::layer(&width, eps);
    let head_norms = HeadNorms {
        names: ["q_layernorm", "k_layernorm"],
        norm: Norm::layer(&heads.head_dim, eps),
        scope: HeadNormScope::EachHead,
    };
    let attention = Attention {
        kv_heads: heads.kv_heads,
        linear: LinearKind::BIASED,
        output: ("dense", LinearKind::BIASED),
        norms: config.flag("qk_layernorm", false)?.then_some(head_norms),
        rotary: Some(0),
        ..Attention::causal(&width, &heads.heads, &heads.head_dim)
    };
    let mlp = Mlp {
        width: width.clone(),
        inner: config.extent("intermediate_size")?,
        activation: config.activation("hidden_act", "gelu_new")?,
        layers: ["fc1", "fc2"],
        linear: LinearKind::BIASED,
    };
    let layer = Layer::parallel(("self_attn", attention), ("mlp", FeedForward::Plain(mlp)), "input_layernorm", &norm);
    let max_positions = config.size("max_position_embeddings")?.unwrap_or(2048);
    let defaults = rope::Defaults { head_dim: heads.head_dim.value(), share: 0.5, theta: 10_000.0, max_positions };
    Ok(Decoder {
        embedding: Embedding::plain(table, &vocab, &width),
        rotary: vec![rope::rotary(config, &defaults)?],
        alibi: None,
        layers_name: "layers",
        layers: vec![layer; config.layers("num_hidden_layers")?],
        final_norm: Some(("final_layernorm", norm)),
        projection: None,
        scores: Scores { bias: Some("lm_head.bias"), ..Scores::plain(matrix) },
        max_positions: None,
        known_unused: &["*.rotary_emb.inv_freq"],
        prefix,
        width,
    })
}
