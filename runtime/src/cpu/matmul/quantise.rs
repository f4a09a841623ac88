//! Rows of activations as signed bytes, in blocks of 32 with a scale each.
//!
//! `x[i] ≈ scale · q[i]` with `q` within ±127. Beside it stands `scale · Σ q`, which the minimum of a
//! weight's block multiplies: `Σ x·(d·w + m) = d·scale·Σ q·w + m·scale·Σ q`.

use super::Rows;
use crate::cpu::scratch::{Carver, Scratch};
use crate::cpu::simd::{Kernel, LANES, Simd};
use crate::weights::BLOCK;

/// Quantised rows in scratch.
pub(super) struct Quantised<'a> {
    /// Blocks of a row.
    pub blocks: usize,
    /// `[row][block][32]`
    pub bytes: &'a mut [i8],
    /// `[row][block]`
    pub scales: &'a mut [f32],
    /// `scale · Σ q`, `[row][block]`
    pub totals: &'a mut [f32],
}

impl<'a> Quantised<'a> {
    /// Scratch for `rows` of `k` elements.
    pub(super) fn scratch_bytes(rows: usize, k: usize) -> usize {
        let blocks = rows * k.div_ceil(BLOCK);
        Scratch::bytes_of::<i8>(blocks * BLOCK) + 2 * Scratch::bytes_of::<f32>(blocks)
    }

    /// Room for `rows` of `k` elements.
    pub(super) fn take(rows: usize, k: usize, scratch: &mut Carver<'a>) -> Quantised<'a> {
        let blocks = k.div_ceil(BLOCK);
        Quantised {
            blocks,
            bytes: scratch.take(rows * blocks * BLOCK),
            scales: scratch.take(rows * blocks),
            totals: scratch.take(rows * blocks),
        }
    }
}

/// Quantises `rows` of `k` elements.
pub(super) struct Quantise<'q, 's> {
    pub x: Rows,
    pub rows: usize,
    pub k: usize,
    pub out: &'q mut Quantised<'s>,
}

impl Kernel for Quantise<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        for row in 0..self.rows {
            for block in 0..self.out.blocks {
                let (at, count) = (block * BLOCK, BLOCK.min(self.k - block * BLOCK));
                let mut ragged = [0.0; BLOCK];
                // SAFETY: the caller of `Matmul::run` vouches for the rows of x.
                let source = unsafe {
                    let source = self.x.at.add(row * self.x.stride + at);
                    if count == BLOCK {
                        source
                    } else {
                        ragged.as_mut_ptr().copy_from_nonoverlapping(source, count);
                        ragged.as_ptr()
                    }
                };
                let index = row * self.out.blocks + block;
                let bytes = &mut self.out.bytes[index * BLOCK..][..BLOCK];
                // SAFETY: source and bytes hold 32 elements.
                let (scale, total) = unsafe { quantise_block(s, source, bytes.as_mut_ptr()) };
                self.out.scales[index] = scale;
                self.out.totals[index] = scale * total;
            }
        }
    }
}

/// Quantises 32 elements; gives the scale and the sum of the bytes.
///
/// # Safety
/// Reads 32 elements at `x` and writes as many at `out`.
#[inline(always)]
unsafe fn quantise_block<S: Simd>(s: S, x: *const f32, out: *mut i8) -> (f32, f32) {
    // SAFETY: the caller's contract.
    unsafe {
        let x: [S::Floats; BLOCK / LANES] = [s.load(x), s.load(x.add(8)), s.load(x.add(16)), s.load(x.add(24))];
        let largest = s.max(s.max(s.abs(x[0]), s.abs(x[1])), s.max(s.abs(x[2]), s.abs(x[3])));
        let largest = s.largest(largest);
        let inverse = s.splat(if largest > 0.0 { 127.0 / largest } else { 0.0 });
        let q = x.map(
            #[inline(always)]
            |x| s.round(s.mul(x, inverse)),
        );
        s.store_i8(out, q);
        (largest / 127.0, s.sum(s.add(s.add(q[0], q[1]), s.add(q[2], q[3]))))
    }
}
