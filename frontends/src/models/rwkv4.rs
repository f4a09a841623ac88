//! RWKV-4: means of values whose weights decay, and perceptrons that mix in the token before.
//! Sources: arXiv:2305.13048; transformers `models/rwkv/modeling_rwkv.py`.

use super::ModelError;
use super::family::{Family, Head, Request};
use crate::blocks::{ChannelMix, Decoder, Embedding, FeedForward, Layer, Mix, MixTensor, Norm, Rwkv4, Scores, Size};

pub(super) const FAMILY: Family = Family {
    model_type: "rwkv",
    architectures: &[("RwkvModel", Head::None), ("RwkvForCausalLM", Head::LanguageModel)],
    build: |request| request.decoder(&read(request)?),
};

fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let (config, tensors) = (request.config, request.tensors);
    config.disregard(&["context_length"]);
    let (width, vocab) = (config.extent("hidden_size")?, config.extent("vocab_size")?);
    let size = |key: &str, default: usize| config.size(key).map(|size| Size::new(size.unwrap_or(default), key));
    let inner = size("attention_hidden_size", width.value())?;
    let prefix = tensors.prefix("rwkv.");
    let tie = config.flag("tie_word_embeddings", false)?;
    let (table, matrix) = tensors.tied(&format!("{prefix}embeddings.weight"), "head.weight", tie);
    let eps = config.positive("layer_norm_epsilon")?.unwrap_or(1e-5);
    let mix = |name| Mix { name, holds: MixTensor::Rest };
    let channel_mix = ChannelMix {
        width: width.clone(),
        inner: size("intermediate_size", 4 * width.value())?,
        mix: mix("time_mix_key"),
        layers: ["key", "value"],
        receptance: Some(("receptance", mix("time_mix_receptance"))),
        reads_padding: true,
    };
    let mixer = Rwkv4 { width: width.clone(), inner };
    let count = config.layers("num_hidden_layers")?;
    let every = match config.get("rescale_every") {
        None => 6,
        Some(_) => config.size_or_zero("rescale_every")?.unwrap_or(0),
    };
    // The reference halves all vectors after so many layers, against overflow. To norms that is a larger epsilon.
    let norm = |eps: f64, layers: usize| {
        let halvings = layers.checked_div(every).unwrap_or(0);
        Norm::layer(&width, eps * 4.0_f64.powi(halvings as i32))
    };
    let layer = |i: usize| {
        let feed_forward = ("feed_forward", FeedForward::ChannelMix(channel_mix.clone()));
        Layer::pre_norm(("attention", mixer.clone()), feed_forward, ["ln1", "ln2"], &norm(eps, i))
    };
    Ok(Decoder {
        embedding: Embedding {
            norm: Some(("blocks.0.pre_ln", norm(eps, 0))),
            ..Embedding::plain(table, &vocab, &width)
        },
        rotary: vec![],
        alibi: None,
        layers_name: "blocks",
        layers: (0..count).map(layer).collect(),
        final_norm: Some(("ln_out", norm(1e-5, count))),
        projection: None,
        scores: Scores::plain(matrix),
        max_positions: None, // there are no positions
        known_unused: if request.head == Head::None { &["head.weight"] } else { &[] },
        prefix,
        width: width.clone(),
    })
}
