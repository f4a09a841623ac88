//! The logarithm, and softplus and powers made of it.

use super::super::builder::{Builder, Val};
use super::super::vector::{Fused, Lane1, Lane2, Predicate};
use super::exponential::{exp, exp_sum};
use super::{ONE, SIGN, ZERO};

const INFINITY: Val = Val::Constant(0x7f80_0000);
const TWO: Val = Val::Constant(0x4000_0000);
const NEG_INFINITY: Val = Val::Constant(0xff80_0000);
/// ln 2 in two parts; the product of the first with an exponent is exact.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

/// A number as `2^exponent · (1 + fraction)` with `1 + fraction` in `√½ .. √2`.
struct Split {
    /// The exponent in the place where a float has it.
    shifted: Val,
    exponent: Val,
    fraction: Val,
}

/// Natural logarithm.
pub(super) fn log(b: &mut Builder, x: Val) -> Val {
    let split = split_any(b, x);
    let square = b.mul(split.fraction, split.fraction);
    let y = log_of(b, &split, square);
    at_edges(b, x, y)
}

/// `ln(1 + x)`: the rounding error of `1 + x` is added to the fraction.
pub(super) fn log1p(b: &mut Builder, x: Val) -> Val {
    let sum = b.add(x, ONE);
    let back = b.sub(sum, ONE);
    let lost = b.sub(x, back);
    let mut split = split_normal(b, sum);
    let lost = b.scale(lost, 0.5);
    let scale = b.two(Lane2::SubInt, TWO, split.shifted); // 2^(1-e), which is 0 at the largest e
    split.fraction = b.fma(lost, scale, split.fraction);
    let square = b.mul(split.fraction, split.fraction);
    let y = log_of(b, &split, square);
    at_edges(b, sum, y)
}

/// `ln(1 + e^x)`, and `x` above 20.
pub(super) fn softplus(b: &mut Builder, x: Val) -> Val {
    let e = exp(b, x);
    let value = log1p(b, e);
    let large = b.compare(Predicate::Greater, x, Val::float(20.0));
    b.blend(large, x, value)
}

/// `a^e`. Common constant exponents become products and roots; otherwise `e^(e·ln|a|)` with the
/// logarithm in two floats, and the sign of an odd power.
pub(super) fn pow(b: &mut Builder, a: Val, e: Val) -> Val {
    if let Some(value) = e.as_float().and_then(|e| small_power(b, a, e)) {
        return value;
    }
    let magnitude = b.abs(a);
    let (high, low) = log_in_two(b, magnitude);
    let y = b.mul(e, high);
    let error = b.fused(Fused::MulSub, e, high, y);
    let error = b.fma(e, low, error);
    let size = b.abs(y);
    let finite = b.compare(Predicate::Less, size, Val::float(1e30));
    let error = b.two(Lane2::And, finite, error);
    let value = exp_sum(b, y, error);
    let value = signed_power(b, a, e, value);
    let is_zero = b.compare(Predicate::Equal, e, ZERO);
    b.blend(is_zero, ONE, value)
}

/// `a^e` for exponents that need no logarithm.
fn small_power(b: &mut Builder, a: Val, e: f32) -> Option<Val> {
    let inverted = e < 0.0;
    let value = match e.abs() {
        0.0 => return Some(ONE),
        0.5 => b.one(Lane1::Sqrt, a),
        1.0 => a,
        2.0 => b.mul(a, a),
        3.0 => {
            let square = b.mul(a, a);
            b.mul(square, a)
        }
        4.0 => {
            let square = b.mul(a, a);
            b.mul(square, square)
        }
        _ => return None,
    };
    Some(if inverted { b.div(ONE, value) } else { value })
}

/// `value = |a|^e` with the sign of `a` if `e` is odd, and NaN if `a` is negative and `e` no integer.
fn signed_power(b: &mut Builder, a: Val, e: Val, value: Val) -> Val {
    let whole = b.one(Lane1::Floor, e);
    let half = b.scale(whole, 0.5);
    let half_whole = b.one(Lane1::Floor, half);
    let is_odd = b.compare(Predicate::NotEqual, half_whole, half);
    let odd_sign = b.two(Lane2::And, is_odd, SIGN);
    let sign = b.two(Lane2::And, a, odd_sign);
    let value = b.two(Lane2::Xor, value, sign);
    let is_fractional = b.compare(Predicate::NotEqual, whole, e);
    let is_negative = b.compare(Predicate::Less, a, ZERO);
    let undefined = b.two(Lane2::And, is_negative, is_fractional);
    b.two(Lane2::Or, value, undefined)
}

