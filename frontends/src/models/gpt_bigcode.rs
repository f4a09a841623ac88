//! GPT-BigCode (SantaCoder, StarCoder): GPT-2 whose queries share one head of keys and values.
//! Sources: arXiv:2305.06161; transformers `models/gpt_bigcode/modeling_gpt_bigcode.py`.

use super::ModelError;
use super::family::{Family, Head, Request};
use super::gpt2;
use crate::blocks::{Decoder, FeedForward, LinearKind, Projections, Size};

pub(super) const FAMILY: Family = Family {
    model_type: "gpt_bigcode",
    architectures: &[
        ("GPTBigCodeModel", Head::None),
        ("GPTBigCodeForCausalLM", Head::LanguageModel),
        ("GPTBigCodeForSequenceClassification", Head::Sequence),
    ],
    build: |request| request.decoder(&read(request)?),
};

fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let config = request.config;
    // Precisions and ways to compute what is the same in f32.
    for key in [
        "attention_softmax_in_fp32",
        "scale_attention_softmax_in_fp32",
        "num_key_value_heads",
        "runner_max_sequence_length",
    ] {
        config.get(key);
    }
    for key in ["inference_runner", "validate_runner_input", "pre_allocate_kv_cache"] {
        config.get(key);
    }
    let mut model = gpt2::decoder(request, "gelu_pytorch_tanh")?;
    let one = config.flag("multi_query", true)?;
    for layer in &mut model.layers {
        let attention = layer.attention_mut();
        (attention.linear, attention.output.1) = (LinearKind::BIASED, LinearKind::BIASED);
        if one {
            attention.kv_heads = Size::new(1, "multi_query");
        } else {
            attention.projections = Projections::Grouped("c_attn");
        }
        if let FeedForward::Plain(mlp) = &mut layer.feed_forward.1 {
            mlp.linear = LinearKind::BIASED;
        }
    }
    Ok(model)
}
