//! Mamba-2: state spaces with heads, without attention or perceptrons.
//! Sources: arXiv:2405.21060; transformers `models/mamba2`.

use super::family::{Family, Head, Request};
use super::hybrid::{self, Keys};
use super::{ModelError, mamba};
use crate::blocks::{Decoder, Layer, Norm};

pub(super) const FAMILY: Family = Family {
    model_type: "mamba2",
    architectures: &[("Mamba2Model", Head::None), ("Mamba2ForCausalLM", Head::LanguageModel)],
    build: |request| request.decoder(&read(request)?),
};

const KEYS: Keys = Keys {
    heads: ("num_heads", 128),
    head_dim: ("head_dim", Some(64)),
    groups: ("n_groups", 8),
    state: ("state_size", 128),
    taps: ("conv_kernel", 4),
    conv_bias: "use_conv_bias",
    bias: "use_bias",
    activation: "hidden_act",
};

fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let config = request.config;
    config.disregard(mamba::INITIAL);
    config.disregard(&["chunk_size", "norm_before_gate", "rms_norm", "time_step_rank"]);
    let width = config.extent("hidden_size")?;
    let eps = config.positive("layer_norm_epsilon")?.unwrap_or(1e-5);
    let inner = hybrid::channels(config, "expand", &width)?;
    let mixer = hybrid::mamba2(config, &width, Some(inner), eps, &KEYS)?;
    let norm = Norm::rms(&width, eps);
    let layer = Layer::mixer(("mixer", mixer), ("norm", norm.clone()));
    let layers = vec![layer; config.layers("num_hidden_layers")?];
    let tie = config.flag("tie_word_embeddings", false)?;
    mamba::backbone(request, request.tensors.prefix("backbone."), tie, layers, norm)
}
