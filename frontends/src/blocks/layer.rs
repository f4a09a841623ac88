//! A transformer layer: attention and perceptron, and how norms and residuals stand around them.

use castiron_ir::Value;

use super::{Attention, Convolution, Experts, GatedMlp, Mlp, ModelBuilder, Norm};

/// A norm and its name.
pub type NamedNorm = (&'static str, Norm);

/// What follows attention in a layer.
#[derive(Clone, Debug, PartialEq)]
pub enum FeedForward {
    /// Two dense layers.
    Plain(Mlp),
    /// A gate and two dense layers.
    Gated(GatedMlp),
    /// A choice of gated perceptrons.
    Experts(Box<Experts>),
}

/// Attention and perceptron with residuals: `y = x + attention(x)`, `y + perceptron(y)`, and the norms
/// and arrangements that families add to that.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Name and kind of the attention.
    pub attention: (&'static str, Attention),
    /// Name and kind of the perceptron.
    pub feed_forward: (&'static str, FeedForward),
    /// Before attention and before the perceptron. In parallel layers, a perceptron without one of its
    /// own shares the attention's.
    pub before: [Option<NamedNorm>; 2],
    /// After attention and after the perceptron, before their results are added.
    pub after: [Option<NamedNorm>; 2],
    /// After each sum.
    pub sums: [Option<NamedNorm>; 2],
    /// Whether the perceptron reads what attention reads, rather than its result (GPT-J).
    pub parallel: bool,
    /// Whether results are added to what the norms before them gave, rather than to their inputs (BLOOM).
    pub adds_to_norm: bool,
    /// Factor of what attention and perceptron add.
    pub residual_scale: f64,
    /// Joins the result.
    pub convolution: Option<Convolution>,
    /// Between attention and perceptron, in decoders that see what an encoder has read.
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
        attention: (&'static str, Attention),
        feed_forward: (&'static str, FeedForward),
        norms: [&'static str; 2],
        norm: &Norm,
    ) -> Layer {
        Layer {
            attention,
            feed_forward,
            before: norms.map(|name| Some((name, norm.clone()))),
            after: [None, None],
            sums: [None, None],
            parallel: false,
            adds_to_norm: false,
            residual_scale: 1.0,
            convolution: None,
            cross: None,
        }
    }

    /// A layer whose parts read one norm.
    pub fn parallel(
        attention: (&'static str, Attention),
        feed_forward: (&'static str, FeedForward),
        norm_name: &'static str,
        norm: &Norm,
    ) -> Layer {
        let layer = Layer::pre_norm(attention, feed_forward, [norm_name; 2], norm);
        let [first, _] = layer.before;
        Layer { before: [first, None], parallel: true, ..layer }
    }

    /// A layer with a norm after each sum.
    pub fn post_norm(
        attention: (&'static str, Attention),
        feed_forward: (&'static str, FeedForward),
        norms: [&'static str; 2],
        norm: &Norm,
    ) -> Layer {
        let layer = Layer::pre_norm(attention, feed_forward, norms, norm);
        Layer { sums: layer.before, before: [None, None], ..layer }
    }
}

impl ModelBuilder<'_> {
    /// A transformer layer.
    pub fn layer(&self, x: &Value, layer: &Layer) -> Value {
        let norm = |norm: &Option<NamedNorm>, x: &Value| match norm {
            Some((name, norm)) => self.norm(name, x, norm),
            None => x.clone(),
        };
        let added = |x: &Value| if layer.residual_scale == 1.0 { x.clone() } else { x * layer.residual_scale };
        let (name, attention) = &layer.attention;
        let attention_input = norm(&layer.before[0], x);
        let attended = added(&norm(&layer.after[0], &self.attention(name, &attention_input, attention)));
        let feed_forward = |x: &Value| added(&norm(&layer.after[1], &self.feed_forward(&layer.feed_forward, x)));
        if layer.parallel {
            let input = if layer.before[1].is_some() { norm(&layer.before[1], x) } else { attention_input };
            return norm(&layer.sums[1], &(x + attended + feed_forward(&input)));
        }
        let residual = |x: &Value, normal: &Value| if layer.adds_to_norm { normal.clone() } else { x.clone() };
        let mut y = norm(&layer.sums[0], &(residual(x, &attention_input) + attended));
        if let Some(Cross { attention: (name, attention), before, sum }) = &layer.cross {
            y = norm(sum, &(&y + added(&self.cross_attention(name, &norm(before, &y), attention))));
        }
        let input = norm(&layer.before[1], &y);
        let y = norm(&layer.sums[1], &(residual(&y, &input) + feed_forward(&input)));
        match &layer.convolution {
            Some(convolution) => self.convolved(x, &y, convolution),
            None => y,
        }
    }

    fn feed_forward(&self, (name, kind): &(&'static str, FeedForward), x: &Value) -> Value {
        match kind {
            FeedForward::Plain(mlp) => self.mlp(name, x, mlp),
            FeedForward::Gated(mlp) => self.gated_mlp(name, x, mlp),
            FeedForward::Experts(experts) => self.experts(name, x, experts),
        }
    }
}