/// Splits a number that may be subnormal.
fn split_any(b: &mut Builder, x: Val) -> Split {
    let tiny = b.compare(Predicate::Less, x, Val::float(f32::MIN_POSITIVE));
    let scaled = b.scale(x, 8_388_608.0);
    let normal = b.blend(tiny, scaled, x);
    let split = split_normal(b, normal);
    let added = b.two(Lane2::And, tiny, Val::float(23.0));
    Split { exponent: b.sub(split.exponent, added), ..split }
}

/// Splits a normal number.
fn split_normal(b: &mut Builder, x: Val) -> Split {
    const SQRT_HALF: u32 = 0x3f35_04f3;
    let above = b.two(Lane2::AddInt, x, Val::Constant(SQRT_HALF.wrapping_neg()));
    let exponent = b.one(Lane1::ShiftRight(23), above);
    let shifted = b.one(Lane1::ShiftLeft(23), exponent);
    let mantissa = b.two(Lane2::SubInt, x, shifted);
    Split { shifted, exponent: b.one(Lane1::ToFloat, exponent), fraction: b.sub(mantissa, ONE) }
}

/// `(ln(1 + f) - f + f²/2) / f²`, by the polynomial of Cephes `logf`.
fn cubic_part(b: &mut Builder, f: Val) -> Val {
    const P: [f32; 9] = [
        3.333_333e-1,
        -2.499_999_4e-1,
        2.000_071_5e-1,
        -1.666_805_8e-1,
        1.424_932_3e-1,
        -1.242_014_1e-1,
        1.167_699_9e-1,
        -1.151_461e-1,
        7.037_683_6e-2,
    ];
    let p = b.polynomial(f, &P);
    b.mul(p, f)
}

/// The logarithm of a split number; `square` is the square of the fraction.
fn log_of(b: &mut Builder, split: &Split, square: Val) -> Val {
    let cubic = cubic_part(b, split.fraction);
    let y = b.mul(cubic, square);
    let y = b.fma(split.exponent, Val::float(LN_2[1]), y);
    let y = b.fused(Fused::NegMulAdd, square, Val::float(0.5), y);
    let y = b.add(split.fraction, y);
    b.fma(split.exponent, Val::float(LN_2[0]), y)
}

/// The logarithm of a non-negative number as an unevaluated sum of two floats: the large terms
/// `e·ln 2`, `f` and `-f²/2` are added with their errors (Dekker's fast two-sum).
fn log_in_two(b: &mut Builder, x: Val) -> (Val, Val) {
    let split = split_any(b, x);
    let f = split.fraction;
    let exponent_part = b.scale(split.exponent, LN_2[0]);
    let (sum, lost) = two_sum(b, exponent_part, f);
    let minus_half = b.scale(f, -0.5);
    let square_part = b.mul(minus_half, f);
    let square_lost = b.fused(Fused::MulSub, minus_half, f, square_part);
    let (sum, lost_again) = two_sum(b, sum, square_part);
    let small = b.add(lost, lost_again);
    let small = b.add(small, square_lost);
    let small = b.fma(split.exponent, Val::float(LN_2[1]), small);
    let cubic = cubic_part(b, f);
    let square = b.mul(f, f);
    let small = b.fma(cubic, square, small);
    let (high, low) = two_sum(b, sum, small);
    (at_edges(b, x, high), low)
}

/// `a + b` and its rounding error, where |a| ≥ |b| or a = 0.
fn two_sum(builder: &mut Builder, a: Val, b: Val) -> (Val, Val) {
    let sum = builder.add(a, b);
    let rounded = builder.sub(sum, a);
    (sum, builder.sub(b, rounded))
}

/// `y = ln x` with the values at 0, at infinity and below 0.
fn at_edges(b: &mut Builder, x: Val, y: Val) -> Val {
    let is_zero = b.compare(Predicate::Equal, x, ZERO);
    let y = b.blend(is_zero, NEG_INFINITY, y);
    let is_infinite = b.compare(Predicate::Equal, x, INFINITY);
    let y = b.blend(is_infinite, INFINITY, y);
    let undefined = b.compare(Predicate::NotGreaterEqual, x, ZERO);
    b.two(Lane2::Or, y, undefined)
}
