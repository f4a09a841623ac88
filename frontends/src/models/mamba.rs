//! Mamba and Falcon-Mamba: selective state spaces without attention or perceptrons.
//! Sources: arXiv:2312.00752, arXiv:2410.05355; transformers `models/{mamba,falcon_mamba}`.

use super::ModelError;
use super::family::{Family, Head, Request};
use crate::blocks::{Decoder, Embedding, InnerNorms, Layer, LinearKind, Mamba, Norm, Scores, Size};

pub(super) const MAMBA: Family = Family {
    model_type: "mamba",
    architectures: &[("MambaModel", Head::None), ("MambaForCausalLM", Head::LanguageModel)],
    build: |request| {
        if request.config.flag("dt_b_c_rms", false)? {
            // GGUF files of Falcon-Mamba do not tell the epsilon of these norms.
            return Err(request.config.invalid("dt_b_c_rms", "false").into());
        }
        request.decoder(&read(request, None)?)
    },
};

pub(super) const FALCON: Family = Family {
    model_type: "falcon_mamba",
    architectures: &[("FalconMambaModel", Head::None), ("FalconMambaForCausalLM", Head::LanguageModel)],
    build: |request| {
        let eps = request.config.positive("mixer_rms_eps")?.unwrap_or(1e-6);
        request.decoder(&read(request, Some(InnerNorms { eps, names: None }))?)
    },
};

fn read(request: &Request<'_>, inner_norms: Option<InnerNorms>) -> Result<Decoder, ModelError> {
    let config = request.config;
    config.disregard(INITIAL);
    let width = config.extent("hidden_size")?;
    let norm = Norm::rms(&width, config.positive("layer_norm_epsilon")?.unwrap_or(1e-5));
    let mamba = Mamba {
        width: width.clone(),
        inner: inner(request, &width)?,
        state: config.extent_or("state_size", 16)?,
        rank: rank(request, "time_step_rank", &width)?,
        taps: config.extent_or("conv_kernel", 4)?,
        activation: config.activation("hidden_act", "silu")?,
        conv_bias: config.flag("use_conv_bias", true)?,
        linear: LinearKind::with_bias(config.flag("use_bias", false)?),
        inner_norms,
    };
    let layer = Layer::mixer(("mixer", mamba), ("norm", norm.clone()));
    let layers = vec![layer; config.layers("num_hidden_layers")?];
    let tie = config.flag("tie_word_embeddings", true)?;
    backbone(request, request.tensors.prefix("backbone."), tie, layers, norm)
}

/// A model without positions, of whose layers the names are Mamba's.
pub(super) fn backbone(
    request: &Request<'_>,
    prefix: String,
    tie: bool,
    layers: Vec<Layer>,
    norm: Norm,
) -> Result<Decoder, ModelError> {
    let vocab = request.config.extent("vocab_size")?;
    let (table, matrix) = request.tensors.tied(&format!("{prefix}embeddings.weight"), "lm_head.weight", tie);
    let width = norm.width.clone();
    Ok(Decoder {
        embedding: Embedding::plain(table, &vocab, &width),
        rotary: vec![],
        alibi: None,
        layers_name: "layers",
        layers,
        final_norm: Some(("norm_f", norm)),
        projection: None,
        scores: Scores::plain(matrix),
        max_positions: None, // there are no positions
        known_unused: &[],
        prefix,
        width,
    })
}

/// Keys that say how weights begin, or how the reference computes.
pub(super) const INITIAL: &[&str] = &[
    "layer_types",
    "rescale_prenorm_residual",
    "residual_in_fp32",
    "time_step_floor",
    "time_step_init_scheme",
    "time_step_max",
    "time_step_min",
    "time_step_scale",
    "use_associative_scan",
    "use_falcon_mambapy",
    "use_mambapy",
];

/// `intermediate_size`, or `expand · hidden_size`.
fn inner(request: &Request<'_>, width: &Size) -> Result<Size, ModelError> {
    if let Some(inner) = request.config.size("intermediate_size")? {
        request.config.disregard(&["expand"]);
        return Ok(Size::new(inner, "intermediate_size"));
    }
    let expand = request.config.positive("expand")?.unwrap_or(2.0);
    let inner = (expand * width.value() as f64) as usize;
    if !(1..1 << 31).contains(&inner) {
        return Err(request.config.invalid("expand", "a factor that leaves at least one channel").into());
    }
    Ok(Size::new(inner, "expand · hidden_size"))
}

/// A number, or `auto` for a sixteenth of the width.
pub(super) fn rank(request: &Request<'_>, key: &str, width: &Size) -> Result<Size, ModelError> {
    let auto = Size::new(width.value().div_ceil(16), "hidden_size / 16");
    match request.config.get(key).and_then(|rank| rank.as_str()) {
        Some("auto") => Ok(auto),
        _ => Ok(request.config.size(key)?.map_or(auto, |rank| Size::new(rank, key))),
    }
}
