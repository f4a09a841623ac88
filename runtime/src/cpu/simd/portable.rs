//! Arrays of eight lanes that the compiler vectorises for whatever it was asked to target.

use std::array::from_fn;

use super::Simd;

/// Elements of a vector.
const LANES: usize = 8;

/// Needs no instructions beyond those the crate was compiled for.
#[derive(Clone, Copy, Debug)]
pub struct Portable;

type Floats = [f32; LANES];
type Ints = [i32; LANES];

/// Lane by lane.
macro_rules! lanewise {
    ($($name:ident($($arg:ident),*) = $body:expr;)*) => {
        $(#[inline(always)]
        fn $name(self, $($arg: Floats),*) -> Floats {
            from_fn(|i| { $(let $arg = $arg[i];)* $body })
        })*
    };
}

/// `a · b + c`, fused only where that is an instruction and not a call.
#[inline(always)]
fn mul_add(a: f32, b: f32, c: f32) -> f32 {
    let fused = cfg!(any(target_feature = "fma", target_arch = "aarch64"));
    if fused { a.mul_add(b, c) } else { a * b + c }
}

/// binary16 to f32 without branches: the exponent is rebiased by a multiplication, which also
/// normalises subnormals; infinities and NaNs get the largest exponent back.
#[inline(always)]
fn widen_f16(h: u16) -> f32 {
    let magnitude = u32::from(h & 0x7fff) << 13;
    let rebias = f32::from_bits((254 - 15) << 23);
    let finite = (f32::from_bits(magnitude) * rebias).to_bits();
    let special = if magnitude >= 0x7c00 << 13 { 0xff << 23 } else { 0 };
    f32::from_bits(finite | special | u32::from(h & 0x8000) << 16)
}

/// Nearest integer, ties to even, for magnitudes below 2²²: the sum pushes the fraction out.
#[inline(always)]
fn round(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (x + SHIFT) - SHIFT
}

/// Adds to each lane the products of its four bytes.
#[inline(always)]
fn dot(sum: Ints, w: [i32; 32], x: *const i8) -> Ints {
    // SAFETY: the callers' contract is that 4 bytes can be read.
    let x = unsafe { x.cast::<[i8; 4]>().read_unaligned() }.map(i32::from);
    from_fn(|i| sum[i] + w[4 * i] * x[0] + w[4 * i + 1] * x[1] + w[4 * i + 2] * x[2] + w[4 * i + 3] * x[3])
}

impl Simd for Portable {
    const LANES: usize = LANES;
    /// 32 vector registers of 128 bits hold 4 × 16 sums, the 16 of SSE2 just so many.
    const TILE_ROWS: usize = 4;
    const DOT_ROWS: usize = 4;
    const WIDE: bool = true;

    type Floats = Floats;
    type Ints = Ints;
    type Bytes = [u8; 32];
    type Pairs = Ints;

