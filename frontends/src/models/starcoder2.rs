//! StarCoder2: LLaMA with layer norms, biases and an MLP without gate.
//! Sources: arXiv:2402.19173; transformers `models/starcoder2/modeling_starcoder2.py`.

use super::ModelError;
use super::family::{Family, Head, Request};
use super::llama::{self, Defaults};
use crate::blocks::{Decoder, FeedForward, LinearKind, Mlp, Norm};

pub(super) const FAMILY: Family = Family {
    model_type: "starcoder2",
    architectures: &[
        ("Starcoder2Model", Head::None),
        ("Starcoder2ForCausalLM", Head::LanguageModel),
        ("Starcoder2ForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&read(request)?),
};

const DEFAULTS: Defaults = Defaults {
    activation: ("hidden_act", "gelu_pytorch_tanh"),
    tie: true,
    norm: Norm::layer,
    eps: ("norm_epsilon", 1e-5),
    ..Defaults::LLAMA
};

fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let config = request.config;
    let window = config.size("sliding_window")?;
    let linear = LinearKind::with_bias(config.flag("use_bias", true)?);
    let mlp = Mlp {
        width: config.extent("hidden_size")?,
        inner: config.extent("intermediate_size")?,
        activation: config.activation(DEFAULTS.activation.0, DEFAULTS.activation.1)?,
        layers: ["c_fc", "c_proj"],
        linear,
    };
    let mut model = llama::decoder(request, &DEFAULTS)?;
    for layer in &mut model.layers {
        let attention = layer.attention_mut();
        (attention.linear, attention.output.1, attention.window) = (linear, linear, window);
        layer.feed_forward.1 = FeedForward::Plain(mlp.clone());
    }
    Ok(model)
}
