//! Functions that attention needs, on vectors.

use super::Simd;

/// `eˣ` within 2 ulp; 0 below -87.3, where results would be subnormal. `x` must not exceed 88.
///
/// Cody and Waite's reduction `x = n·ln 2 + r`, then the polynomial of Cephes' `expf`.
#[inline(always)]
pub fn exp<S: Simd>(s: S, x: S::Floats) -> S::Floats {
    let tiny = s.splat(-87.336_54);
    let clamped = s.max(x, tiny);
    let n = s.round(s.mul(clamped, s.splat(std::f32::consts::LOG2_E)));
    let r = s.mul_add(n, s.splat(-0.693_359_4), clamped);
    let r = s.mul_add(n, s.splat(2.121_944_4e-4), r);
    let mut p = s.splat(1.987_569_1e-4);
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = s.mul_add(p, r, s.splat(c));
    }
    let p = s.mul_add(s.mul(r, r), p, s.add(r, s.splat(1.0)));
    s.if_less(x, tiny, s.splat(0.0), s.mul(p, s.power_of_two(n)))
}

/// `2ˣ` within 3 ulp; 0 below -126.5, where results would be subnormal. `x` must not exceed 127.
///
/// `x = n + r`, and a polynomial in `r` that interpolates at the Chebyshev nodes of ±½. A NaN stays.
#[inline(always)]
pub fn exp2<S: Simd>(s: S, x: S::Floats) -> S::Floats {
    let x = s.max(s.splat(-127.0), x);
    let n = s.round(x);
    let r = s.sub(x, n);
    let mut p = s.splat(1.338_130_2e-3);
    for c in [9.666_369e-3, 5.550_381e-2, 2.402_235e-1, std::f32::consts::LN_2, 1.0] {
        p = s.mul_add(p, r, s.splat(c));
    }
    s.mul(p, s.power_of_two(n))
}

/// `tanh x = sign(x) · (1 - e) / (1 + e)` with `e = e^(-2|x|)`; absolute error near 1e-7.
#[inline(always)]
pub fn tanh<S: Simd>(s: S, x: S::Floats) -> S::Floats {
    let (zero, one) = (s.splat(0.0), s.splat(1.0));
    let e = exp(s, s.mul(s.abs(x), s.splat(-2.0)));
    let magnitude = s.div(s.sub(one, e), s.add(one, e));
    s.if_less(x, zero, s.sub(zero, magnitude), magnitude)
}
