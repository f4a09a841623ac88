//! What decoders with experts have in common.

use super::{ModelError, layer_types};
use crate::blocks::{
    Decoder, ExpertGroups, ExpertTensors, Experts, FeedForward, Gating, LinearKind, Router, RouterScores, Size,
};
use crate::config::ConfigReader;

/// Most experts of all layers together, which a builder counts through.
const MOST_EXPERTS: usize = 1 << 18;

/// What families with experts differ in.
pub(super) struct Mixture {
    /// Width inside an expert.
    pub inner: Size,
    /// Name of the router.
    pub router: &'static str,
    /// What its scores are.
    pub scores: RouterScores,
    /// Default of `num_experts_per_tok`.
    pub chosen: usize,
    /// Whether the weights of the chosen experts are divided by their sum.
    pub normalise: bool,
    /// How the experts' weights are stored.
    pub tensors: ExpertTensors,
}

/// Experts with the activation of a decoder's gated perceptrons.
pub(super) fn experts(config: &ConfigReader<'_>, model: &Decoder, mixture: Mixture) -> Result<FeedForward, ModelError> {
    let is_there = |key: &&str| config.get(key).is_some();
    let key = ["num_local_experts", "num_experts", "n_routed_experts"].into_iter().find(is_there);
    let key = key.unwrap_or("num_experts");
    let count = config.extent(key)?;
    let most = MOST_EXPERTS / model.layers.len().max(1);
    if count.value() > most {
        return Err(config.invalid(key, &format!("at most {most} experts in each layer")).into());
    }
    let chosen = config.size("num_experts_per_tok")?.unwrap_or(mixture.chosen);
    if chosen > count.value() {
        return Err(config.invalid("num_experts_per_tok", &format!("at most {} experts", count.value())).into());
    }
    let activation = match model.layers.first().map(|layer| &layer.feed_forward.1) {
        Some(FeedForward::Gated(mlp)) => mlp.activation,
        _ => config.activation("hidden_act", "silu")?,
    };
    let router = Router {
        layer: (mixture.router, LinearKind::PLAIN),
        scores: mixture.scores,
        groups: None,
        chosen,
        normalise: mixture.normalise.then_some(0.0),
        scale: 1.0,
    };
    Ok(FeedForward::Experts(Box::new(Experts {
        width: model.width.clone(),
        inner: mixture.inner,
        count,
        router,
        gating: Gating::Plain(activation),
        tensors: mixture.tensors,
        shared: None,
        latent: None,
    })))
}

/// Windows of the layers that `layer_types` names, or that a rule gives for a layer and `max_window_layers`.
pub(super) fn windows(
    config: &ConfigReader<'_>,
    model: &mut Decoder,
    rule: impl Fn(usize, usize) -> bool,
) -> Result<(), ModelError> {
    let window = config.size_or_zero("sliding_window")?.filter(|&window| window > 0);
    let window = if config.flag("use_sliding_window", false)? { window } else { None };
    let first = config.size_or_zero("max_window_layers")?.unwrap_or(28);
    let slides = layer_types::sliding(config, model.layers.len(), |i| rule(i, first))?;
    for (layer, slides) in model.layers.iter_mut().zip(slides) {
        layer.attention_mut().window = window.filter(|_| slides);
    }
    Ok(())
}

/// Groups that a router can choose from, whose number stands at a key.
pub(super) fn checked_groups(
    config: &ConfigReader<'_>,
    key: &str,
    experts: usize,
    chosen: usize,
    groups: ExpertGroups,
) -> Result<ExpertGroups, ModelError> {
    let size = experts / groups.count;
    if !experts.is_multiple_of(groups.count) || size < groups.best {
        let expected = format!("a divisor of {experts} experts, in groups of at least {}", groups.best);
        return Err(config.invalid(key, &expected).into());
    }
    if groups.kept > groups.count || groups.kept * size < chosen {
        return Err(config.invalid("topk_group", &format!("groups of {size} experts with {chosen} to choose")).into());
    }
    Ok(groups)
}

/// A string that may be absent, but nothing else than what is implemented.
pub(super) fn require_text<'a>(
    config: &ConfigReader<'a>,
    key: &str,
    known: &[&str],
) -> Result<Option<&'a str>, ModelError> {
    let text = config.text(key)?;
    if text.is_none_or(|text| known.contains(&text)) {
        Ok(text)
    } else {
        Err(config.invalid(key, &known.join(" or ")).into())
    }
}
