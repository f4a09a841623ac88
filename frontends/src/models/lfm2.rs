//! LFM2 and LFM2-MoE: gated short convolutions, attention with norms of heads in some layers, and in the second
//! experts after its first layers.
//! Sources: arXiv:2511.23404; transformers `models/{lfm2,lfm2_moe}`.

use castiron_ir::op::UnaryOp;

use super::family::{Family, Head, Request};
use super::sparse::{self, Mixture};
use super::{ModelError, layer_types, rope};
use crate::blocks::{
    Attention, Decoder, Embedding, ExpertTensors, FeedForward, Gate, GatedMlp, HeadNormScope, HeadNorms, Layer,
    LinearKind, Mixer, Norm, RouterScores, Scores, ShortConvolution, Size,
};
use crate::config::{ConfigError, ConfigReader};

pub(super) const DENSE: Family = Family {
    model_type: "lfm2",
    architectures: &[("Lfm2Model", Head::None), ("Lfm2ForCausalLM", Head::LanguageModel)],
    build: |request| {
        let config = request.config;
        let attends = match attends(config)? {
            Some(attends) => attends,
            None => by_numbers(config)?,
        };
        request.decoder(&decoder(request, dense_width(config)?, &attends)?)
    },
};

pub(super) const MIXTURE: Family = Family {
    model_type: "lfm2_moe",
    architectures: &[("Lfm2MoeModel", Head::None), ("Lfm2MoeForCausalLM", Head::LanguageModel)],
    build: |request| request.decoder(&mixture(request)?),
};

/// Keys that transformers does not read, or that say how weights begin.
const UNREAD: &[&str] = &[
    "block_dim",
    "block_mlp_init_scale",
    "block_norm_eps",
    "block_out_init_scale",
    "block_use_swiglu",
    "block_use_xavier_init",
    "conv_dim",
    "conv_dim_out",
    "conv_use_xavier_init",
    "num_heads",
    "use_pos_enc",
];

/// Width that no perceptron has.
const WIDEST: usize = 1 << 31;

/// A layer with attention for each truth, others with convolutions, all with perceptrons.
fn decoder(request: &Request<'_>, inner: Size, attends: &[bool]) -> Result<Decoder, ModelError> {
    let (config, tensors) = (request.config, request.tensors);
    config.disregard(UNREAD);
    let (width, vocab) = (config.extent("hidden_size")?, config.extent("vocab_size")?);
    let prefix = tensors.prefix("model.");
    let tie = config.flag("tie_word_embeddings", true)?;
    let tie = config.flag("tie_embedding", tie)?;
    let (table, matrix) = tensors.tied(&format!("{prefix}embed_tokens.weight"), "lm_head.weight", tie);
    let norm = Norm::rms(&width, config.positive("norm_eps")?.unwrap_or(1e-5));
    let attention = attention(config, &width, &norm)?;
    let rotary = rope::Defaults {
        head_dim: attention.head_dim.value(),
        share: 1.0,
        theta: 1_000_000.0,
        max_positions: config.size("max_position_embeddings")?.unwrap_or(128_000),
    };
    let rotary = vec![rope::rotary(config, &rotary)?];
    let attention = ("self_attn", Mixer::Attention(attention));
    let convolution = ShortConvolution {
        width: width.clone(),
        taps: Size::new(config.size("conv_L_cache")?.unwrap_or(3), "conv_L_cache"),
        bias: config.flag("conv_bias", false)?,
    };
    let convolution = ("conv", Mixer::ShortConvolution(convolution));
    let mlp = FeedForward::Gated(GatedMlp {
        width: width.clone(),
        inner,
        activation: UnaryOp::Silu,
        gate: Gate::Separate(["w1", "w3"]),
        down: "w2",
        bias: false,
    });
    let layer = |&attends: &bool| {
        let mixer = if attends { &attention } else { &convolution };
        Layer::pre_norm(mixer.clone(), ("feed_forward", mlp.clone()), ["operator_norm", "ffn_norm"], &norm)
    };
    Ok(Decoder {
        embedding: Embedding::plain(table, &vocab, &width),
        rotary,
        alibi: None,
        layers_name: "layers",
        layers: attends.iter().map(layer).collect(),
        final_norm: Some(("embedding_norm", norm)),
        projection: None,
        scores: Scores::plain(matrix),
        max_positions: None, // rotary positions go on for ever
        known_unused: &[],
        prefix,
        width,
    })
}

