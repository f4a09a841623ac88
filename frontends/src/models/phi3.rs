//! Phi-3, 3.5 and 4: LLaMA with joint projections and LongRoPE.
//! Sources: arXiv:2404.14219; transformers `models/phi3/modeling_phi3.py`.

use super::ModelError;
use super::family::{Family, Head, Request};
use super::llama::{self, Defaults};
use crate::blocks::{Decoder, FeedForward, Gate, Projections};

pub(super) const FAMILY: Family = Family {
    model_type: "phi3",
    architectures: &[
        ("Phi3Model", Head::None),
        ("Phi3ForCausalLM", Head::LanguageModel),
        ("Phi3ForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&read(request)?),
};

fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let window = request.config.size("sliding_window")?;
    let mut model = llama::decoder(request, &Defaults { eps: ("rms_norm_eps", 1e-5), ..Defaults::LLAMA })?;
    for layer in &mut model.layers {
        layer.attention_mut().window = window;
        layer.attention_mut().projections = Projections::Joint("qkv_proj");
        if let FeedForward::Gated(mlp) = &mut layer.feed_forward.1 {
            mlp.gate = Gate::Joint("gate_up_proj");
        }
    }
    Ok(model)
}
