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
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod intrinsics;
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
        match self {
            Isa::Avx512 => {
                if let Some(avx512) = avx512::Avx512::detect() {
                    return avx512.run(kernel);
                }
            }
            Isa::Avx2 => {
                if let Some(avx2) = avx2::Avx2::detect() {
                    return avx2.run(kernel);
                }
            }
            Isa::Portable => {}
        }
        kernel.call(portable::Portable)
    }

    /// What differs between instruction sets and is known before a kernel runs.
    pub fn tiles(self) -> Tiles {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Tiles::of::<avx512::Avx512>(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Tiles::of::<avx2::Avx2>(),
            _ => Tiles::of::<portable::Portable>(),
        }
    }
}

/// Shapes of the register tiles of an instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiles {
    /// [`Simd::TILE_ROWS`]
    pub rows: usize,
    /// [`Simd::LANES`]
    pub lanes: usize,
    /// [`Simd::DOT_ROWS`]
    pub dot_rows: usize,
    /// [`Simd::WIDE`]
    pub wide: bool,
}

impl Tiles {
    fn of<S: Simd>() -> Tiles {
        Tiles { rows: S::TILE_ROWS, lanes: S::LANES, dot_rows: S::DOT_ROWS, wide: S::WIDE }
    }
}

/// Most elements that a vector of floats has: memory that kernels read in whole vectors is a multiple of it.
pub const MOST_LANES: usize = 16;
/// Most rows of a register tile.
pub const MOST_TILE_ROWS: usize = 12;

/// Operations of an instruction set on its vectors.
///
/// The bytes of a [`Simd::Bytes`] are four to a lane: byte `4·i + j` belongs to lane `i`. Integer
/// products of bytes are summed within a lane, which is what pair-dot instructions do.
pub trait Simd: Copy {
    /// Elements of a vector of floats: 8 or 16.
    const LANES: usize;
    /// Rows of a matrix product, two vectors wide, whose sums the registers hold.
    const TILE_ROWS: usize;
    /// Rows of a product of integers, 16 columns wide, whose sums the registers hold.
    const DOT_ROWS: usize;
    /// Whether a [`Simd::Pairs`] has 32 bits for each lane, which hold any sum.
    const WIDE: bool;

    /// f32 of all lanes.
    type Floats: Copy;
    /// i32 of all lanes.
    type Ints: Copy;
    /// Four bytes of each lane.
    type Bytes: Copy;
    /// Running sums of products of bytes. Unless they are [`Simd::WIDE`], a lane is two sums of 16 bits: how
    /// many products fit is for the caller to know.
    type Pairs: Copy;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::Floats;
    /// Lanes 0, 1, 2, …
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

    /// f32 from memory.
    ///
    /// # Safety
    /// Reads a vector at `p`, unaligned.
    unsafe fn load(self, p: *const f32) -> Self::Floats;
    /// The first `n` lanes, less than all, from memory, the others zero.
    ///
    /// # Safety
    /// Reads `n` elements at `p`, unaligned.
    unsafe fn load_first(self, p: *const f32, n: usize) -> Self::Floats;
    /// binary16 from memory, widened.
    ///
    /// # Safety
    /// Reads an element for each lane at `p`, unaligned.
    unsafe fn load_f16(self, p: *const u16) -> Self::Floats;
    /// bfloat16 from memory, widened.
    ///
    /// # Safety
    /// Reads an element for each lane at `p`, unaligned.
    unsafe fn load_bf16(self, p: *const u16) -> Self::Floats;
    /// f32 to memory.
    ///
    /// # Safety
    /// Writes a vector at `p`, unaligned.
    unsafe fn store(self, p: *mut f32, a: Self::Floats);
    /// Integral lanes within ±127 as signed bytes.
    ///
    /// # Safety
    /// Writes a byte for each lane at `p`.
    unsafe fn store_i8(self, p: *mut i8, a: Self::Floats);
    /// Asks for the cache line of `p`; any address is allowed.
    fn prefetch(self, p: *const u8);
    /// Asks for the cache line of `p`, which is needed later: into the second cache.
    fn prefetch_later(self, p: *const u8);

    /// All lanes `x`.
    fn int_splat(self, x: i32) -> Self::Ints;
    /// Conversion to f32.
    fn to_floats(self, a: Self::Ints) -> Self::Floats;
    /// Four bytes for each lane from memory.
    ///
    /// # Safety
    /// Reads as many bytes at `p`.
    unsafe fn load_bytes(self, p: *const u8) -> Self::Bytes;
    /// Each byte shifted by `bits` to the right, or to the left if negative, and masked. Bits that cross
    /// into a neighbouring byte must be masked out.
    fn shift_bytes(self, a: Self::Bytes, bits: i32, mask: u8) -> Self::Bytes;
    /// Bits of either.
    fn or_bytes(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    /// Each byte less `b`, wrapping.
    fn sub_bytes(self, a: Self::Bytes, b: u8) -> Self::Bytes;
    /// Sums that begin at `x` in each lane; at 0 unless they are [`Simd::WIDE`].
    fn pairs(self, x: i32) -> Self::Pairs;
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
    /// Factors of sums, one signed byte for each lane.
    ///
    /// # Safety
    /// Reads as many bytes at `p`.
    unsafe fn load_factors(self, p: *const i8) -> Self::Pairs;
    /// `total + factor · sum`, lane by lane; without a factor it is 1.
    fn add_pairs(self, total: Self::Ints, sum: Self::Pairs, factor: Option<Self::Pairs>) -> Self::Ints;
    /// Signed bytes from memory, one for each lane, converted.
    ///
    /// # Safety
    /// Reads as many bytes at `p`.
    unsafe fn load_i8(self, p: *const i8) -> Self::Floats;
    /// Unsigned bytes from memory, one for each lane, converted.
    ///
    /// # Safety
    /// Reads as many bytes at `p`.
    unsafe fn load_u8(self, p: *const u8) -> Self::Floats;
}

#[cfg(test)]
mod tests;
