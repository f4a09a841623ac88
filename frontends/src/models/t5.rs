//! T5, its versions 1.1, mT5 and UMT5: pre-norm encoder–decoder, RMS norms, no positions but biases of scores.
//! Sources: arXiv:1910.10683, 2002.05202, 2010.11934, 2304.09151; transformers `models/t5/modeling_t5.py`,
//! `models/umt5/modeling_umt5.py`.

use super::ModelError;
use super::family::{Built, Family, Head, Request};
use crate::blocks::{
    Attention, Cross, Embedding, EncoderDecoder, FARTHEST, FeedForward, Gate, GatedMlp, Half, Layer, LinearKind, Mlp,
    Norm, Projections, RelativeBias, Scores, Size,
};

pub(super) const T5: Family = Family {
    model_type: "t5",
    architectures: &[
        ("T5Model", Head::None),
        ("T5ForConditionalGeneration", Head::ConditionalGeneration),
        ("T5EncoderModel", Head::Encoder),
        ("T5ForSequenceClassification", Head::Sequence),
        ("T5ForTokenClassification", Head::Tokens),
        ("T5ForQuestionAnswering", Head::Span),
    ],
    build: |request| build(request, Version::T5),
};

pub(super) const MT5: Family = Family {
    model_type: "mt5",
    architectures: &[
        ("MT5Model", Head::None),
        ("MT5ForConditionalGeneration", Head::ConditionalGeneration),
        ("MT5EncoderModel", Head::Encoder),
        ("MT5ForSequenceClassification", Head::Sequence),
        ("MT5ForTokenClassification", Head::Tokens),
        ("MT5ForQuestionAnswering", Head::Span),
    ],
    build: |request| build(request, Version::Mt5),
};

pub(super) const UMT5: Family = Family {
    model_type: "umt5",
    architectures: &[
        ("UMT5Model", Head::None),
        ("UMT5ForConditionalGeneration", Head::ConditionalGeneration),
        ("UMT5EncoderModel", Head::Encoder),
        ("UMT5ForSequenceClassification", Head::Sequence),
        ("UMT5ForTokenClassification", Head::Tokens),
        ("UMT5ForQuestionAnswering", Head::Span),
    ],
    build: |request| build(request, Version::Umt5),
};

#[derive(Clone, Copy, PartialEq)]
enum Version {
    T5,
    Mt5,
    /// Every layer has a table of biases of its own.
    Umt5,
}

/// What layers of both halves are made of.
struct Parts {
    attention: Attention,
    feed_forward: FeedForward,
    norm: Norm,
    bias: RelativeBias,
}

fn build(request: &Request<'_>, version: Version) -> Result<Built, ModelError> {
    let (config, tensors) = (request.config, request.tensors);
    for key in ["is_decoder", "add_cross_attention", "tie_encoder_decoder"] {
        if config.flag(key, false)? {
            return Err(config.invalid(key, "false").into());
        }
    }
    config.disregard(&["n_positions"]); // what it was trained with; nothing depends on it
    let (width, vocab) = (config.extent("d_model")?, config.extent("vocab_size")?);
    let parts = parts(request, &width)?;
    let prefix = tensors.prefix("transformer.");
    let scaled = scales_output(request, version)?;
    let names = ["shared", "encoder.embed_tokens", "decoder.embed_tokens"].map(|n| format!("{prefix}{n}.weight"));
    let [_, encoder_table, decoder_table, matrix] =
        tensors.all_tied([&names[0], &names[1], &names[2], "lm_head.weight"]);
    let layers = config.layers("num_layers")?;
    let decoder_layers =
        if config.get("num_decoder_layers").is_some() { config.layers("num_decoder_layers")? } else { layers };
    let stack = |name: &str, table: String, bidirectional: bool, layers: usize| {
        let bias = RelativeBias { bidirectional, ..parts.bias.clone() };
        Half {
            prefix: format!("{prefix}{name}."),
            embedding: Embedding::plain(table, &vocab, &width),
            layers: vec![parts.layer(&bias, version); layers],
            relative: Some(bias),
            shared_bias: (version != Version::Umt5).then_some("block.0.layer.0.SelfAttention.relative_attention_bias"),
            layers_name: "block",
            final_norm: Some(("final_layer_norm", parts.norm.clone())),
        }
    };
    let scale = if scaled { (width.value() as f64).powf(-0.5) } else { 1.0 };
    let model = EncoderDecoder {
        encoder: stack("encoder", encoder_table, true, layers),
        decoder: stack("decoder", decoder_table, false, decoder_layers),
        scores: Scores { scale, ..Scores::plain(matrix) },
        scores_bias: None,
    };
    let entries = request.encoder_decoder(&model, false)?;
    let mut known_unused = vec!["*shared.weight", "*EncDecAttention.relative_attention_bias.weight"];
    match request.head {
        Head::ConditionalGeneration => {}
        Head::Encoder | Head::Tokens => known_unused.extend(["lm_head.weight", "*decoder.*"]),
        _ => known_unused.push("lm_head.weight"),
    }
    tensors.check(&known_unused)?;
    Ok(Built { entries, max_positions: None, recompute_beyond: None })
}

