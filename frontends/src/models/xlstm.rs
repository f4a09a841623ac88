//! xLSTM: layers of mLSTM and gated perceptrons. What transformers has is xLSTM-7B's arrangement, without sLSTM.
//! Sources: arXiv:2405.04517, arXiv:2503.13427; transformers `models/xlstm`.

use castiron_ir::op::UnaryOp;

use super::family::{Family, Head, Request};
use super::{ModelError, sparse};
use crate::blocks::{Decoder, Embedding, FeedForward, Gate, GatedMlp, Layer, Mixer, Mlstm, Norm, Scores, Size};
use crate::config::{ConfigError, ConfigReader};

pub(super) const FAMILY: Family = Family {
    model_type: "xlstm",
    architectures: &[("xLSTMModel", Head::None), ("xLSTMForCausalLM", Head::LanguageModel)],
    build: |request| request.decoder(&read(request)?),
};

/// Keys that say how the reference computes, or that it does not read.
const UNREAD: &[&str] = &[
    "add_out_norm", // there always is one
    "autocast_kernel_dtype",
    "chunk_size",
    "chunkwise_kernel",
    "max_inference_chunksize",
    "norm_reduction_force_float32",
    "return_last_states",
    "sequence_kernel",
    "step_kernel",
    "tie_word_embeddings", // never are
];

/// Width that no layer has.
const WIDEST: usize = 1 << 31;

fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let (config, tensors) = (request.config, request.tensors);
    config.disregard(UNREAD);
    sparse::require_text(config, "mode", &["inference", "train"])?;
    sparse::require_text(config, "inference_state_dtype", &["float32"])?;
    let joint = sparse::require_text(config, "weight_mode", &["single", "fused"])? == Some("fused");
    let (width, vocab) = (width(config)?, config.extent("vocab_size")?);
    let prefix = tensors.prefix("backbone.");
    let bias = config.flag("use_bias", false)?;
    let norm = Norm::rms(&width, config.positive("norm_eps")?.unwrap_or(1e-6));
    let mlp = FeedForward::Gated(GatedMlp {
        width: width.clone(),
        inner: inner(config, &width)?,
        activation: UnaryOp::Silu,
        gate: if joint { Gate::Joint("proj_up_gate_z") } else { Gate::Separate(["proj_up_gate", "proj_up"]) },
        down: "proj_down",
        bias,
    });
    let mlstm = mlstm(config, &width, [joint, bias], norm.eps)?;
    let in_layers = Norm { bias, ..norm.clone() };
    let layer =
        Layer::pre_norm(("mlstm_layer", Mixer::Mlstm(mlstm)), ("ffn", mlp), ["norm_mlstm", "norm_ffn"], &in_layers);
    let (blocks, layers) = (config.get("num_blocks").is_some(), "num_hidden_layers");
    config.disregard(&[layers]);
    let cap = config.positive("output_logit_soft_cap")?.unwrap_or(30.0);
    Ok(Decoder {
        embedding: Embedding::plain(format!("{prefix}embeddings.weight"), &vocab, &width),
        rotary: vec![],
        alibi: None,
        layers_name: "blocks",
        layers: vec![layer; config.layers(if blocks { "num_blocks" } else { layers })?],
        final_norm: Some(("out_norm", norm)),
        projection: None,
        scores: Scores { soft_cap: Some(cap), ..Scores::plain("lm_head.weight".to_owned()) },
        max_positions: None, // there are no positions
        known_unused: &[],
        prefix,
        width,
    })
}

fn mlstm(
    config: &ConfigReader<'_>,
    width: &Size,
    [joint, bias]: [bool; 2],
    norm_eps: f64,
) -> Result<Mlstm, ModelError> {
    let heads = Size::new(config.size("num_heads")?.unwrap_or(8), "num_heads");
    let head_dim = |key: &str, default: f64| -> Result<Size, ConfigError> {
        let factor = config.positive(key)?.unwrap_or(default);
        match (factor * width.value() as f64) as usize {
            all @ 1..WIDEST if all.is_multiple_of(heads.value()) => {
                Ok(Size::new(all / heads.value(), format!("{key}·hidden_size / num_heads")))
            }
            _ => Err(config.invalid(key, &format!("a share of hidden_size that {} heads divide", heads.value()))),
        }
    };
    Ok(Mlstm {
        width: width.clone(),
        key_dim: head_dim("qk_dim_factor", 0.5)?,
        value_dim: head_dim("v_dim_factor", 1.0)?,
        joint,
        bias,
        gate_cap: config.positive("gate_soft_cap")?.unwrap_or(15.0),
        eps: config.positive("eps")?.unwrap_or(1e-6),
        norm_eps,
        heads,
    })
}

/// `hidden_size`, which `embedding_dim` says too.
fn width(config: &ConfigReader<'_>) -> Result<Size, ConfigError> {
    let (width, embedding) = (config.size("hidden_size")?, config.size("embedding_dim")?);
    match (width, embedding) {
        (Some(width), Some(embedding)) if width != embedding => Err(config.invalid("embedding_dim", "hidden_size")),
        (Some(width), _) | (None, Some(width)) => Ok(Size::new(width, "hidden_size")),
        (None, None) => Err(config.missing("hidden_size")),
    }
}

/// Width inside the perceptrons, rounded up.
fn inner(config: &ConfigReader<'_>, width: &Size) -> Result<Size, ConfigError> {
    let factor = config.positive("ffn_proj_factor")?.unwrap_or(2.667);
    let multiple = config.size("ffn_round_up_to_multiple_of")?.unwrap_or(64);
    let chunks = ((width.value() as f64 * factor + multiple as f64 - 1.0) / multiple as f64).floor();
    match (chunks as usize).min(WIDEST) * multiple {
        0 | WIDEST.. => Err(config.invalid("ffn_proj_factor", "a factor that gives a width below 2^31")),
        inner => Ok(Size::new(inner, "ffn_proj_factor·hidden_size, rounded up")),
    }
}