fn attention(config: &ConfigReader<'_>, width: &Size, norm: &Norm) -> Result<Attention, ModelError> {
    let heads = config.heads("num_attention_heads", "num_key_value_heads", "head_dim", width)?;
    let norm = Norm { width: heads.head_dim.clone(), ..norm.clone() };
    let norms = HeadNorms { names: ["q_layernorm", "k_layernorm"], norm, scope: HeadNormScope::EachHead };
    Ok(Attention {
        kv_heads: heads.kv_heads,
        output: ("out_proj", LinearKind::PLAIN),
        norms: Some(norms),
        rotary: Some(0),
        ..Attention::causal(width, &heads.heads, &heads.head_dim)
    })
}

/// Which layers have attention by `layer_types`.
fn attends(config: &ConfigReader<'_>) -> Result<Option<Vec<bool>>, ModelError> {
    config.disregard(&["full_attn_idxs"]);
    let count = config.layers("num_hidden_layers")?;
    let listed = layer_types::listed(config, "layer_types", count, &["conv", "full_attention"])?;
    Ok(listed.map(|listed| listed.iter().map(|&kind| kind == 1).collect()))
}

/// Which layers have attention by `full_attn_idxs`; all, if it is not there.
fn by_numbers(config: &ConfigReader<'_>) -> Result<Vec<bool>, ModelError> {
    let numbers = config.get("full_attn_idxs").map(|_| config.numbers("full_attn_idxs")).transpose()?;
    let attends = |i: usize| numbers.as_ref().is_none_or(|numbers| numbers.contains(&i));
    Ok((0..config.layers("num_hidden_layers")?).map(attends).collect())
}

/// Width inside perceptrons: two thirds of what configs say, by a factor and rounded up, if they ask for that.
fn dense_width(config: &ConfigReader<'_>) -> Result<Size, ConfigError> {
    let key = if config.get("block_ff_dim").is_some() { "block_ff_dim" } else { "intermediate_size" };
    config.disregard(&["intermediate_size"]);
    let stated = config.required_size(key)?;
    let factor = config.positive("block_ffn_dim_multiplier")?.unwrap_or(1.0);
    let multiple = config.size("block_multiple_of")?.unwrap_or(256);
    if !config.flag("block_auto_adjust_ff_dim", true)? {
        return Ok(Size::new(stated, key));
    }
    // Truncated as Python does.
    let adjusted = (2.0 * stated as f64 / 3.0) as usize;
    let adjusted = ((factor * adjusted as f64) as usize).min(WIDEST).next_multiple_of(multiple);
    match adjusted {
        0 | WIDEST.. => Err(config.invalid(key, "a width of which two thirds are left, below 2^31")),
        _ => Ok(Size::new(adjusted, format!("{key}, adjusted"))),
    }
}

fn mixture(request: &Request<'_>) -> Result<Decoder, ModelError> {
    let config = request.config;
    let attends = attends(config)?.ok_or_else(|| config.missing("layer_types"))?;
    let mut model = decoder(request, config.extent("intermediate_size")?, &attends)?;
    let correction = config.flag("use_expert_bias", true)?.then_some("expert_bias");
    let normalise = config.flag("norm_topk_prob", true)?;
    let mixture = Mixture {
        inner: config.extent("moe_intermediate_size")?,
        router: "gate",
        scores: RouterScores::Sigmoid(correction),
        chosen: 4,
        normalise,
        tensors: ExpertTensors::Each(["w1", "w3", "w2"]),
    };
    let mut experts = sparse::experts(config, &model, mixture)?;
    if let FeedForward::Experts(experts) = &mut experts {
        experts.router.normalise = normalise.then_some(1e-6);
        experts.router.scale = config.number("routed_scaling_factor")?.unwrap_or(1.0);
    }
    let dense = config.size_or_zero("num_dense_layers")?.unwrap_or(2);
    for layer in model.layers.iter_mut().skip(dense) {
        layer.feed_forward.1 = experts.clone();
    }
    Ok(model)
}
