//! A layer: what mixes tokens, what follows it, and how norms and residuals stand around them.

use castiron_ir::Value;

use super::{Attention, ChannelMix, Convolution, Experts, GatedMlp, Mixer, Mlp, ModelBuilder, Norm};

/// A norm and its name.
pub type NamedNorm = (&'static str, Norm);

/// What follows attention in a layer.
#[derive(Clone, Debug, PartialEq)]
pub enum FeedForward {
    /// Two dense layers.
    Plain(Mlp),
    /// A gate and two dense layers.
    Gated(GatedMlp),
    /// The same with factors of the gate, before its activation, and of the result.
    Scaled(GatedMlp, [f64; 2]),
    /// A choice of perceptrons.
    Experts(Box<Experts>),
    /// Two dense layers on a mixture of the token and the one before.
    ChannelMix(ChannelMix),
    /// Several that read the same, whose results are added.
    Sum(Vec<(&'static str, FeedForward)>),
    /// Nothing, not even a residual.
    None,
}

/// Mixer and perceptron with residuals: `y = x + mixer(x)`, `y + perceptron(y)`, and the norms
/// and arrangements that families add to that. A layer may lack one of the two.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Name and kind of what mixes tokens.
    pub mixer: (&'static str, Mixer),
    /// Name and kind of the perceptron.
    pub feed_forward: (&'static str, FeedForward),
    /// Before the mixer and before the perceptron. In parallel layers, a perceptron without one of its
    /// own shares the mixer's.
    pub before: [Option<NamedNorm>; 2],
    /// After the mixer and after the perceptron, before their results are added.
    pub after: [Option<NamedNorm>; 2],
    /// After each sum.
    pub sums: [Option<NamedNorm>; 2],
    /// Whether the perceptron reads what the mixer reads, rather than its result (GPT-J).
    pub parallel: bool,
    /// Whether results are added to what the norms before them gave, rather than to their inputs (BLOOM).
    pub adds_to_norm: bool,
    /// Weights of the sums after mixer and perceptron: of what is added to, and of what is added.
    pub sum_weights: [[f64; 2]; 2],
    /// Joins the result.
    pub convolution: Option<Convolution>,
    /// Between mixer and perceptron, in decoders that see what an encoder has read.
    pub cross: Option<Cross>,
}

/// Cross-attention with its residual.
#[derive(Clone, Debug, PartialEq)]
pub struct Cross {
    /// Name and kind of the attention.
    pub attention: (&'static str, Attention),
    /// Before it.
    pub before: Option<NamedNorm>,
    /// After the sum.
    pub sum: Option<NamedNorm>,
}

impl Layer {
    /// A layer with a norm before each of its parts.
    pub fn pre_norm(
        (name, mixer): (&'static str, impl Into<Mixer>),
        feed_forward: (&'static str, FeedForward),
        norms: [&'static str; 2],
        norm: &Norm,
    ) -> Layer {
        Layer {
            mixer: (name, mixer.into()),
            feed_forward,
            before: norms.map(|name| Some((name, norm.clone()))),
            after: [None, None],
            sums: [None, None],
            parallel: false,
            adds_to_norm: false,
            sum_weights: [[1.0; 2]; 2],
            convolution: None,
            cross: None,
        }
    }

    /// A layer whose parts read one norm.
    pub fn parallel(
        mixer: (&'static str, impl Into<Mixer>),
        feed_forward: (&'static str, FeedForward),
        norm_name: &'static str,
        norm: &Norm,
    ) -> Layer {
        let layer = Layer::pre_norm(mixer, feed_forward, [norm_name; 2], norm);
        let [first, _] = layer.before;
        Layer { before: [first, None], parallel: true, ..layer }
    }

    /// A layer with a norm after each sum.
    pub fn post_norm(
        mixer: (&'static str, impl Into<Mixer>),
        feed_forward: (&'static str, FeedForward),
        norms: [&'static str; 2],
        norm: &Norm,
    ) -> Layer {
        let layer = Layer::pre_norm(mixer, feed_forward, norms, norm);
        Layer { sums: layer.before, before: [None, None], ..layer }
    }

    /// A layer of one mixer and no perceptron.
    pub fn mixer(mixer: (&'static str, impl Into<Mixer>), norm: NamedNorm) -> Layer {
        let layer = Layer::pre_norm(mixer, ("", FeedForward::None), [norm.0; 2], &norm.1);
        let [first, _] = layer.before;
        Layer { before: [first, None], ..layer }
    }

    /// The attention of a layer that has one.
    ///
    /// # Panics
    /// If it has another mixer: families know what their layers are made of.
    pub fn attention(&self) -> &Attention {
        let Mixer::Attention(attention) = &self.mixer.1 else { panic!("a layer without attention") };
        attention
    }

    /// [`Layer::attention`] for change.
    ///
    /// # Panics
    /// As [`Layer::attention`].
    pub fn attention_mut(&mut self) -> &mut Attention {
        let Mixer::Attention(attention) = &mut self.mixer.1 else { panic!("a layer without attention") };
        attention
    }
}

impl ModelBuilder<'_> {
    /// A layer.
    pub fn layer(&self, x: &Value, layer: &Layer) -> Value {
        let norm = |norm: &Option<NamedNorm>, x: &Value| match norm {
            Some((name, norm)) => self.norm(name, x, norm),
            None => x.clone(),
        };
        let weighted = |x: &Value, weight: f64| if weight == 1.0 { x.clone() } else { x * weight };
        let [[of_input, of_mixed], [of_sum, of_fed]] = layer.sum_weights;
        let residual = |x: &Value, normal: &Value| if layer.adds_to_norm { normal.clone() } else { x.clone() };
        let mixer_input = norm(&layer.before[0], x);
        let mixed = self.mixer(&layer.mixer, &mixer_input).map(|x| weighted(&norm(&layer.after[0], &x), of_mixed));
        let feed_forward =
            |x: &Value| self.feed_forward(&layer.feed_forward, x).map(|x| weighted(&norm(&layer.after[1], &x), of_fed));
        if layer.parallel {
            let input = if layer.before[1].is_some() { norm(&layer.before[1], x) } else { mixer_input };
            let sum = mixed.into_iter().chain(feed_forward(&input)).fold(weighted(x, of_input), |x, y| x + y);
            return norm(&layer.sums[1], &sum);
        }
        let mut y = match mixed {
            Some(mixed) => norm(&layer.sums[0], &(weighted(&residual(x, &mixer_input), of_input) + mixed)),
            None => x.clone(),
        };
        if let Some(Cross { attention: (name, attention), before, sum }) = &layer.cross {
            y = norm(sum, &(&y + self.cross_attention(name, &norm(before, &y), attention)));
        }
        let input = norm(&layer.before[1], &y);
        if let Some(fed) = feed_forward(&input) {
            y = norm(&layer.sums[1], &(weighted(&residual(&y, &input), of_sum) + fed));
        }
        match &layer.convolution {
            Some(convolution) => self.convolved(x, &y, convolution),
            None => y,
        }
    }

    fn feed_forward(&self, (name, kind): &(&'static str, FeedForward), x: &Value) -> Option<Value> {
        Some(match kind {
            FeedForward::Plain(mlp) => self.mlp(name, x, mlp),
            FeedForward::Gated(mlp) => self.gated_mlp(name, x, mlp),
            FeedForward::Scaled(mlp, factors) => self.scaled_mlp(name, x, mlp, *factors),
            FeedForward::Experts(experts) => self.experts(name, x, experts),
            FeedForward::ChannelMix(mix) => self.channel_mix(name, x, mix),
            FeedForward::Sum(parts) => {
                let m = self.scope(name);
                return parts.iter().filter_map(|part| m.feed_forward(part, x)).reduce(|a, b| a + b);
            }
            FeedForward::None => return None,
        })
    }
}
