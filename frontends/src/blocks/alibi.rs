//! Scores that fall in proportion to the distance of a key: ALiBi (arXiv:2108.12409).

use castiron_ir::op::{BinaryOp, UnaryOp};
use castiron_ir::{DType, Dim, Value};
use half::bf16;

use super::ModelBuilder;
use super::embedding::running_count;

/// Heads whose scores are lowered in proportion to the distance of a key.
#[derive(Clone, Debug)]
pub struct Alibi {
    /// Query heads.
    pub heads: usize,
    /// Key heads.
    pub kv_heads: usize,
    /// Factor of what is added, if that is rounded to bf16 before it is scaled.
    pub rounding: Option<f64>,
}

impl ModelBuilder<'_> {
    /// What is added to the scores, but for what all keys of a query have in common:
    /// `slope · position of the key`, `[b or 1, g, r, 1, t]`.
    pub(super) fn alibi(&self, alibi: &Alibi) -> Value {
        let (g, r) = (alibi.kv_heads, alibi.heads / alibi.kv_heads);
        let one = || Dim::from(1);
        let slopes = slopes(alibi.heads);
        let rounded = |slope: &f64| if alibi.rounding.is_some() { bf16::from_f64(*slope).to_f64() } else { *slope };
        let slopes = self.builder.vector(slopes.iter().map(rounded).collect());
        let slopes = slopes.reshape([one(), g.into(), r.into(), one(), one()]);
        let keys = if self.context.past.is_some() { "c" } else { "s" };
        let positions = self.builder.iota([one(), Dim::symbol(keys)], 1);
        let Some(scale) = alibi.rounding else { return slopes * on_keys(&positions) };
        // What is rounded depends on where a row begins, not only on distances.
        let positions = match &self.context.mask {
            Some(mask) => (running_count(mask) - 1.0) * mask.cast(DType::I32),
            None => positions,
        };
        rounded_to_bf16(&(slopes * on_keys(&positions))) * scale
    }
}

/// Positions `i32[b, t]` as `f32[b, 1, 1, 1, t]`.
fn on_keys(positions: &Value) -> Value {
    let one = || Dim::from(1);
    positions.cast(DType::F32).reshape([positions.dim(0), one(), one(), one(), positions.dim(1)])
}

/// Numbers from 0 on, rounded to the eight significant bits of bf16.
fn rounded_to_bf16(x: &Value) -> Value {
    const BITS: f64 = 8.0;
    // Zero has no logarithm. Slopes are not that small.
    let positive = x.binary(BinaryOp::Max, &x.constant(2f64.powi(-64)));
    let exponent = (positive.unary(UnaryOp::Log) * std::f64::consts::LOG2_E).unary(UnaryOp::Floor);
    let step = x.constant(2.0).binary(BinaryOp::Pow, &(exponent - (BITS - 1.0)));
    (x / &step).unary(UnaryOp::Round) * step
}

/// Slopes of `heads` heads: powers of `2^(-8/n)` for the largest power of two `n` that is not above
/// `heads`, then every second power of the next finer series.
pub fn slopes(heads: usize) -> Vec<f64> {
    let whole = if heads.is_power_of_two() { heads } else { heads.next_power_of_two() / 2 };
    let slope = |count: usize, power: usize| 2f64.powf(-8.0 / count as f64 * power as f64);
    let first = (1..=whole).map(|power| slope(whole, power));
    let rest = (0..heads - whole).map(|j| slope(2 * whole, 2 * j + 1));
    first.chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_those_of_the_paper() {
        let eight: Vec<f64> = (1..=8).map(|i| 0.5f64.powi(i)).collect();
        assert_eq!(slopes(8), eight);
        assert_eq!(slopes(3), [1.0 / 16.0, 1.0 / 256.0, 0.25]);
    }
}