/// Whether vectors are scaled before the matrix of scores: those of T5, not those of its version 1.1, which is told
/// by an untied matrix in older configs; never those of mT5, and always those of UMT5.
fn scales_output(request: &Request<'_>, version: Version) -> Result<bool, ModelError> {
    let tied = request.config.flag("tie_word_embeddings", true)?;
    Ok(match version {
        Version::T5 => request.config.flag("scale_decoder_outputs", tied)?,
        Version::Mt5 => false,
        Version::Umt5 => true,
    })
}

fn parts(request: &Request<'_>, width: &Size) -> Result<Parts, ModelError> {
    let config = request.config;
    let (heads, head_dim) = (config.extent("num_heads")?, config.extent("d_kv")?);
    let attention = Attention {
        projections: Projections::Separate(["q", "k", "v"]),
        output: ("o", LinearKind::PLAIN),
        scale: 1.0,
        ..Attention::causal(width, &heads, &head_dim)
    };
    let max_distance = config.size("relative_attention_max_distance")?.unwrap_or(128);
    let buckets = config.size("relative_attention_num_buckets")?.unwrap_or(32);
    let buckets = Size::new(buckets, "relative_attention_num_buckets");
    let bias = RelativeBias { heads, buckets: buckets.value(), rows: buckets, max_distance, bidirectional: true };
    if !bias.is_valid() {
        let expected = format!("more than half of the buckets of a direction, at most {FARTHEST}");
        return Err(config.invalid("relative_attention_max_distance", &expected).into());
    }
    let norm = Norm::rms(width, config.positive("layer_norm_epsilon")?.unwrap_or(1e-6));
    Ok(Parts { attention, feed_forward: feed_forward(request, width)?, norm, bias })
}

/// `relu`, or `gated-` and an activation; where it is spelled out besides, that holds.
fn feed_forward(request: &Request<'_>, width: &Size) -> Result<FeedForward, ModelError> {
    let config = request.config;
    let kind = config.text("feed_forward_proj")?.unwrap_or("relu");
    let (gated, activation) = match kind.split_once('-') {
        None => (false, kind),
        Some(("gated", "gelu")) => (true, "gelu_new"),
        Some(("gated", name)) if !name.contains('-') => (true, name),
        Some(_) => return Err(config.invalid("feed_forward_proj", "an activation, or `gated-` and one").into()),
    };
    let key = if config.get("dense_act_fn").is_some() { "dense_act_fn" } else { "feed_forward_proj" };
    let activation = config.activation_of(key, config.text("dense_act_fn")?.unwrap_or(activation))?;
    let (width, inner) = (width.clone(), config.extent("d_ff")?);
    Ok(if config.flag("is_gated_act", gated)? {
        let gate = Gate::Separate(["wi_0", "wi_1"]);
        FeedForward::Gated(GatedMlp { width, inner, activation, gate, down: "wo", bias: false })
    } else {
        FeedForward::Plain(Mlp { width, inner, activation, layers: ["wi", "wo"], linear: LinearKind::PLAIN })
    })
}

impl Parts {
    /// A layer of the encoder, whose biases reach both ways, or of the decoder.
    fn layer(&self, bias: &RelativeBias, version: Version) -> Layer {
        let own = (version == Version::Umt5).then(|| ("relative_attention_bias", bias.clone()));
        let attention = Attention { causal: !bias.bidirectional, relative: own, ..self.attention.clone() };
        let (perceptron, norms) = if bias.bidirectional {
            ("layer.1.DenseReluDense", ["layer.0.layer_norm", "layer.1.layer_norm"])
        } else {
            ("layer.2.DenseReluDense", ["layer.0.layer_norm", "layer.2.layer_norm"])
        };
        let cross = Cross {
            attention: ("layer.1.EncDecAttention", Attention { causal: false, ..self.attention.clone() }),
            before: Some(("layer.1.layer_norm", self.norm.clone())),
            sum: None,
        };
        let attention = ("layer.0.SelfAttention", attention);
        let layer = Layer::pre_norm(attention, (perceptron, self.feed_forward.clone()), norms, &self.norm);
        Layer { cross: (!bias.bidirectional).then_some(cross), ..layer }
    }
}
