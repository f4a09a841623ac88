//! Rows of activations as signed bytes, in runs of 32 with a scale each.
//!
//! `x[i] ≈ scale · q[i]` with `q` within ±127. Beside it stands what a weight's block adds to its dots:
//! - for a minimum `m`, `scale · Σ q`, since `Σ x·(d·w + m) = d·scale·Σ q·w + m·scale·Σ q`;
//! - for a zero point `z` that is left in the integers, `-z · Σ q`;
//!
//! each over the run, and over parts of it for weights whose scales or minima change within.

use super::Rows;
use crate::cpu::scratch::{Carver, Scratch};
use crate::cpu::simd::{Kernel, Simd};
use crate::weights::BLOCK;

/// Quantised rows in scratch. Rows of one run stand together, so that a tile of them has one address.
pub(super) struct Quantised<'a> {
    /// Runs of a row.
    pub runs: usize,
    /// Rows that there is room for.
    pub rows: usize,
    /// `[run][row][32]`
    pub bytes: &'a mut [i8],
    /// `[run][row]`
    pub scales: &'a mut [f32],
    /// `scale · Σ q`, over the run and over its second half: `[run][row][2]`
    pub totals: &'a mut [f32],
    /// `-zero · Σ q`, over the run, or over each half of it: `[run][row][2]`
    pub offsets: &'a mut [i32],
}

impl<'a> Quantised<'a> {
    /// Scratch for `rows` of so many runs.
    pub(super) fn scratch_bytes(rows: usize, runs: usize) -> usize {
        let count = rows * runs;
        Scratch::bytes_of::<i8>(count * BLOCK)
            + Scratch::bytes_of::<f32>(count)
            + Scratch::bytes_of::<f32>(2 * count)
            + Scratch::bytes_of::<i32>(2 * count)
    }

    /// Room for `rows` of so many runs.
    pub(super) fn take(rows: usize, runs: usize, scratch: &mut Carver<'a>) -> Quantised<'a> {
        let count = rows * runs;
        Quantised {
            runs,
            rows,
            bytes: scratch.take(count * BLOCK),
            scales: scratch.take(count),
            totals: scratch.take(2 * count),
            offsets: scratch.take(2 * count),
        }
    }

    /// Number of a row's run.
    #[inline(always)]
    pub(super) fn index(&self, run: usize, row: usize) -> usize {
        run * self.rows + row
    }
}

/// Quantises `rows` of `k` elements; what is left of the last run is filled with zeros.
pub(super) struct Quantise<'q, 's, R> {
    pub x: Rows,
    /// Number of each row.
    pub row: R,
    pub rows: usize,
    pub k: usize,
    /// The zero point that kernels leave in the integers.
    pub zero: i32,
    /// Whether scales change within a run.
    pub is_halved: bool,
    pub out: &'q mut Quantised<'s>,
}

impl<R: Fn(usize) -> usize> Kernel for Quantise<'_, '_, R> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        for row in 0..self.rows {
            let start = (self.row)(row) * self.x.stride;
            for run in 0..self.out.runs {
                let at = (run * BLOCK).min(self.k);
                let count = BLOCK.min(self.k - at);
                let mut ragged = [0.0; BLOCK];
                // SAFETY: the caller of `Matmul::run` vouches for the rows of x.
                let source = unsafe {
                    let source = self.x.at.add(start + at);
                    if count == BLOCK {
                        source
                    } else {
                        ragged.as_mut_ptr().copy_from_nonoverlapping(source, count);
                        ragged.as_ptr()
                    }
                };
                let index = self.out.index(run, row);
                let bytes = &mut self.out.bytes[index * BLOCK..][..BLOCK];
                // SAFETY: source and bytes hold 32 elements.
                let (scale, [first, second]) = unsafe { quantise_run(s, source, bytes.as_mut_ptr()) };
                self.out.scales[index] = scale;
                self.out.totals[2 * index] = scale * (first + second);
                self.out.totals[2 * index + 1] = scale * second;
                let rest = if self.is_halved { 0 } else { second as i32 };
                self.out.offsets[2 * index] = -self.zero * (first as i32 + rest);
                self.out.offsets[2 * index + 1] = -self.zero * second as i32;
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
        let mut largest = s.splat(0.0);
        for i in (0..BLOCK).step_by(S::LANES) {
            largest = s.max(s.abs(s.load(x.add(i))), largest);
        }
        let largest = s.largest(largest);
        let inverse = s.splat(if largest > 0.0 { 127.0 / largest } else { 0.0 });
        let mut sums = [s.splat(0.0); 2];
        for i in (0..BLOCK).step_by(S::LANES) {
            let q = s.round(s.mul(s.load(x.add(i)), inverse));
            s.store_i8(out.add(i), q);
            sums[2 * i / BLOCK] = s.add(sums[2 * i / BLOCK], q);
        }
        (largest / 127.0, [s.sum(sums[0]), s.sum(sums[1])])
    }
}
