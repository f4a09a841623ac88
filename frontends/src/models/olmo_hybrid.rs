//! OLMo-Hybrid: layers of OLMo 3 without windows in every fourth place, and gated delta networks in the others, with
//! norms before their parts.
//! Sources: arXiv:2412.06464; transformers `models/olmo_hybrid/modeling_olmo_hybrid.py`.

use castiron_ir::op::UnaryOp;

use super::family::{Family, Head, Request};
use super::llama::Defaults;
use super::{ModelError, delta, layer_types, olmo};
use crate::blocks::{Decoder, DeltaLayers, GatedDelta, Layer, Norm, Size};
use crate::config::ConfigReader;

pub(super) const FAMILY: Family = Family {
    model_type: "olmo_hybrid",
    architectures: &[("OlmoHybridModel", Head::None), ("OlmoHybridForCausalLM", Head::LanguageModel)],
    build: |request| request.decoder(&read(request)?),
};

/// Keys that say how weights begin.
const INITIAL: &[&str] =
    &["linear_a_log_max", "linear_a_log_min", "linear_dt_init_floor", "linear_dt_max", "linear_dt_min"];

/// Names of the norms of a layer, and what checkpoints also call them.
const NORMS: [[&str; 2]; 2] =
    [["input_layernorm", "attention_layer_norm"], ["post_attention_layernorm", "feedforward_layer_norm"]];

fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let config = request.config;
    config.disregard(INITIAL);
    let mut model = olmo::decoder(request, &Defaults::LLAMA)?;
    if !rotates(config) {
        model.rotary = vec![];
        model.layers.iter_mut().for_each(|layer| layer.attention_mut().rotary = None);
    }
    let eps = config.positive("rms_norm_eps")?.unwrap_or(Defaults::LLAMA.eps.1);
    let delta = network(config, &model.width)?;
    let count = model.layers.len();
    // A model of fewer than four layers has attention in its last one.
    let linear = layer_types::linear(config, count, |i| i % 4 != 3 && (count > 3 || i + 1 != count))?;
    for (i, linear) in linear.into_iter().enumerate() {
        let [before, after] = NORMS.map(|names| {
            let is_stored = |name: &&str| request.tensors.has(&format!("{}layers.{i}.{name}.weight", model.prefix));
            names.into_iter().find(is_stored).unwrap_or(names[0])
        });
        let layer = &mut model.layers[i];
        if linear {
            let norm = Norm::rms(&model.width, eps);
            *layer =
                Layer::pre_norm(("linear_attn", delta.clone()), layer.feed_forward.clone(), [before, after], &norm);
        } else if let Some((name, _)) = &mut layer.after[0] {
            *name = after;
        }
    }
    model.known_unused = &["*.rotary_emb.inv_freq", "mtp.*"];
    Ok(model)
}

/// Whether attention has positions: not where a config says that the base of its frequencies is `null`.
fn rotates(config: &ConfigReader<'_>) -> bool {
    let parameters = ["rope_scaling", "rope_parameters"].into_iter().find_map(|key| config.get(key)?.as_object());
    match parameters.and_then(|parameters| parameters.get("rope_theta")) {
        Some(theta) => !theta.is_null(),
        None => !config.is_null("rope_theta"),
    }
}

fn network(config: &ConfigReader<'_>, width: &Size) -> Result<GatedDelta, ModelError> {
    let heads = config.required_size("num_attention_heads")?;
    let [key_heads, value_heads] = delta::heads(config, [heads; 2])?;
    let key = (0.75 * width.value() as f64 / key_heads.value() as f64) as usize;
    let key = delta::extent(config, "linear_key_head_dim", key)?;
    let value = delta::extent(config, "linear_value_head_dim", 2 * key.value())?;
    Ok(GatedDelta {
        width: width.clone(),
        taps: delta::extent(config, "linear_conv_kernel_dim", 4)?,
        activation: config.activation("hidden_act", "silu")?,
        layers: DeltaLayers::Separate,
        most: if config.flag("linear_allow_neg_eigval", true)? { 2.0 } else { 1.0 },
        norm: ("o_norm", Norm::rms(&value, 1e-5)),
        gate: UnaryOp::Silu,
        output: "o_proj",
        key_heads,
        value_heads,
        key,
        value,
    })
}
