//! Jamba: Mamba in most layers, attention without positions in some, mixtures of experts in every other.
//! Sources: arXiv:2403.19887; transformers `models/jamba`.

use super::bamba::renamed;
use super::family::{Family, Head, Request};
use super::llama::{self, Defaults};
use super::sparse::{self, Mixture};
use super::{ModelError, hybrid, mamba};
use crate::blocks::{Decoder, ExpertTensors, InnerNorms, LinearKind, Mamba, Mixer, RouterScores, Size};

pub(super) const FAMILY: Family = Family {
    model_type: "jamba",
    architectures: &[
        ("JambaModel", Head::None),
        ("JambaForCausalLM", Head::LanguageModel),
        ("JambaForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&read(request)?),
};

/// Keys that transformers reads nowhere either, or that say how it computes.
const UNREAD: &[&str] = &[
    "calc_logits_for_entire_prompt",
    "mamba_inner_layernorms",
    "num_logits_to_keep",
    "sliding_window",
    "use_associative_scan",
    "use_mamba_kernels",
    "use_mambapy",
];

fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let config = request.config;
    config.disregard(UNREAD);
    let mut model = llama::decoder(request, &Defaults::LLAMA)?;
    renamed(&mut model);
    model.rotary.clear();
    let mamba = mixer(request, &model)?;
    let has_attention = every(request, ["attn_layer_period", "attn_layer_offset"], [8, 4])?;
    let has_experts = every(request, ["expert_layer_period", "expert_layer_offset"], [2, 1])?;
    let mixture = Mixture {
        inner: config.extent("intermediate_size")?,
        router: "router",
        scores: RouterScores::Softmax,
        chosen: 2,
        normalise: false,
        tensors: ExpertTensors::Each(["gate_proj", "up_proj", "down_proj"]),
    };
    let experts = match config.size("num_experts")? {
        Some(1) => None,
        _ => Some(sparse::experts(config, &model, mixture)?),
    };
    config.disregard(&["num_experts_per_tok"]);
    for (i, layer) in model.layers.iter_mut().enumerate() {
        layer.attention_mut().rotary = None;
        if !has_attention(i) {
            layer.mixer = ("mamba", Mixer::Mamba(mamba.clone()));
        }
        if let Some(experts) = experts.as_ref().filter(|_| has_experts(i)) {
            layer.feed_forward.1 = experts.clone();
        }
    }
    Ok(model)
}

/// Tells the layers that stand at an offset in every period.
fn every(
    request: &Request<'_>,
    [period, offset]: [&str; 2],
    [p, o]: [usize; 2],
) -> Result<impl Fn(usize) -> bool, ModelError> {
    let p = request.config.size(period)?.unwrap_or(p);
    let o = request.config.size_or_zero(offset)?.unwrap_or(o);
    if o < p {
        Ok(move |i: usize| i % p == o)
    } else {
        Err(request.config.invalid(offset, &format!("a number below {period}")).into())
    }
}

fn mixer(request: &Request<'_>, model: &Decoder) -> Result<Mamba, ModelError> {
    let config = request.config;
    let size = |key: &str, default: usize| config.size(key).map(|n| Size::new(n.unwrap_or(default), key));
    let inner = hybrid::channels(config, "mamba_expand", &model.width)?;
    let eps = config.positive("rms_norm_eps")?.unwrap_or(Defaults::LLAMA.eps.1);
    Ok(Mamba {
        width: model.width.clone(),
        inner: Size::new(inner, "mamba_expand · hidden_size"),
        state: size("mamba_d_state", 16)?,
        rank: mamba::rank(request, "mamba_dt_rank", &model.width)?,
        taps: size("mamba_d_conv", 4)?,
        activation: config.activation("hidden_act", "silu")?,
        conv_bias: config.flag("mamba_conv_bias", true)?,
        linear: LinearKind::with_bias(config.flag("mamba_proj_bias", false)?),
        inner_norms: Some(InnerNorms { eps, names: Some(["dt_layernorm", "b_layernorm", "c_layernorm"]) }),
    })
}
