//! Rows of activations as signed bytes, in runs of 32 with a scale each.
//!
//! `x[i] ≈ scale · q[i]` with `q` within ±127. Beside it stands `scale · Σ q`, which the minimum of a
//! weight's block multiplies: `Σ x·(d·w + m) = d·scale·Σ q·w + m·scale·Σ q`; and the same sum over the second
//! half of the run, for weights whose minima change there.

use super::Rows;
use crate::cpu::scratch::{Carver, Scratch};
use crate::cpu::simd::{Kernel, LANES, Simd};
use crate::weights::BLOCK;

/// Quantised rows in scratch.
pub(super) struct Quantised<'a> {
    /// Runs of a row.
    pub runs: usize,
    /// `[row][run][32]`
    pub bytes: &'a mut [i8],
    /// `[row][run]`
    pub scales: &'a mut [f32],
    /// `scale · Σ q`, over the run and over its second half: `[row][run][2]`
    pub totals: &'a mut [f32],
}

impl<'a> Quantised<'a> {
    /// Scratch for `rows` of so many runs.
    pub(super) fn scratch_bytes(rows: usize, runs: usize) -> usize {
        let count = rows * runs;
        Scratch::bytes_of::<i8>(count * BLOCK) + Scratch::bytes_of::<f32>(count) + Scratch::bytes_of::<f32>(2 * count)
    }

    /// Room for `rows` of so many runs.
    pub(super) fn take(rows: usize, runs: usize, scratch: &mut Carver<'a>) -> Quantised<'a> {
        let count = rows * runs;
        Quantised {
            runs,
            bytes: scratch.take(count * BLOCK),
            scales: scratch.take(count),
            totals: scratch.take(2 * count),
        }
    }
}

/// Quantises `rows` of `k` elements; what is left of the last run is filled with zeros.
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
            for run in 0..self.out.runs {
                let at = (run * BLOCK).min(self.k);
                let count = BLOCK.min(self.k - at);
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
                let index = row * self.out.runs + run;
                let bytes = &mut self.out.bytes[index * BLOCK..][..BLOCK];
                // SAFETY: source and bytes hold 32 elements.
                let (scale, [first, second]) = unsafe { quantise_run(s, source, bytes.as_mut_ptr()) };
                self.out.scales[index] = scale;
                self.out.totals[2 * index] = scale * (first + second);
                self.out.totals[2 * index + 1] = scale * second;
            }
        }
    }
}

/// Quantises 32 elements; gives the scale and the sums of the bytes of each half.
///
/// # Safety
/// Reads 32 elements at `x` and writes as many at `out`.
#[inline(always)]
unsafe fn quantise_run<S: Simd>(s: S, x: *const f32, out: *mut i8) -> (f32, [f32; 2]) {
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
        (largest / 127.0, [s.sum(s.add(q[0], q[1])), s.sum(s.add(q[2], q[3]))])
    }
}
