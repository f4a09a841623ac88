//! From token vectors to one vector for the sequence.

use castiron_ir::Value;
use castiron_ir::op::{BinaryOp, ReduceKind, UnaryOp};

use super::{LinearKind, ModelBuilder, Size};

/// Which token vectors make the sequence's, in sentence-transformers' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolingMode {
    /// Mean over the tokens that are no padding.
    Mean,
    /// The first token.
    Cls,
    /// Maximum over the tokens that are no padding.
    Max,
}

/// How a sentence embedding is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pooling {
    /// The pooling.
    pub mode: PoolingMode,
    /// Whether the embedding is scaled to unit length.
    pub normalise: bool,
}

impl Default for Pooling {
    /// The mean as it is: what sentence-transformers makes of a model that says nothing.
    fn default() -> Pooling {
        Pooling { mode: PoolingMode::Mean, normalise: false }
    }
}

impl ModelBuilder<'_> {
    /// The first token's vector, `[b, s, n]` → `[b, n]`.
    pub fn first_token(&self, x: &Value) -> Value {
        x.slice(1, 0, 1).reshape([x.dim(0), x.dim(2)])
    }

    /// BERT's pooler: `tanh` of a dense layer on the first token.
    pub fn pooler(&self, name: &str, x: &Value, width: &Size) -> Value {
        self.linear(name, &self.first_token(x), [width, width], LinearKind::BIASED).unary(UnaryOp::Tanh)
    }

    /// Sentence embeddings `[b, n]` of token vectors `[b, s, n]`.
    pub fn pool(&self, x: &Value, pooling: Pooling) -> Value {
        let pooled = match pooling.mode {
            PoolingMode::Cls => self.first_token(x),
            PoolingMode::Mean => self.over_tokens(x, |x, real| {
                let count = real.reduce(ReduceKind::Sum, &[1]);
                let count = count.binary(BinaryOp::Max, &count.constant(1e-9));
                (x * real).reduce(ReduceKind::Sum, &[1]) / count
            }),
            PoolingMode::Max => self.over_tokens(x, |x, real| {
                let is_real = real.binary(BinaryOp::Ne, &real.constant(0.0));
                is_real.select(x, &x.constant(-1e9)).reduce(ReduceKind::Max, &[1])
            }),
        };
        if !pooling.normalise {
            return pooled;
        }
        let norm = (&pooled * &pooled).reduce(ReduceKind::Sum, &[1]).unary(UnaryOp::Sqrt);
        &pooled / norm.binary(BinaryOp::Max, &norm.constant(1e-12))
    }

    /// A reduction of axis 1 with the weights `[b, s, 1]` of real tokens.
    fn over_tokens(&self, x: &Value, reduce: impl FnOnce(&Value, &Value) -> Value) -> Value {
        let Some(real) = self.mask_weights() else {
            self.builder.fail("pool", "the pass has no mask");
            return x.clone();
        };
        reduce(x, &real).reshape([x.dim(0), x.dim(2)])
    }
}
