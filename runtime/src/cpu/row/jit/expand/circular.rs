//! Sine and cosine.

use std::f32::consts::{FRAC_2_PI, FRAC_PI_2};

use super::super::builder::{Builder, Val};
use super::super::vector::{Fused, Lane1, Lane2};
use super::SIGN;

/// Sine of radians.
pub(super) fn sin(b: &mut Builder, x: Val) -> Val {
    let (quadrant, r) = reduce(b, x);
    in_quadrant(b, quadrant, r)
}

/// Cosine of radians: the sine, one quadrant on.
pub(super) fn cos(b: &mut Builder, x: Val) -> Val {
    let (quadrant, r) = reduce(b, x);
    let next = b.two(Lane2::AddInt, quadrant, Val::Constant(1));
    in_quadrant(b, next, r)
}

/// `x = n·π/2 + r` with π/2 in three parts (Cody and Waite): an integer whose low bits are those
/// of `n`, and `r`.
fn reduce(b: &mut Builder, x: Val) -> (Val, Val) {
    const ROUNDER: f32 = 12_582_912.0; // 2^23·1.5: the sum's low bits are the rounded integer.
    const PARTS: [f32; 3] = [FRAC_PI_2, -4.371_139e-8, -1.715_124_9e-15];
    let rounded = b.fma(x, Val::float(FRAC_2_PI), Val::float(ROUNDER));
    let n = b.sub(rounded, Val::float(ROUNDER));
    let r = PARTS.iter().fold(x, |r, &part| b.fused(Fused::NegMulAdd, n, Val::float(part), r));
    (rounded, r)
}

/// `sin(r + quadrant·π/2)` for |r| ≤ π/4; polynomials of Cephes `sinf`.
fn in_quadrant(b: &mut Builder, quadrant: Val, r: Val) -> Val {
    const SIN: [f32; 3] = [-1.666_665_5e-1, 8.332_161e-3, -1.951_529_6e-4];
    const COS: [f32; 5] = [1.0, -0.5, 4.166_664_6e-2, -1.388_731_6e-3, 2.443_315_7e-5];
    let square = b.mul(r, r);
    let series = b.polynomial(square, &SIN);
    let cubic = b.mul(square, r);
    let sin = b.fma(series, cubic, r);
    let cos = b.polynomial(square, &COS);
    let odd = b.one(Lane1::ShiftLeft(31), quadrant);
    let value = b.blend(odd, cos, sin);
    let second_bit = b.one(Lane1::ShiftLeft(30), quadrant);
    let sign = b.two(Lane2::And, second_bit, SIGN);
    b.two(Lane2::Xor, value, sign)
}
