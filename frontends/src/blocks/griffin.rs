//! The recurrent block of Griffin and Hawk (arXiv:2402.19427).

use castiron_ir::op::{BinaryOp, Dot, UnaryOp};
use castiron_ir::{DType, Dim, Type, Value};

use super::{LinearKind, ModelBuilder, Size};

/// How fast the recurrence forgets, at most: the paper's `c`.
const SHARPNESS: f64 = 8.0;

/// A mixer of tokens with a state of one number for each of `inner` channels, gated by another branch.
#[derive(Clone, Debug, PartialEq)]
pub struct Griffin {
    /// Width of the input and the output.
    pub width: Size,
    /// Number of channels.
    pub inner: Size,
    /// Number of equal parts of the channels, each of which makes its own gates.
    pub heads: Size,
    /// Tokens that the convolution sees.
    pub taps: Size,
    /// Of the branch that gates.
    pub activation: UnaryOp,
}

impl ModelBuilder<'_> {
    /// The recurrent block: a convolution and an RG-LRU in one branch, an activation in the other.
    ///
    /// Padding before and after whole sequences is taken for tokens, as in transformers.
    pub fn griffin(&self, name: &str, x: &Value, griffin: &Griffin) -> Value {
        let m = &self.scope(name).without_mask();
        let Griffin { width, inner, taps, activation, .. } = griffin;
        let gate = m.linear("linear_y", x, [width, inner], LinearKind::BIASED).unary(*activation);
        let u = m.linear("linear_x", x, [width, inner], LinearKind::BIASED);
        let u = m.causal_convolution("conv_1d", &u, [inner, taps], true);
        let h = m.scope("rg_lru").gated_recurrence(&u, griffin);
        m.linear("linear_out", &(h * gate), [inner, width], LinearKind::BIASED)
    }

    /// The real-gated linear recurrent unit over `u: [b, s, d]`: `h ← a·h + √(1 - a²)·i·u` with `a = e^(-8·r·softplus(Λ))`,
    /// where the gates r and i depend on u. The first token of a row enters whole.
    fn gated_recurrence(&self, u: &Value, griffin: &Griffin) -> Value {
        let (b, s, d) = (u.dim(0), u.dim(1), u.dim(2));
        let input = u * self.head_gate("input_gate", u, griffin);
        let rate = self.param("recurrent_param", &[&griffin.inner]).unary(UnaryOp::Softplus) * -SHARPNESS;
        let log_decay = self.without_padding(&(self.head_gate("recurrent_gate", u, griffin) * rate));
        let decay = log_decay.unary(UnaryOp::Exp);
        let kept = (log_decay * 2.0).unary(UnaryOp::Exp);
        let share = (kept.constant(1.0) - kept).unary(UnaryOp::Sqrt);
        let mut position = self.builder.iota([Dim::from(1), s, 1.into()], 1);
        if let Some(past) = &self.context.past {
            position = position + past.reshape([b.clone(), 1.into(), 1.into()]);
        }
        let is_first = position.binary(BinaryOp::Eq, &position.constant(0.0));
        let input = self.without_padding(&(input * is_first.select(&share.constant(1.0), &share)));
        let initial = self.recurrent("recurrence", Type::new(DType::F32, [b, d]));
        let results = self.builder.scan(1, [&[&initial], &[&decay, &input], &[]], |_, values| {
            let [h, decay, input] = values else { unreachable!("as many values as operands") };
            let h = h * decay + input;
            vec![h.clone(), h]
        });
        self.remember("recurrence", &results[0]);
        results[1].clone()
    }

    /// `σ(u·W + w)` of each head's own channels of `[b, s, d]`, with a matrix for each head.
    fn head_gate(&self, name: &str, u: &Value, Griffin { heads, inner, .. }: &Griffin) -> Value {
        let (b, s) = (u.dim(0), u.dim(1));
        let part = Size::new(inner.value() / heads.value(), format!("{inner} / {heads}"));
        let (h, n) = (heads.value(), part.value());
        let weight = self.param(&format!("{name}_weight"), &[heads, &part, &part]);
        let op = Dot { batch: vec![(2, 0)], contract: vec![(3, 1)] };
        let product = u.reshape([b, s, h.into(), n.into()]).apply(op, &[&weight]).transpose(&[1, 2, 0, 3]);
        let sum = product + self.param(&format!("{name}_bias"), &[heads, &part]);
        sum.sigmoid().reshape(u.ty().shape)
    }
}
