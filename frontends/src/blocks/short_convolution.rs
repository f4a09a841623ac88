//! Gated short convolutions (LFM2, arXiv:2511.23404).

use castiron_ir::Value;

use super::{LinearKind, ModelBuilder, Size};

/// A mixer of each token with a few before it: `y = C ⊙ conv(B ⊙ u)` through a layer, where B, C and u are made from
/// the token.
#[derive(Clone, Debug, PartialEq)]
pub struct ShortConvolution {
    /// Width of the input, the channels and the output.
    pub width: Size,
    /// Tokens that the convolution sees.
    pub taps: Size,
    /// Whether the convolution and the layers around it have biases.
    pub bias: bool,
}

impl ModelBuilder<'_> {
    /// A gated short convolution.
    pub fn short_convolution(&self, name: &str, x: &Value, convolution: &ShortConvolution) -> Value {
        let m = &self.scope(name);
        let ShortConvolution { width, taps, bias } = convolution;
        let (n, linear) = (width.value(), LinearKind::with_bias(*bias));
        // The bias stays in place of padding, as in transformers.
        let x = m.mask_weights().map_or_else(|| x.clone(), |real| x * real);
        let all = m.linear("in_proj", &x, [width, &(width * 3)], linear);
        let part = |i: usize| all.slice(2, i * n, (i + 1) * n);
        let mixed = m.causal_convolution("conv", &(part(0) * part(2)), [width, taps], *bias);
        m.linear("out_proj", &(part(1) * mixed), [width, width], linear)
    }
}
