//! Bamba: Mamba-2 in most layers, attention with rotary positions in some, gated perceptrons.
//! Sources: transformers `models/bamba`.

use super::ModelError;
use super::family::{Family, Head, Request};
use super::hybrid::{self, Keys};
use super::llama::{self, Defaults};
use crate::blocks::{Decoder, Mixer};

pub(super) const FAMILY: Family = Family {
    model_type: "bamba",
    architectures: &[("BambaModel", Head::None), ("BambaForCausalLM", Head::LanguageModel)],
    build: |request| request.decoder(&read(request)?),
};

/// Half of a head's channels turn.
const DEFAULTS: Defaults = Defaults { rotary_share: 0.5, eps: ("rms_norm_eps", 1e-5), ..Defaults::LLAMA };

fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let config = request.config;
    config.disregard(&["attn_rotary_emb", "mamba_chunk_size", "num_logits_to_keep", "z_loss_coefficient"]);
    let mut model = llama::decoder(request, &DEFAULTS)?;
    llama::biases(request, &mut model)?;
    renamed(&mut model);
    let inner = hybrid::channels(config, "mamba_expand", &model.width)?;
    let eps = config.positive("rms_norm_eps")?.unwrap_or(DEFAULTS.eps.1);
    let mamba = hybrid::mamba2(config, &model.width, Some(inner), eps, &Keys::BAMBA)?;
    let attention = config.numbers("attn_layer_indices")?;
    for i in (0..model.layers.len()).filter(|i| !attention.contains(i)) {
        model.layers[i].mixer = ("mamba", Mixer::Mamba2(mamba.clone()));
    }
    Ok(model)
}

/// Gives LLaMA's perceptrons and norms the names that hybrids since Jamba have.
pub(super) fn renamed(model: &mut Decoder) {
    for layer in &mut model.layers {
        layer.feed_forward.0 = "feed_forward";
        if let Some((name, _)) = &mut layer.before[1] {
            *name = "pre_ff_layernorm";
        }
    }
    if let Some((name, _)) = &mut model.final_norm {
        *name = "final_layernorm";
    }
}
