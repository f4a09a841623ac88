//! HyenaDNA: long convolutions over nucleotides, with filters from a perceptron of the place.
//! Sources: arXiv:2306.15794; HazyResearch `hyena-dna`, `standalone_hyenadna.py`.

use castiron_ir::op::UnaryOp;

use super::ModelError;
use super::family::{Built, Family, Head, Request};
use crate::blocks::{
    Classified, Decoder, Embedding, FeedForward, Filter, Hyena, Layer, LinearKind, Mlp, Norm, Scores, SequenceHead,
    Size,
};
use crate::config::{ConfigError, ConfigReader};

pub(super) const FAMILY: Family = Family {
    model_type: "hyenadna",
    architectures: &[
        ("HyenaDNAForCausalLM", Head::LanguageModel),
        ("HyenaDNAForSequenceClassification", Head::Sequence),
    ],
    build,
};

/// Most bytes of the filters of all layers that an artifact holds; longer ones are made when they are used.
const MOST_TABLE: usize = 16 << 20;

/// Keys that say how weights begin or how the model is trained.
const OF_TRAINING: &[&str] = &["embed_dropout", "hyena_dropout", "hyena_filter_dropout", "use_bias"];

fn build(request: &Request<'_>) -> Result<Built, ModelError> {
    let model = read(request)?;
    if request.head != Head::Sequence {
        return request.decoder(&model);
    }
    let pad = request.config.size_or_zero("pad_token_id")?;
    let token = pad.map_or(Classified::Last, |pad| Classified::BeforeFirst(pad as u32));
    let entries = model.sequence_entries(request.tensors, &SequenceHead { labels: request.labels.clone(), token })?;
    request.tensors.check(model.known_unused)?;
    Ok(Built { entries, max_positions: model.max_positions, recompute_beyond: None })
}

fn read(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let config = request.config;
    config.disregard(OF_TRAINING);
    config.disregard(&["tie_word_embeddings"]);
    let size = |key: &str, default: usize| Ok::<_, ConfigError>(Size::new(config.size(key)?.unwrap_or(default), key));
    let (width, layers) = (size("d_model", 256)?, config.layers("n_layer")?);
    let inner = Size::new(config.size("d_inner")?.unwrap_or(4 * width.value()), "d_inner");
    let multiple = config.size("pad_vocab_size_multiple")?.unwrap_or(8);
    let vocab = size("vocab_size", 12)?.value().next_multiple_of(multiple);
    let vocab = Size::new(vocab, "vocab_size, to a multiple of pad_vocab_size_multiple");
    let places = size("max_seq_len", 1024)?;
    let table = places.value().saturating_mul(4 * width.value() * layers);
    let hyena = Hyena {
        width: width.clone(),
        taps: short_filter(config)?,
        filter: Filter {
            features: size("emb_dim", 3)?,
            inner: size("filter_order", 64)?,
            layers: config.size_or_zero("num_inner_mlps")?.unwrap_or(2),
            frequency: frequency(config)?,
            is_table: table <= MOST_TABLE,
            places: places.clone(),
        },
    };
    let mlp = Mlp {
        width: width.clone(),
        inner,
        activation: UnaryOp::GeluTanh,
        layers: ["fc1", "fc2"],
        linear: LinearKind::BIASED,
    };
    let layer = Layer::pre_norm(
        ("mixer", hyena),
        ("mlp", FeedForward::Plain(mlp)),
        ["norm1", "norm2"],
        &Norm::layer(&width, 1e-5),
    );
    let prefix = "hyena.backbone.";
    let final_norm = Norm::layer(&width, config.positive("layer_norm_epsilon")?.unwrap_or(1e-5));
    Ok(Decoder {
        embedding: Embedding::plain(format!("{prefix}embeddings.word_embeddings.weight"), &vocab, &width),
        rotary: vec![],
        alibi: None,
        layers_name: "layers",
        layers: vec![layer; layers],
        final_norm: Some(("ln_f", final_norm)),
        projection: None,
        scores: Scores::plain("lm_head.weight".to_owned()),
        max_positions: Some(places.value()),
        known_unused: &[],
        prefix: prefix.to_owned(),
        width,
    })
}

/// Tokens that the short convolution sees. The operator is of order two: the published code has filters for no other.
fn short_filter(config: &ConfigReader<'_>) -> Result<Size, ConfigError> {
    if config.size("hyena_order")?.is_some_and(|order| order != 2) {
        return Err(config.invalid("hyena_order", "2, as others are not implemented"));
    }
    match config.size("short_filter_order")?.unwrap_or(3) {
        1 => Err(config.invalid("short_filter_order", "2 or more, as 1 is not implemented")),
        taps => Ok(Size::new(taps, "short_filter_order")),
    }
}

/// The frequency of the sines, where it is no tensor.
fn frequency(config: &ConfigReader<'_>) -> Result<Option<f64>, ConfigError> {
    let frequency = config.number("activation_freq")?.unwrap_or(1.0);
    Ok((!config.flag("train_freq", true)?).then_some(frequency))
}
