//! BART and what descends from it: mBART, Marian, Pegasus. Encoder–decoders with layer norms, which differ in
//! where these stand and in their positions.
//! Sources: arXiv:1910.13461, 2001.08210, 1804.00344, 1912.08777; transformers `models/bart/modeling_bart.py`,
//! `models/{mbart,marian,pegasus}`.

use super::ModelError;
use super::family::{Built, Family, Head, Request};
use crate::blocks::{
    Attention, Cross, Embedding, EncoderDecoder, FeedForward, Half, Layer, LinearKind, Mlp, Norm, Positions,
    Projections, Scores, Size,
};

/// Most rows and columns of a table of sinusoids, so that no config makes it larger than memory.
const MOST_SINUSOIDS: usize = 1 << 16;

pub(super) const BART: Family = Family {
    model_type: "bart",
    architectures: &[
        ("BartModel", Head::None),
        ("BartForConditionalGeneration", Head::ConditionalGeneration),
        ("BartForSequenceClassification", Head::Sequence),
        ("BartForQuestionAnswering", Head::Span),
    ],
    build: |request| build(request, &Variant { pre_norm: false, sinusoids: false, last_before: false }),
};

pub(super) const MBART: Family = Family {
    model_type: "mbart",
    architectures: &[
        ("MBartModel", Head::None),
        ("MBartForConditionalGeneration", Head::ConditionalGeneration),
        ("MBartForSequenceClassification", Head::Sequence),
        ("MBartForQuestionAnswering", Head::Span),
    ],
    build: |request| build(request, &Variant { pre_norm: true, sinusoids: false, last_before: true }),
};

pub(super) const MARIAN: Family = Family {
    model_type: "marian",
    architectures: &[("MarianModel", Head::None), ("MarianMTModel", Head::ConditionalGeneration)],
    build: |request| build(request, &Variant { pre_norm: false, sinusoids: true, last_before: false }),
};

pub(super) const PEGASUS: Family = Family {
    model_type: "pegasus",
    architectures: &[("PegasusModel", Head::None), ("PegasusForConditionalGeneration", Head::ConditionalGeneration)],
    build: |request| build(request, &Variant { pre_norm: true, sinusoids: true, last_before: false }),
};

/// What the families differ in.
struct Variant {
    /// Whether norms stand before what they are for, and one after the layers; else after the sums.
    pre_norm: bool,
    /// Whether positions are sines and cosines; else learned, with a norm after them.
    sinusoids: bool,
    /// Whether the decoder's side of a lone text begins with the text's last token.
    last_before: bool,
}

/// Keys of older configs that describe the family, and that transformers does not read.
const DESCRIPTIVE: [&str; 11] = [
    "add_bias_logits",
    "add_final_layer_norm",
    "classif_dropout",
    "extra_pos_embeddings",
    "force_bos_token_to_be_generated",
    "normalize_before",
    "normalize_embedding",
    "replacing_rate",
    "save_step",
    "static_position_embeddings",
    "student_decoder_layers",
];

/// Names of the tables and of the matrix of scores.
struct Tables {
    encoder: String,
    decoder: String,
    matrix: String,
    /// Rows of the decoder's.
    decoder_vocab: Size,
}

fn build(request: &Request<'_>, variant: &Variant) -> Result<Built, ModelError> {
    let (config, tensors) = (request.config, request.tensors);
    for key in ["is_decoder", "add_cross_attention", "tie_encoder_decoder"] {
        if config.flag(key, false)? {
            return Err(config.invalid(key, "false").into());
        }
    }
    config.disregard(&DESCRIPTIVE);
    let (width, vocab) = (config.extent("d_model")?, config.extent("vocab_size")?);
    let prefix = tensors.prefix("model.");
    let tables = tables(request, &prefix, &vocab)?;
    let positions = config.extent("max_position_embeddings")?;
    let encoder = stack(request, variant, "encoder", (tables.encoder, &vocab), &width)?;
    let decoder = stack(request, variant, "decoder", (tables.decoder, &tables.decoder_vocab), &width)?;
    let same = config.size("num_hidden_layers")?.is_none_or(|count| count == encoder.layers.len());
    if !same {
        return Err(config.invalid("num_hidden_layers", "encoder_layers").into());
    }
    let model = EncoderDecoder {
        encoder,
        decoder,
        scores: Scores::plain(tables.matrix),
        scores_bias: tensors.has("final_logits_bias").then(|| "final_logits_bias".to_owned()),
    };
    let entries = request.encoder_decoder(&model, variant.last_before)?;
    let mut known_unused = vec!["*shared.weight", "*encoder.version", "*decoder.version"];
    if request.head != Head::ConditionalGeneration {
        known_unused.extend(["lm_head.weight", "final_logits_bias"]);
    }
    tensors.check(&known_unused)?;
    Ok(Built { entries, max_positions: Some(positions.value()), recompute_beyond: None })
}

