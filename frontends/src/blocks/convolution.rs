//! A convolution over tokens beside a layer, as DeBERTa-v2 has one.

use castiron_ir::Value;
use castiron_ir::op::{Conv, UnaryOp};

use super::{ModelBuilder, NamedNorm, Size};

/// `norm(y + act(conv(x)))` for a layer's input `x` and result `y`. Padding counts as zeros.
#[derive(Clone, Debug, PartialEq)]
pub struct Convolution {
    /// Scope of the tensors, as a whole.
    pub scope: String,
    /// Name of the convolution, with `weight` and `bias`.
    pub name: &'static str,
    /// Channels.
    pub width: Size,
    /// Tokens that the window sees; odd.
    pub taps: Size,
    /// Groups of channels.
    pub groups: usize,
    /// What follows the convolution.
    pub activation: UnaryOp,
    /// Norm of the sum.
    pub norm: NamedNorm,
}

impl ModelBuilder<'_> {
    /// A layer's result joined by a convolution of its input, both `[b, s, n]`.
    pub(super) fn convolved(&self, x: &Value, y: &Value, convolution: &Convolution) -> Value {
        let Convolution { scope, name, width, taps, groups, activation, norm } = convolution;
        let m = self.root().scope(scope);
        let masked = |x: Value| match self.mask_weights() {
            Some(real) => x * real,
            None => x,
        };
        let inner = Size::new(width.value() / groups, format!("{width} / groups"));
        let reach = taps.value() / 2;
        let conv = Conv {
            stride: vec![1],
            padding: vec![(reach, reach)],
            dilation: vec![],
            expand: vec![],
            groups: (*groups != 1).then_some(*groups),
        };
        let weights = m.scope(name);
        let x = masked(x.clone()).transpose(&[0, 2, 1]);
        let x = x.apply(conv, &[&weights.param("weight", &[width, &inner, taps])]).transpose(&[0, 2, 1]);
        let x = masked(x + weights.param("bias", &[width])).unary(*activation);
        m.norm(norm.0, &(y + x), &norm.1)
    }
}
