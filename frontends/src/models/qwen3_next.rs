//! Qwen3-Next and Qwen3.5: gated delta networks in three of four layers, and in the others attention whose heads are
//! gated; all norms but those of delta networks store weights centred at zero. Qwen3-Next and Qwen3.5-MoE have
//! experts.
//! Sources: arXiv:2412.06464; transformers `models/{qwen3_next,qwen3_5,qwen3_5_moe}`.

use castiron_ir::op::UnaryOp;

use super::family::{Family, Head, Request};
use super::llama::{self, Defaults};
use super::{ModelError, delta, gemma, layer_types, qwen_moe};
use crate::blocks::{Decoder, DeltaLayers, GatedDelta, HeadNormScope, HeadNorms, Mixer, Norm, Projections, Size};
use crate::config::ConfigReader;

pub(super) const NEXT: Family = Family {
    model_type: "qwen3_next",
    architectures: &[
        ("Qwen3NextModel", Head::None),
        ("Qwen3NextForCausalLM", Head::LanguageModel),
        ("Qwen3NextForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&next(request)?),
};

pub(super) const DENSE: Family = Family {
    model_type: "qwen3_5_text",
    architectures: &[
        ("Qwen3_5TextModel", Head::None),
        ("Qwen3_5ForCausalLM", Head::LanguageModel),
        ("Qwen3_5TextForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&decoder(request, &DEFAULTS, DeltaLayers::Joint)?),
};

pub(super) const MIXTURE: Family = Family {
    model_type: "qwen3_5_moe_text",
    architectures: &[("Qwen3_5MoeTextModel", Head::None), ("Qwen3_5MoeForCausalLM", Head::LanguageModel)],
    build: |request| request.decoder(&mixture(request)?),
};

const DEFAULTS: Defaults = Defaults { rotary_share: 0.25, norm: gemma::centred, ..Defaults::LLAMA };

fn next(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let config = request.config;
    let mut model = decoder(request, &DEFAULTS, DeltaLayers::Grouped)?;
    let experts = qwen_moe::mixture(config, &model, 10, config.flag("norm_topk_prob", true)?)?;
    let experts = qwen_moe::with_shared(config, experts, &model)?;
    qwen_moe::spread(config, &mut model, &experts)?;
    Ok(model)
}

fn mixture(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let config = request.config;
    // Transformers has experts in all layers and divides their weights by the sum, whatever the config says.
    config.disregard(&["decoder_sparse_step", "intermediate_size", "mlp_only_layers", "norm_topk_prob"]);
    let defaults = Defaults { inner: "shared_expert_intermediate_size", ..DEFAULTS };
    let mut model = decoder(request, &defaults, DeltaLayers::Joint)?;
    let experts = qwen_moe::with_shared(config, qwen_moe::mixture(config, &model, 8, true)?, &model)?;
    model.layers.iter_mut().for_each(|layer| layer.feed_forward.1 = experts.clone());
    Ok(model)
}

/// What all have in common, with dense perceptrons.
fn decoder(request: &Request<'_>, defaults: &Defaults, layers: DeltaLayers) -> Result<Decoder, ModelError> {
    let config = request.config;
    config.required_size("head_dim")?; // LLaMA's default is another
    config.disregard(UNREAD);
    for (key, only) in [("attn_output_gate", true), ("use_sliding_window", false)] {
        if config.flag(key, only)? != only {
            return Err(config.invalid(key, &only.to_string()).into());
        }
    }
    let mut model = llama::decoder(request, defaults)?;
    llama::attention_biases(request, &mut model)?;
    let eps = config.positive("rms_norm_eps")?.unwrap_or(defaults.eps.1);
    let delta = network(config, &model.width, layers, eps)?;
    let period = config.size("full_attention_interval")?.unwrap_or(4);
    let linear = layer_types::linear(config, model.layers.len(), |i| !(i + 1).is_multiple_of(period))?;
    for (layer, linear) in model.layers.iter_mut().zip(linear) {
        if linear {
            layer.mixer = ("linear_attn", Mixer::GatedDelta(delta.clone()));
            continue;
        }
        let attention = layer.attention_mut();
        attention.projections = Projections::Gated(["q_proj", "k_proj", "v_proj"]);
        let norm = gemma::centred(&attention.head_dim, eps);
        attention.norms = Some(HeadNorms { names: ["q_norm", "k_norm"], norm, scope: HeadNormScope::EachHead });
    }
    model.known_unused = &["*.rotary_emb.inv_freq", "mtp.*", "model.visual.*"];
    Ok(model)
}

/// Keys of layers that predict further tokens, and of the numbers that states are kept in.
const UNREAD: &[&str] = &["mamba_ssm_dtype", "mtp_num_hidden_layers", "mtp_use_dedicated_embeddings"];

fn network(config: &ConfigReader<'_>, width: &Size, layers: DeltaLayers, eps: f64) -> Result<GatedDelta, ModelError> {
    let [key_heads, value_heads] = delta::heads(config, [16, 32])?;
    let value = delta::extent(config, "linear_value_head_dim", 128)?;
    Ok(GatedDelta {
        width: width.clone(),
        key: delta::extent(config, "linear_key_head_dim", 128)?,
        taps: delta::extent(config, "linear_conv_kernel_dim", 4)?,
        activation: config.activation("hidden_act", "silu")?,
        layers,
        most: 1.0,
        norm: ("norm", Norm::rms(&value, eps)),
        gate: UnaryOp::Silu,
        output: "out_proj",
        key_heads,
        value_heads,
        value,
    })
}