    lanewise! {
        add(a, b) = a + b;
        sub(a, b) = a - b;
        mul(a, b) = a * b;
        div(a, b) = a / b;
        mul_add(a, b, c) = mul_add(a, b, c);
        max(a, b) = if a > b { a } else { b };
        min(a, b) = if a < b { a } else { b };
        abs(a) = a.abs();
        round(a) = round(a);
        if_less(a, b, x, y) = if a < b { x } else { y };
        power_of_two(n) = f32::from_bits(((n as i32 + 127) as u32) << 23);
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Floats {
        [x; LANES]
    }

    #[inline(always)]
    fn iota(self) -> Floats {
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    }

    #[inline(always)]
    fn sum(self, a: Floats) -> f32 {
        let half: [f32; 4] = from_fn(|i| a[i] + a[i + 4]);
        (half[0] + half[2]) + (half[1] + half[3])
    }

    #[inline(always)]
    fn sum4(self, a: [Floats; 4]) -> [f32; 4] {
        a.map(|a| self.sum(a))
    }

    #[inline(always)]
    fn largest(self, a: Floats) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, |x, y| if y > x { y } else { x })
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Floats {
        // SAFETY: the caller's contract.
        unsafe { p.cast::<Floats>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize) -> Floats {
        // SAFETY: the caller's contract; only the first `n` are read.
        from_fn(|i| if i < n { unsafe { p.add(i).read_unaligned() } } else { 0.0 })
    }

    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> Floats {
        // SAFETY: the caller's contract.
        unsafe { p.cast::<[u16; LANES]>().read_unaligned() }.map(widen_f16)
    }

    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u16) -> Floats {
        // SAFETY: the caller's contract.
        let bits = unsafe { p.cast::<[u16; LANES]>().read_unaligned() };
        bits.map(|h| f32::from_bits(u32::from(h) << 16))
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, a: Floats) {
        // SAFETY: the caller's contract.
        unsafe { p.cast::<Floats>().write_unaligned(a) }
    }

    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, a: Floats) {
        // SAFETY: the caller's contract.
        unsafe { p.cast::<[i8; LANES]>().write_unaligned(a.map(|x| x as i32 as i8)) }
    }

    #[inline(always)]
    fn prefetch(self, _: *const u8) {}

    #[inline(always)]
    fn prefetch_later(self, _: *const u8) {}

    #[inline(always)]
    fn int_splat(self, x: i32) -> Ints {
        [x; LANES]
    }

    #[inline(always)]
    fn to_floats(self, a: Ints) -> Floats {
        a.map(|x| x as f32)
    }

    #[inline(always)]
    unsafe fn load_bytes(self, p: *const u8) -> [u8; 32] {
        // SAFETY: the caller's contract.
        unsafe { p.cast::<[u8; 32]>().read_unaligned() }
    }

    #[inline(always)]
    fn shift_bytes(self, a: [u8; 32], bits: i32, mask: u8) -> [u8; 32] {
        if bits > 0 { a.map(|b| b >> bits & mask) } else { a.map(|b| b << -bits & mask) }
    }

    #[inline(always)]
    fn or_bytes(self, a: [u8; 32], b: [u8; 32]) -> [u8; 32] {
        from_fn(|i| a[i] | b[i])
    }

    #[inline(always)]
    fn sub_bytes(self, a: [u8; 32], b: u8) -> [u8; 32] {
        a.map(|a| a.wrapping_sub(b))
    }

    #[inline(always)]
    fn pairs(self, x: i32) -> Ints {
        [x; LANES]
    }

    #[inline(always)]
    unsafe fn dot_signed(self, sum: Ints, w: [u8; 32], x: *const i8) -> Ints {
        dot(sum, w.map(|b| i32::from(b as i8)), x)
    }

    #[inline(always)]
    unsafe fn dot_unsigned(self, sum: Ints, w: [u8; 32], x: *const i8) -> Ints {
        dot(sum, w.map(i32::from), x)
    }

    #[inline(always)]
    unsafe fn load_factors(self, p: *const i8) -> Ints {
        // SAFETY: the caller's contract.
        unsafe { p.cast::<[i8; LANES]>().read_unaligned() }.map(i32::from)
    }

    #[inline(always)]
    fn add_pairs(self, total: Ints, sum: Ints, factor: Option<Ints>) -> Ints {
        let factor = factor.unwrap_or([1; LANES]);
        from_fn(|i| total[i] + factor[i] * sum[i])
    }

    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8) -> Floats {
        // SAFETY: the caller's contract.
        unsafe { p.cast::<[i8; LANES]>().read_unaligned() }.map(f32::from)
    }

    #[inline(always)]
    unsafe fn load_u8(self, p: *const u8) -> Floats {
        // SAFETY: the caller's contract.
        unsafe { p.cast::<[u8; LANES]>().read_unaligned() }.map(f32::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_is_widened_exactly() {
        for bits in 0..=u16::MAX {
            let (ours, reference) = (widen_f16(bits), half::f16::from_bits(bits).to_f32());
            assert!(ours == reference && ours.is_sign_negative() == reference.is_sign_negative() || reference.is_nan());
            assert_eq!(ours.is_nan(), reference.is_nan(), "{bits:#x}");
        }
    }
}
