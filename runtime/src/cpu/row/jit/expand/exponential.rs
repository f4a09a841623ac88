//! The exponential and the sigmoid family made of it; tanh and erf as rational functions.

use std::f32::consts::{FRAC_1_SQRT_2, LN_2, LOG2_E};

use super::super::builder::{Builder, Val};
use super::super::vector::{Fused, Lane1};
use super::{ONE, clamp};

/// `e^x`.
pub(super) fn exp(b: &mut Builder, x: Val) -> Val {
    exp_signed(b, 1.0, x, None)
}

/// `e^(x + low)` with |low| much smaller than |x|.
pub(super) fn exp_sum(b: &mut Builder, x: Val, low: Val) -> Val {
    exp_signed(b, 1.0, x, Some(low))
}

/// `e^(s·x)` with `s` 1 or -1, whose sign goes into the constants.
///
/// `s·x = n·ln 2 + r`, `e^(s·x) = 2e^r · 2^(n-1)`: with the factor 2 moved into the polynomial,
/// `n = 128` overflows by an ordinary product and `n = -126` has the scale 0. Adding
/// `2^23·1.5 + 126` rounds to an integer and leaves the exponent of the scale in the low bits.
fn exp_signed(b: &mut Builder, s: f32, x: Val, low: Option<Val>) -> Val {
    const ROUNDER: f32 = 12_582_912.0 + 126.0;
    const LN_2_LOW: f32 = -1.904_654_3e-9;
    const BOUNDS: [f32; 2] = [-126.0 * LN_2, 88.8];
    // e^r on |r| ≤ ln(2)/2 to 3e-9: minimax in the relative error with the first two given.
    const EXP: [f32; 7] = [1.0, 1.0, 0.499_999_94, 0.166_665_21, 0.041_668_39, 0.008_368_736, 0.001_381_455_8];
    let [low_end, high_end] = BOUNDS.map(|bound| s * bound);
    let x = clamp(b, x, low_end.min(high_end), low_end.max(high_end));
    let rounded = b.fma(x, Val::float(s * LOG2_E), Val::float(ROUNDER));
    let n = b.sub(rounded, Val::float(ROUNDER));
    let r = b.fused(Fused::NegMulAdd, n, Val::float(s * LN_2), x);
    let r = b.fused(Fused::NegMulAdd, n, Val::float(s * LN_2_LOW), r);
    let r = match low {
        Some(low) => b.add(r, low),
        None => r,
    };
    let twice: [f32; EXP.len()] = std::array::from_fn(|i| 2.0 * s.powi(i as i32) * EXP[i]);
    let mantissa = b.polynomial(r, &twice);
    let scale = b.one(Lane1::ShiftLeft(23), rounded);
    b.mul(mantissa, scale)
}

/// `y·σ(x)`
pub(super) fn times_sigmoid(b: &mut Builder, y: Val, x: Val) -> Val {
    let e = exp_signed(b, -1.0, x, None);
    let denominator = b.add(e, ONE);
    b.div(y, denominator)
}

/// `x·Φ(x)`
pub(super) fn gelu(b: &mut Builder, x: Val) -> Val {
    let scaled = b.scale(x, FRAC_1_SQRT_2);
    let erf = erf(b, scaled);
    let half = b.scale(x, 0.5);
    b.fma(half, erf, half)
}

/// `½x(1 + tanh u) = x·σ(2u)` with `u = √(2/π)·(x + 0.044715x³)`.
pub(super) fn gelu_tanh(b: &mut Builder, x: Val) -> Val {
    const TWICE_SQRT_2_OVER_PI: f32 = 2.0 * 0.797_884_6;
    let square = b.mul(x, x);
    let factor = b.polynomial(square, &[-TWICE_SQRT_2_OVER_PI, -TWICE_SQRT_2_OVER_PI * 0.044_715]);
    let exponent = b.mul(x, factor);
    let e = exp(b, exponent);
    let denominator = b.add(e, ONE);
    b.div(x, denominator)
}

/// Hyperbolic tangent: `x·P(x²)/Q(x²)`, minimax to 2e-8; ±1 from |x| = 9 on.
pub(super) fn tanh(b: &mut Builder, x: Val) -> Val {
    const P: [f32; 5] = [1.0, 0.133_810_19, 0.003_495_580_3, 2.060_895_3e-5, 1.335_448_8e-8];
    const Q: [f32; 5] = [1.0, 0.467_143_36, 0.025_876_952, 3.285_622e-4, 7.776_486e-7];
    odd_rational(b, x, 9.0, &P, &Q)
}

/// Error function: `x·P(x²)/Q(x²)`, minimax to 2e-8; ±1 from |x| = 3.92 on.
///
/// The limit is a number at which the quotient is rounded to 1 exactly, so that gelu ends in 0.
pub(super) fn erf(b: &mut Builder, x: Val) -> Val {
    #[allow(clippy::approx_constant)] // The fit's coefficient, next to 2/√π.
    const P: [f32; 6] = [1.128_379_1, 0.190_376_15, 0.052_745_383, 0.003_764_491_8, 2.848_885_2e-4, 2.050_738_2e-6];
    const Q: [f32; 6] = [1.0, 0.502_049_2, 0.114_097_185, 0.014_966_948, 0.001_162_319_8, 3.809_873_3e-5];
    odd_rational(b, x, 3.919_199_5, &P, &Q)
}

/// `x·P(x²)/Q(x²)` with x limited to `±limit`.
fn odd_rational(b: &mut Builder, x: Val, limit: f32, p: &[f32], q: &[f32]) -> Val {
    let x = clamp(b, x, -limit, limit);
    let square = b.mul(x, x);
    let p = b.polynomial(square, p);
    let q = b.polynomial(square, q);
    let numerator = b.mul(x, p);
    b.div(numerator, q)
}
