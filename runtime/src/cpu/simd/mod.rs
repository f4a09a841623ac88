//! Vectors: kernels are written once over [`Simd`] and compiled for each instruction set.
//!
//! A kernel is a struct of its arguments with the method [`Kernel::call`], generic over the vectors
//! it uses. [`Isa::run`] enters it through a function compiled with the target's features, so the
//! generic body, always inlined, becomes that target's code. A [`Simd`] value is a token: it can be
//! had only where the processor has the instructions, hence arithmetic on vectors is safe and only
//! memory access is not. A new instruction set is a new file here and a variant of [`Isa`].
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
mod math;
mod portable;

pub use math::{exp, exp2, tanh};

use super::isa::Isa;

/// A computation that [`Isa::run`] compiles for an instruction set.
pub trait Kernel {
    /// What it gives.
    type Output;

    /// The computation. Must be `#[inline(always)]`, and so must all it calls with vectors.
    fn call<S: Simd>(self, s: S) -> Self::Output;
}

impl Isa {
    /// Executes a kernel with this instruction set, or portably where the processor lacks it.
    #[inline(always)]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[cfg(target_arch = "x86_64")]
        if self == Isa::Avx2
            && let Some(avx2) = avx2::Avx2::detect()
        {
            return avx2.run(kernel);
        }
        kernel.call(portable::Portable)
    }

    /// Rows of a matrix product, 16 columns wide, that the registers hold.
    pub fn tile_rows(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::TILE_ROWS,
            _ => portable::TILE_ROWS,
        }
    }
}

/// Elements of a vector of floats.
pub const LANES: usize = 8;

/// Operations of an instruction set on eight lanes.
///
/// The bytes of a [`Simd::Bytes`] are four to a lane: byte `4·i + j` belongs to lane `i`. Integer
/// products of bytes are summed within a lane, which is what pair-dot instructions do.
pub trait Simd: Copy {
    /// Eight f32.
    type Floats: Copy;
    /// Eight i32.
    type Ints: Copy;
    /// 32 bytes.
    type Bytes: Copy;
    /// Running sums of products of bytes, in 16 bits on some processors: how many fit is for the caller to
    /// know.
    type Pairs: Copy;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::Floats;
    /// Lanes 0, 1, … 7.
    fn iota(self) -> Self::Floats;
    /// `a + b`
    fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a - b`
    fn sub(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a · b`
    fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a / b`
    fn div(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a · b + c`, fused where the processor can.
    fn mul_add(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// `if a > b { a } else { b }`: `b` when either is NaN.
    fn max(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `if a < b { a } else { b }`: `b` when either is NaN.
    fn min(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// Magnitude.
    fn abs(self, a: Self::Floats) -> Self::Floats;
    /// Nearest integer, ties to even.
    fn round(self, a: Self::Floats) -> Self::Floats;
    /// `if a < b { x } else { y }` in each lane.
    fn if_less(self, a: Self::Floats, b: Self::Floats, x: Self::Floats, y: Self::Floats) -> Self::Floats;
    /// `2ⁿ` for integral `n` of -126 ..= 127, and 0 for -127.
    fn power_of_two(self, n: Self::Floats) -> Self::Floats;
    /// Sum of the lanes.
    fn sum(self, a: Self::Floats) -> f32;
    /// Sums of the lanes of four vectors.
    fn sum4(self, a: [Self::Floats; 4]) -> [f32; 4];
    /// Largest lane.
    fn largest(self, a: Self::Floats) -> f32;

    /// Eight f32 from memory.
    ///
    /// # Safety
    /// Reads 8 elements at `p`, unaligned.
    unsafe fn load(self, p: *const f32) -> Self::Floats;
    /// The first `n < 8` lanes from memory, the others zero.
    ///
    /// # Safety
    /// Reads `n` elements at `p`, unaligned.
    unsafe fn load_first(self, p: *const f32, n: usize) -> Self::Floats;
    /// Eight binary16 from memory, widened.
    ///
    /// # Safety
    /// Reads 8 elements at `p`, unaligned.
    unsafe fn load_f16(self, p: *const u16) -> Self::Floats;
    /// Eight bfloat16 from memory, widened.
    ///
    /// # Safety
    /// Reads 8 elements at `p`, unaligned.
    unsafe fn load_bf16(self, p: *const u16) -> Self::Floats;
    /// Eight f32 to memory.
    ///
    /// # Safety
    /// Writes 8 elements at `p`, unaligned.
    unsafe fn store(self, p: *mut f32, a: Self::Floats);
    /// Integral lanes within ±127 of four vectors as 32 signed bytes, in order.
    ///
    /// # Safety
    /// Writes 32 bytes at `p`.
    unsafe fn store_i8(self, p: *mut i8, a: [Self::Floats; 4]);
    /// Asks for the cache line of `p`; any address is allowed.
    fn prefetch(self, p: *const u8);

    /// Zeros.
    fn int_zero(self) -> Self::Ints;
    /// Conversion to f32.
    fn to_floats(self, a: Self::Ints) -> Self::Floats;
    /// 32 bytes from memory.
    ///
    /// # Safety
    /// Reads 32 bytes at `p`.
    unsafe fn load_bytes(self, p: *const u8) -> Self::Bytes;
    /// Each byte shifted by `bits` to the right, or to the left if negative, and masked. Bits that cross
    /// into a neighbouring byte must be masked out.
    fn shift_bytes(self, a: Self::Bytes, bits: i32, mask: u8) -> Self::Bytes;
    /// Bits of either.
    fn or_bytes(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    /// Each byte less `b`, wrapping.
    fn sub_bytes(self, a: Self::Bytes, b: u8) -> Self::Bytes;
    /// Zeros.
    fn pairs_zero(self) -> Self::Pairs;
    /// `sum[i] += Σ_j w[4·i + j] · x[j]` for signed bytes; the bytes of `x` lie within ±127. With `w` within
    /// ±`a`, 16 bits hold `⌊2¹⁵ / 254·a⌋` calls.
    ///
    /// # Safety
    /// Reads 4 bytes at `x`.
    unsafe fn dot_signed(self, sum: Self::Pairs, w: Self::Bytes, x: *const i8) -> Self::Pairs;
    /// As [`Simd::dot_signed`] for unsigned `w`.
    ///
    /// # Safety
    /// Reads 4 bytes at `x`.
    unsafe fn dot_unsigned(self, sum: Self::Pairs, w: Self::Bytes, x: *const i8) -> Self::Pairs;
    /// Factors of sums, 1.
    fn pairs_one(self) -> Self::Pairs;
    /// Factors of sums, one signed byte for each lane.
    ///
    /// # Safety
    /// Reads 8 bytes at `p`.
    unsafe fn load_factors(self, p: *const i8) -> Self::Pairs;
    /// `total + factor · sum`, lane by lane.
    fn add_pairs(self, total: Self::Ints, sum: Self::Pairs, factor: Self::Pairs) -> Self::Ints;
    /// Eight unsigned bytes from memory, converted.
    ///
    /// # Safety
    /// Reads 8 bytes at `p`.
    unsafe fn load_u8(self, p: *const u8) -> Self::Floats;
}

#[cfg(test)]
mod tests;
