//! OPT: learned positions that skip padding, ReLU, norms before or after each part.
//! Sources: arXiv:2205.01068; transformers `models/opt/modeling_opt.py`.

use super::ModelError;
use super::family::{Family, Head, Request};
use crate::blocks::{
    Attention, Decoder, Embedding, FeedForward, Layer, LinearKind, Mlp, Norm, NormWeight, Positions, Scores, Size,
};

pub(super) const FAMILY: Family = Family {
    model_type: "opt",
    architectures: &[
        ("OPTModel", Head::None),
        ("OPTForCausalLM", Head::LanguageModel),
        ("OPTForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&read(request)?),
};

/// Row of the first position: the table begins with what padding once took.
const POSITION_OFFSET: usize = 2;

fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let (config, tensors) = (request.config, request.tensors);
    let (width, vocab) = (config.extent("hidden_size")?, config.extent("vocab_size")?);
    let heads = config.equal_heads("num_attention_heads", "hidden_size", &width)?;
    let prefix = format!("{}decoder.", tensors.prefix("model."));
    let tie = config.flag("tie_word_embeddings", true)?;
    let (table, matrix) = tensors.tied(&format!("{prefix}embed_tokens.weight"), "lm_head.weight", tie);
    let linear = LinearKind::with_bias(config.flag("enable_bias", true)?);
    let attention =
        Attention { linear, output: ("out_proj", linear), ..Attention::causal(&width, &heads.heads, &heads.head_dim) };
    let mlp = Mlp {
        width: width.clone(),
        inner: config.extent("ffn_dim")?,
        activation: config.activation("activation_function", "relu")?,
        layers: ["fc1", "fc2"],
        linear,
    };
    let mut norm = Norm::layer(&width, 1e-5);
    if !config.flag("layer_norm_elementwise_affine", true)? {
        (norm.weight, norm.bias) = (NormWeight::None, false);
    }
    let before = config.flag("do_layer_norm_before", true)?;
    let is_removed = config.flag("_remove_final_layer_norm", false)?;
    let has_final = before && !is_removed;
    let arrange = if before { Layer::pre_norm } else { Layer::post_norm };
    let norms = ["self_attn_layer_norm", "final_layer_norm"];
    let layer = arrange(("self_attn", attention), ("", FeedForward::Plain(mlp)), norms, &norm);
    let table_width = config.size("word_embed_proj_dim")?.unwrap_or(width.value());
    let table_width = Size::new(table_width, "word_embed_proj_dim");
    let is_projected = table_width.value() != width.value();
    let positions = config.extent("max_position_embeddings")?;
    let max_positions = Some(positions.value());
    let rows = &positions + &Size::new(POSITION_OFFSET, POSITION_OFFSET.to_string());
    let positions = Positions { table: "embed_positions", rows, offset: POSITION_OFFSET, skip_padding: true };
    Ok(Decoder {
        embedding: Embedding {
            projection: is_projected.then(|| ("project_in", width.clone())),
            positions: Some(positions),
            ..Embedding::plain(table, &vocab, &table_width)
        },
        rotary: vec![],
        alibi: None,
        layers_name: "layers",
        layers: vec![layer; config.layers("num_hidden_layers")?],
        final_norm: has_final.then_some(("final_layer_norm", norm)),
        projection: is_projected.then_some("project_out"),
        scores: Scores::plain(matrix),
        max_positions,
        known_unused: &[],
        prefix,
        width,
    })
}
