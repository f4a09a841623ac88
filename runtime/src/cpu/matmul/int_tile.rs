//! The microkernel of quantised weights: `R` rows of bytes by one panel of 16 columns.
//!
//! ```text
//!   panel block:  scales │ minima │ octet 0: vectors of 8 columns × 4 k │ octet 1
//!   x block:      32 bytes of each row; 4 of them are broadcast to every column of a vector
//!
//!   registers (AVX2, 4 rows, per octet):  8 f32 sums · 4 integer sums · w, |w| · x · 1
//! ```
//!
//! Bytes are multiplied in pairs (`maddubs`), one vector instruction for 32 products. Nibbles are
//! small enough that their pairs are summed in 16 bits over the whole block.
//!
//! Share of the integer peak (394 GOP/s on two threads) with many rows: see
//! `cargo run --release -p castiron-runtime --example kernel_peak -- matmul`.

use std::hint::black_box;
use std::marker::PhantomData;

use half::f16;

use super::quantise::Quantised;
use crate::cpu::simd::{Kernel, LANES, Simd};
use crate::weights::{BLOCK, PANEL};

/// Rows of a tile.
pub(super) const TILE_ROWS: usize = 4;
/// Bytes between the weights in use and those asked for from memory.
const AHEAD: usize = 2048;
/// Bytes of a vector.
const VECTOR: usize = 4 * LANES;

/// A quantised encoding, as the kernel sees it.
pub(super) trait Format {
    /// f16 numbers of a column's block.
    const PARAMS: usize;
    /// Vectors of an octet's block.
    const VECTORS: usize;

    /// What a block adds for each unit of `x`, from its scale and the place of the minima.
    ///
    /// # Safety
    /// Reads 8 f16 at `minima` if the format has them.
    unsafe fn minimum<S: Simd>(s: S, scale: S::Floats, minima: *const u16) -> Option<S::Floats>;

    /// Integer dots of the vectors at `w` with the blocks of bytes at `x`.
    ///
    /// # Safety
    /// Reads [`Format::VECTORS`] vectors at `w` and 32 bytes at each `x`.
    unsafe fn dot<S: Simd, const R: usize>(s: S, w: *const u8, x: [*const i8; R]) -> [S::Ints; R];
}

/// `d · q`
pub(super) struct Q8_0;
/// `d · (q - 8)`
pub(super) struct Q4_0;
/// `d · q + m`
pub(super) struct Q4_1;

impl Format for Q8_0 {
    const PARAMS: usize = 1;
    const VECTORS: usize = BLOCK / 4;

    #[inline(always)]
    unsafe fn minimum<S: Simd>(_: S, _: S::Floats, _: *const u16) -> Option<S::Floats> {
        None
    }

    #[inline(always)]
    unsafe fn dot<S: Simd, const R: usize>(s: S, w: *const u8, x: [*const i8; R]) -> [S::Ints; R] {
        let mut sums = [s.int_zero(); R];
        // Unrolled, the compiler takes row after row, and spills the vectors that rows share.
        for vector in 0..black_box(Self::VECTORS) {
            // SAFETY: the caller's contract.
            unsafe {
                let w = s.load_bytes(w.add(VECTOR * vector));
                for r in 0..R {
                    sums[r] = s.dot_signed(sums[r], w, x[r].add(4 * vector));
                }
            }
        }
        sums
    }
}

/// Integer dots of nibbles: byte `i` of a column holds elements `i` and `i + 16`.
///
/// # Safety
/// Reads 4 vectors at `w` and 32 bytes at each `x`.
#[inline(always)]
unsafe fn dot_nibbles<S: Simd, const R: usize>(s: S, w: *const u8, x: [*const i8; R]) -> [S::Ints; R] {
    let mut sums = [s.pairs_zero(); R];
    for vector in 0..BLOCK / 8 {
        // SAFETY: the caller's contract.
        unsafe {
            let w = s.load_bytes(w.add(VECTOR * vector));
            let (low, high) = (s.low_nibbles(w), s.high_nibbles(w));
            for r in 0..R {
                sums[r] = s.dot_nibbles(sums[r], low, x[r].add(4 * vector));
                sums[r] = s.dot_nibbles(sums[r], high, x[r].add(4 * vector + BLOCK / 2));
            }
        }
    }
    sums.map(
        #[inline(always)]
        |sum| s.pairs_total(sum),
    )
}