/// All tables are one where they are tied. Marian's halves may have tables of their own.
fn tables(request: &Request<'_>, prefix: &str, vocab: &Size) -> Result<Tables, ModelError> {
    let (config, tensors) = (request.config, request.tensors);
    let tie = config.flag("tie_word_embeddings", true)?;
    let share = config.flag("share_encoder_decoder_embeddings", true)?;
    let decoder_vocab = config.size("decoder_vocab_size")?.filter(|_| !share);
    let decoder_vocab = decoder_vocab.map_or_else(|| vocab.clone(), |n| Size::new(n, "decoder_vocab_size"));
    let [shared, encoder, decoder] =
        ["shared", "encoder.embed_tokens", "decoder.embed_tokens"].map(|name| format!("{prefix}{name}.weight"));
    let matrix = "lm_head.weight";
    let [encoder, decoder, matrix] = match (share, tie) {
        (true, true) => {
            let [_, encoder, decoder, matrix] = tensors.all_tied([&shared, &encoder, &decoder, matrix]);
            [encoder, decoder, matrix]
        }
        (true, false) => {
            // Before version 5, transformers stored the halves' common table once, tied or not.
            let stored = |own: String| if tensors.has(&own) { own } else { shared.clone() };
            [stored(encoder), stored(decoder), matrix.to_owned()]
        }
        (false, _) => {
            let (decoder, matrix) = tensors.tied(&decoder, matrix, tie);
            [encoder, decoder, matrix]
        }
    };
    Ok(Tables { encoder, decoder, matrix, decoder_vocab })
}

/// One half, `encoder` or `decoder`, of which the last sees what the first has read.
fn stack(
    request: &Request<'_>,
    variant: &Variant,
    half: &'static str,
    (table, vocab): (String, &Size),
    width: &Size,
) -> Result<Half, ModelError> {
    let config = request.config;
    let prefix = format!("{}{half}.", request.tensors.prefix("model."));
    let key = |name: &str| format!("{half}_{name}");
    let scaled = config.flag("scale_embedding", false)?;
    let heads = config.equal_heads(&key("attention_heads"), "d_model", width)?;
    let attention = Attention {
        linear: LinearKind::BIASED,
        output: ("out_proj", LinearKind::BIASED),
        projections: Projections::Separate(["q_proj", "k_proj", "v_proj"]),
        causal: half == "decoder",
        ..Attention::causal(width, &heads.heads, &heads.head_dim)
    };
    let mlp = Mlp {
        width: width.clone(),
        inner: config.extent(&key("ffn_dim"))?,
        activation: config.activation("activation_function", "gelu")?,
        layers: ["fc1", "fc2"],
        linear: LinearKind::BIASED,
    };
    let norm = Norm::layer(width, 1e-5);
    let cross = (half == "decoder").then(|| {
        let cross_norm = Some(("encoder_attn_layer_norm", norm.clone()));
        let (before, sum) = if variant.pre_norm { (cross_norm, None) } else { (None, cross_norm) };
        Cross { attention: ("encoder_attn", Attention { causal: false, ..attention.clone() }), before, sum }
    });
    let arrange = if variant.pre_norm { Layer::pre_norm } else { Layer::post_norm };
    let norms = ["self_attn_layer_norm", "final_layer_norm"];
    let layer = arrange(("self_attn", attention), ("", FeedForward::Plain(mlp)), norms, &norm);
    let layer = Layer { cross, ..layer };
    let stored = request.tensors.has(&format!("{prefix}embed_positions.weight"));
    let plain = Embedding::plain(table, vocab, width);
    let embedding = if variant.sinusoids && !stored {
        sinusoidal(request, plain)?
    } else {
        learned(request, plain, (!variant.sinusoids).then_some(&norm))?
    };
    Ok(Half {
        prefix,
        embedding: Embedding { scale: if scaled { (width.value() as f64).sqrt() } else { 1.0 }, ..embedding },
        relative: None,
        shared_bias: None,
        layers_name: "layers",
        layers: vec![layer; config.layers(&key("layers"))?],
        final_norm: variant.pre_norm.then_some(("layer_norm", norm)),
    })
}

/// Positions that have no table of their own.
fn sinusoidal(request: &Request<'_>, plain: Embedding) -> Result<Embedding, ModelError> {
    let rows = request.config.extent("max_position_embeddings")?;
    if rows.value() > MOST_SINUSOIDS || plain.width.value() > MOST_SINUSOIDS {
        let expected = format!("at most {MOST_SINUSOIDS} positions, and channels");
        return Err(request.config.invalid("max_position_embeddings", &expected).into());
    }
    Ok(Embedding { sinusoids: Some(rows), ..plain })
}

/// Positions with a table, which holds sinusoids if no norm follows; else its first two rows stand for none.
fn learned(request: &Request<'_>, plain: Embedding, norm: Option<&Norm>) -> Result<Embedding, ModelError> {
    let rows = request.config.extent("max_position_embeddings")?;
    let (rows, offset) = if norm.is_some() { (&rows + &Size::new(2, "2"), 2) } else { (rows, 0) };
    let positions = Positions { table: "embed_positions", rows, offset, skip_padding: false };
    let norm = norm.map(|norm| ("layernorm_embedding", norm.clone()));
    Ok(Embedding { positions: Some(positions), norm, ..plain })
}
