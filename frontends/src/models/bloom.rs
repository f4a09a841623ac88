//! BLOOM: GPT-2 with a norm of the embeddings and scores that fall with the distance (ALiBi) in place of
//! positions.
//! Sources: arXiv:2211.05100; transformers `models/bloom/modeling_bloom.py`.

use castiron_ir::op::UnaryOp;

use super::ModelError;
use super::family::{Family, Head, Request};
use crate::blocks::{
    Alibi, Attention, Decoder, Embedding, FeedForward, Layer, LinearKind, Mlp, Norm, Projections, Scores,
};

pub(super) const FAMILY: Family = Family {
    model_type: "bloom",
    architectures: &[
        ("BloomModel", Head::None),
        ("BloomForCausalLM", Head::LanguageModel),
        ("BloomForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&read(request)?),
};

fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let (config, tensors) = (request.config, request.tensors);
    let width = match config.size("n_embed")? {
        Some(_) => config.extent("n_embed")?, // the older name
        None => config.extent("hidden_size")?,
    };
    let vocab = config.extent("vocab_size")?;
    let name = if config.size("num_attention_heads")?.is_some() { "num_attention_heads" } else { "n_head" };
    let heads = config.equal_heads(name, "hidden_size", &width)?;
    // How the last product of attention is split among machines.
    config.flag("slow_but_exact", false)?;
    for key in ["skip_bias_add", "skip_bias_add_qkv", "bias_dropout_fusion", "masked_softmax_fusion", "unk_token_id"] {
        config.get(key); // how training computed what is the same
    }
    let prefix = tensors.prefix("transformer.");
    let tie = config.flag("tie_word_embeddings", true)?;
    let (table, matrix) = tensors.tied(&format!("{prefix}word_embeddings.weight"), "lm_head.weight", tie);
    let norm = Norm::layer(&width, config.positive("layer_norm_epsilon")?.unwrap_or(1e-5));
    let attention = Attention {
        projections: Projections::Grouped("query_key_value"),
        linear: LinearKind::BIASED,
        output: ("dense", LinearKind::BIASED),
        ..Attention::causal(&width, &heads.heads, &heads.head_dim)
    };
    let mlp = Mlp {
        width: width.clone(),
        inner: &width * 4,
        activation: UnaryOp::GeluTanh,
        layers: ["dense_h_to_4h", "dense_4h_to_h"],
        linear: LinearKind::BIASED,
    };
    let norms = ["input_layernorm", "post_attention_layernorm"];
    let mut layer = Layer::pre_norm(("self_attention", attention), ("mlp", FeedForward::Plain(mlp)), norms, &norm);
    layer.adds_to_norm = config.flag("apply_residual_connection_post_layernorm", false)?;
    let count = if config.size("num_hidden_layers")?.is_some() { "num_hidden_layers" } else { "n_layer" };
    let embedding_norm = Some(("word_embeddings_layernorm", norm.clone()));
    Ok(Decoder {
        embedding: Embedding { norm: embedding_norm, ..Embedding::plain(table, &vocab, &width) },
        rotary: vec![],
        alibi: Some(Alibi { heads: heads.heads.value(), kv_heads: heads.heads.value(), rounding: None }),
        layers_name: "h",
        layers: vec![layer; config.layers(count)?],
        final_norm: Some(("ln_f", norm)),
        projection: None,
        scores: Scores::plain(matrix),
        max_positions: None,
        known_unused: &[],
        prefix,
        width,
    })
}
