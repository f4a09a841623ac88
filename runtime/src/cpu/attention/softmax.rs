//! From scores to weights: cap, bias, masks, and the running maximum and sum of each query.
//!
//! Queries are lanes, so maxima and sums need no reduction across a vector.

use super::tile::LANES;
use crate::cpu::simd::{Kernel, Simd, exp2, tanh};

/// Scores below this are those of hidden keys.
const HIDDEN: f32 = f32::MIN;

/// What is done to scores before the softmax.
pub(super) struct Shaping<'a> {
    /// Scores become `cap · tanh score`.
    pub cap: Option<f32>,
    /// Added, laid out as the scores.
    pub bias: Option<&'a [f32]>,
    /// A key of 0 is hidden; elements from key to key.
    pub mask: Option<(*const i32, usize)>,
    /// Number of the first key, and each query's first visible key and the end of them, if some query
    /// does not see all.
    pub limits: Option<(usize, &'a [f32], &'a [f32])>,
}

/// Turns the scores of up to 32 queries into weights.
pub(super) struct Weigh<'a> {
    /// `[key][32]`
    pub scores: &'a mut [f32],
    pub shaping: Shaping<'a>,
    /// How many queries.
    pub queries: usize,
    /// Largest score of each query so far.
    pub largest: &'a mut [f32],
    /// Sum of its weights so far.
    pub total: &'a mut [f32],
    /// Gets the factor that what was summed before is to be multiplied with.
    pub rescale: &'a mut [f32],
}

impl Kernel for Weigh<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        let Weigh { scores, shaping, queries, largest, total, rescale } = self;
        let is_plain =
            shaping.cap.is_none() && shaping.bias.is_none() && shaping.mask.is_none() && shaping.limits.is_none();
        for lane in (0..queries).step_by(S::LANES) {
            // SAFETY: scores and bias have 32 elements a key, the others 32, of which a vector lies at `lane`.
            unsafe {
                let before = s.load(largest[lane..].as_ptr());
                let mut top = before;
                for (key, row) in scores.chunks_exact_mut(LANES).enumerate() {
                    let mut x = s.load(row[lane..].as_ptr());
                    if !is_plain {
                        x = shaping.shape(s, key, lane, x);
                        s.store(row[lane..].as_mut_ptr(), x);
                    }
                    top = s.max(x, top);
                }
                // Before a query sees a key, -∞ is no number to subtract.
                let base = s.if_less(top, s.splat(HIDDEN), s.splat(0.0), top);
                let factor = exp2(s, s.sub(before, base));
                let mut sum = s.splat(0.0);
                for row in scores.chunks_exact_mut(LANES) {
                    let weight = exp2(s, s.sub(s.load(row[lane..].as_ptr()), base));
                    s.store(row[lane..].as_mut_ptr(), weight);
                    sum = s.add(sum, weight);
                }
                s.store(largest[lane..].as_mut_ptr(), top);
                s.store(rescale[lane..].as_mut_ptr(), factor);
                let sum = s.mul_add(s.load(total[lane..].as_ptr()), factor, sum);
                s.store(total[lane..].as_mut_ptr(), sum);
            }
        }
    }
}

impl Shaping<'_> {
    /// The scores of a vector of queries with one key.
    ///
    /// # Safety
    /// The mask can be read at the key, and bias and limits have a vector at `lane`.
    #[inline(always)]
    unsafe fn shape<S: Simd>(&self, s: S, key: usize, lane: usize, mut x: S::Floats) -> S::Floats {
        let hidden = s.splat(f32::NEG_INFINITY);
        // SAFETY: the caller's contract.
        unsafe {
            if let Some(cap) = self.cap {
                x = s.mul(tanh(s, x), s.splat(cap));
            }
            if let Some(bias) = self.bias {
                x = s.add(x, s.load(bias[key * LANES + lane..].as_ptr()));
            }
            if let Some((first, begin, end)) = self.limits {
                let at = s.splat((first + key) as f32);
                x = s.if_less(at, s.load(begin[lane..].as_ptr()), hidden, x);
                x = s.if_less(at, s.load(end[lane..].as_ptr()), x, hidden);
            }
            if let Some((mask, stride)) = self.mask
                && *mask.add(key * stride) == 0
            {
                x = hidden;
            }
        }
        x
    }
}

/// Multiplies rows with a factor each.
pub(super) struct Rescale<'a> {
    /// Rows of `width`, a multiple of 16.
    pub rows: &'a mut [f32],
    pub width: usize,
    pub factors: &'a [f32],
}

impl Kernel for Rescale<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        for (row, &factor) in self.rows.chunks_exact_mut(self.width).zip(self.factors) {
            if factor != 1.0 {
                for part in row.chunks_exact_mut(S::LANES) {
                    // SAFETY: the part has an element for each lane.
                    unsafe { s.store(part.as_mut_ptr(), s.mul(s.load(part.as_ptr()), s.splat(factor))) };
                }
            }
        }
    }
}
