//! MiniMax-01: Mixtral with lightning attention in some layers, and weights of its residuals.
//! Sources: arXiv:2501.08313; transformers `models/minimax`.

use super::family::{Family, Head, Request};
use super::llama::{self, Defaults};
use super::sparse::{self, Mixture};
use super::{ModelError, layer_types};
use crate::blocks::{Decoder, ExpertTensors, Lightning, Mixer, RouterScores};

pub(super) const FAMILY: Family = Family {
    model_type: "minimax",
    architectures: &[
        ("MiniMaxModel", Head::None),
        ("MiniMaxForCausalLM", Head::LanguageModel),
        ("MiniMaxForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&read(request)?),
};

const DEFAULTS: Defaults = Defaults { theta: 1_000_000.0, eps: ("rms_norm_eps", 1e-5), ..Defaults::LLAMA };

/// Names of the factors in the config: of attention, of lightning attention, of the experts.
const FACTORS: [[&str; 2]; 3] = [
    ["full_attn_alpha_factor", "full_attn_beta_factor"],
    ["linear_attn_alpha_factor", "linear_attn_beta_factor"],
    ["mlp_alpha_factor", "mlp_beta_factor"],
];

fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let config = request.config;
    config.disregard(&["block_size"]);
    let window = config.size("sliding_window")?;
    let mut model = llama::decoder(request, &DEFAULTS)?;
    let mixture = Mixture {
        inner: config.extent("intermediate_size")?,
        router: "gate",
        scores: RouterScores::Softmax,
        chosen: 2,
        normalise: true,
        tensors: ExpertTensors::Each(["w1", "w3", "w2"]),
    };
    let experts = sparse::experts(config, &model, mixture)?;
    let count = model.layers.len();
    let attention = model.layers[0].attention();
    let lightning = Lightning {
        width: model.width.clone(),
        heads: attention.heads.clone(),
        head_dim: attention.head_dim.clone(),
        activation: config.activation("hidden_act", "silu")?,
        layers: count,
    };
    let factor = |key: &str| config.number(key).map(|factor| factor.unwrap_or(1.0));
    let mut factors = [[1.0; 2]; 3];
    for (factors, keys) in factors.iter_mut().zip(FACTORS) {
        *factors = [factor(keys[0])?, factor(keys[1])?];
    }
    let linear = layer_types::linear(config, count, |i| i % 2 == 1)?;
    for (layer, is_linear) in model.layers.iter_mut().zip(linear) {
        layer.attention_mut().window = window;
        if is_linear {
            layer.mixer.1 = Mixer::Lightning(lightning.clone());
        }
        layer.feed_forward = ("block_sparse_moe", experts.clone());
        layer.adds_to_norm = true;
        layer.sum_weights = [factors[usize::from(is_linear)], factors[2]];
    }
    // The slopes and what follows from them are computed.
    model.known_unused = &["*.slope_rate", "*.query_decay", "*.key_decay", "*.diagonal_decay"];
    Ok(model)
}
