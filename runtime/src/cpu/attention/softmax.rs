//! From scores to weights: cap, bias, masks, and the running maximum and sum of each query.
//!
//! Queries are lanes, so maxima and sums need no reduction across a vector.

use super::tile::LANES;
use crate::cpu::simd::{Kernel, Simd, exp2, tanh};

/// Scores below this are those of hidden keys.
const HIDDEN: f32 = f32::MIN;

/// What is done to scores before the softmax.
pub(super) struct Shaping<'a> {
    /// What the keys are multiplied with.
    pub scales: Option<Scales>,
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

/// A number for each key, and elements from one to the next.
#[derive(Clone, Copy)]
pub(super) struct Scales {
    pub at: *const f32,
    pub stride: usize,
}

impl Scales {
    /// The number of a key on all lanes.
    ///
    /// # Safety
    /// It can be read.
    #[inline(always)]
    unsafe fn splat<S: Simd>(self, s: S, key: usize) -> S::Floats {
        // SAFETY: the caller's contract.
        s.splat(unsafe { *self.at.add(key * self.stride) })
    }
}

/// Turns the scores of up to 32 queries into weights.
pub(super) struct Weigh<'a> {
    /// `[key][32]`
    pub scores: &'a mut [f32],
    pub shaping: Shaping<'a>,
    /// What the values are multiplied with: the weights are, once they are summed.
    pub scales: Option<Scales>,
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
        let Weigh { scores, shaping, scales, queries, largest, total, rescale } = self;
        let is_plain = shaping.is_nothing();
        for lane in (0..queries).step_by(S::LANES) {
            // SAFETY: scores and bias have 32 elements a key, the others 32, of which a vector lies at `lane`;
            // scales have an element for each key.
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
                for (key, row) in scores.chunks_exact_mut(LANES).enumerate() {
                    let weight = exp2(s, s.sub(s.load(row[lane..].as_ptr()), base));
                    sum = s.add(sum, weight);
                    let scaled = scales.map_or(weight, |scales| s.mul(weight, scales.splat(s, key)));
                    s.store(row[lane..].as_mut_ptr(), scaled);
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
    /// Whether scores stay as they are.
    fn is_nothing(&self) -> bool {
        let Shaping { scales, cap, bias, mask, limits } = self;
        scales.is_none() && cap.is_none() && bias.is_none() && mask.is_none() && limits.is_none()
    }

    /// The scores of a vector of queries with one key.
    ///
    /// # Safety
    /// Scales and the mask can be read at the key, and bias and limits have a vector at `lane`.
    #[inline(always)]
    unsafe fn shape<S: Simd>(&self, s: S, key: usize, lane: usize, mut x: S::Floats) -> S::Floats {
        let hidden = s.splat(f32::NEG_INFINITY);
        // SAFETY: the caller's contract.
        unsafe {
            if let Some(scales) = self.scales {
                x = s.mul(x, scales.splat(s, key));
            }
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
