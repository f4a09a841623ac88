//! From token vectors to one vector for the sequence.

use castiron_ir::op::{BinaryOp, Extent, Gather, ReduceKind, UnaryOp};
use castiron_ir::{DType, Dim, Value};

use super::{LinearKind, ModelBuilder, Size};

/// Which token vectors make the sequence's, in sentence-transformers' words. Padding never counts, but for
/// [`PoolingMode::Cls`], which is the first token whatever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolingMode {
    /// The first token.
    Cls,
    /// The first token that is no padding.
    First,
    /// Maximum over the tokens.
    Max,
    /// Mean over the tokens.
    Mean,
    /// Sum of the tokens over the root of their number.
    MeanSqrtLength,
    /// Mean over the tokens, each weighted by its position, counted from 1.
    WeightedMean,
    /// The last token.
    Last,
}

/// How a sentence embedding is made.
#[derive(Clone, Debug, PartialEq)]
pub struct Pooling {
    /// The poolings; their results stand one after another.
    pub modes: Vec<PoolingMode>,
    /// Dense layers after the pooling.
    pub layers: Vec<PoolingLayer>,
    /// Whether the embedding is scaled to unit length.
    pub normalise: bool,
}

/// A dense layer after the pooling.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolingLayer {
    /// Name of the layer as a whole.
    pub name: String,
    /// Width of what it gives.
    pub width: Size,
    /// Whether it has a bias.
    pub bias: bool,
    /// What follows it.
    pub activation: Option<UnaryOp>,
}

impl Default for Pooling {
    /// The mean as it is: what sentence-transformers makes of a model that says nothing.
    fn default() -> Pooling {
        Pooling { modes: vec![PoolingMode::Mean], layers: vec![], normalise: false }
    }
}

impl ModelBuilder<'_> {
    /// Sentence embeddings `[b, n]` of token vectors `[b, s, width]`.
    pub fn pool(&self, x: &Value, width: &Size, pooling: &Pooling) -> Value {
        let pooled: Vec<Value> = pooling.modes.iter().map(|&mode| self.pooled(x, mode)).collect();
        let mut x = match &pooled[..] {
            [one] => one.clone(),
            all => self.builder.concat(1, &all.iter().collect::<Vec<_>>()),
        };
        let mut width = width * pooling.modes.len();
        for layer in &pooling.layers {
            x = self.root().linear(&layer.name, &x, [&width, &layer.width], LinearKind::with_bias(layer.bias));
            x = layer.activation.map_or(x.clone(), |activation| x.unary(activation));
            width = layer.width.clone();
        }
        if !pooling.normalise {
            return x;
        }
        let norm = (&x * &x).reduce(ReduceKind::Sum, &[1]).unary(UnaryOp::Sqrt);
        &x / norm.binary(BinaryOp::Max, &norm.constant(1e-12))
    }

    /// The vector of each sequence, `[b, s, n]` → `[b, n]`.
    pub fn pooled(&self, x: &Value, mode: PoolingMode) -> Value {
        if mode == PoolingMode::Cls {
            return x.slice(1, 0, 1).reshape([x.dim(0), x.dim(2)]);
        }
        let Some(real) = self.mask_weights() else {
            self.builder.fail("pool", "the pass has no mask");
            return x.clone();
        };
        let sum = |x: &Value| x.reduce(ReduceKind::Sum, &[1]);
        let floored = |count: Value| count.binary(BinaryOp::Max, &count.constant(1e-9));
        let mean = |weights: &Value| sum(&(x * weights)) / floored(sum(weights));
        let at = |place: Value| x.apply(Gather { axis: 1, batch: Some(1) }, &[&place.reshape([x.dim(0)])]);
        let places = || self.builder.iota([Dim::from(1), x.dim(1), Dim::from(1)], 1);
        let pooled = match mode {
            PoolingMode::Cls | PoolingMode::Mean => mean(&real),
            PoolingMode::MeanSqrtLength => sum(&(x * &real)) / floored(sum(&real)).unary(UnaryOp::Sqrt),
            PoolingMode::WeightedMean => mean(&((places() + 1.0).cast(DType::F32) * &real)),
            PoolingMode::Max => {
                let is_real = real.binary(BinaryOp::Ne, &real.constant(0.0));
                is_real.select(x, &x.constant(-1e9)).reduce(ReduceKind::Max, &[1])
            }
            PoolingMode::Last => at((places() * real.cast(DType::I32)).reduce(ReduceKind::Max, &[1])),
            PoolingMode::First => {
                let end = &self.builder.apply(Extent { of: x.dim(1) }, &[]);
                let from_end = (end - places()) * real.cast(DType::I32);
                at(end - from_end.reduce(ReduceKind::Max, &[1]))
            }
        };
        pooled.reshape([x.dim(0), x.dim(2)])
    }
}