impl Format for Q4_0 {
    const PARAMS: usize = 1;
    const VECTORS: usize = BLOCK / 8;

    #[inline(always)]
    unsafe fn minimum<S: Simd>(s: S, scale: S::Floats, _: *const u16) -> Option<S::Floats> {
        Some(s.mul(scale, s.splat(-8.0)))
    }

    #[inline(always)]
    unsafe fn dot<S: Simd, const R: usize>(s: S, w: *const u8, x: [*const i8; R]) -> [S::Ints; R] {
        // SAFETY: the caller's contract.
        unsafe { dot_nibbles(s, w, x) }
    }
}

impl Format for Q4_1 {
    const PARAMS: usize = 2;
    const VECTORS: usize = BLOCK / 8;

    #[inline(always)]
    unsafe fn minimum<S: Simd>(s: S, _: S::Floats, minima: *const u16) -> Option<S::Floats> {
        // SAFETY: the caller's contract.
        Some(unsafe { s.load_f16(minima) })
    }

    #[inline(always)]
    unsafe fn dot<S: Simd, const R: usize>(s: S, w: *const u8, x: [*const i8; R]) -> [S::Ints; R] {
        // SAFETY: the caller's contract.
        unsafe { dot_nibbles(s, w, x) }
    }
}

/// Rows `first .. first + R` of `x` by a panel; the sums go to `out`, `stride` apart.
pub(super) struct IntTile<'a, F, const R: usize> {
    pub format: PhantomData<F>,
    pub x: &'a Quantised<'a>,
    pub first: usize,
    pub panel: *const u8,
    pub out: *mut f32,
    pub stride: usize,
}

impl<F: Format, const R: usize> Kernel for IntTile<'_, F, R> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        let blocks = self.x.blocks;
        let params = PANEL * F::PARAMS * size_of::<f16>();
        let size = params + 2 * F::VECTORS * VECTOR;
        let row = |r: usize| (self.first + r) * blocks;
        let mut sums = [[s.splat(0.0); 2]; R];
        // SAFETY: the panel has `blocks` blocks, x has `blocks` for each row, and `out` 16 columns
        // for each, as `Matmul::run_quantised` arranges.
        unsafe {
            let x: [*const i8; R] = std::array::from_fn(
                #[inline(always)]
                |r| self.x.bytes.as_ptr().add(row(r) * BLOCK),
            );
            for block in 0..blocks {
                let panel = self.panel.add(block * size);
                for line in 0..size.div_ceil(64) {
                    s.prefetch(panel.wrapping_add(AHEAD + 64 * line));
                }
                for octet in 0..2 {
                    let param = panel.cast::<u16>().add(octet * LANES);
                    let scale = s.load_f16(param);
                    let minimum = F::minimum(s, scale, param.add(PANEL));
                    let w = panel.add(params + octet * F::VECTORS * VECTOR);
                    let dots = F::dot::<S, R>(
                        s,
                        w,
                        x.map(
                            #[inline(always)]
                            |x| x.add(block * BLOCK),
                        ),
                    );
                    for r in 0..R {
                        let scale = s.mul(scale, s.splat(*self.x.scales.as_ptr().add(row(r) + block)));
                        let sum = &mut sums[r][octet];
                        *sum = s.mul_add(scale, s.to_floats(dots[r]), *sum);
                        if let Some(minimum) = minimum {
                            *sum = s.mul_add(minimum, s.splat(*self.x.totals.as_ptr().add(row(r) + block)), *sum);
                        }
                    }
                }
            }
            for r in 0..R {
                s.store(self.out.add(r * self.stride), sums[r][0]);
                s.store(self.out.add(r * self.stride + LANES), sums[r][1]);
            }
        }
    }
}
