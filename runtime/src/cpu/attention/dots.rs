//! Scores of few queries: dot products along the width of a key, which is read once as a stream.
//!
//! Four keys by up to three queries have 12 sums, four vectors of keys or queries pass by. What comes next
//! is asked for meanwhile.

use super::source::{Rows, Soon};
use super::tile::LANES;
use crate::cpu::simd::{Kernel, Simd};

/// Most queries of a pass.
pub(super) const QUERIES: usize = 3;
/// Keys of a turn.
const KEYS: usize = 4;

/// `scores[key][query] = Σ q[query][i] · k[key][i]` for `R` queries.
pub(super) struct Dots<const R: usize> {
    /// `R` rows, `stride` a multiple of 16 and the elements beyond the width zeros.
    pub queries: Rows,
    /// The keys.
    pub keys: Rows,
    /// How many.
    pub count: usize,
    /// The first query's scores, [`LANES`] apart from key to key.
    pub scores: *mut f32,
    /// Rows to be asked for from memory, one of each for a key.
    pub soon: [Soon; 2],
}

impl<const R: usize> Kernel for Dots<R> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        let width = self.keys.width;
        let (whole, ragged) = (width - width % S::LANES, width % S::LANES);
        for first in (0..self.count).step_by(KEYS) {
            let present = KEYS.min(self.count - first);
            let mut sums = [[s.splat(0.0); KEYS]; R];
            // SAFETY: `Tile::scores` gives `count` keys, R queries and room for their scores. Missing
            // keys of the last turn are stood in for by the last one.
            unsafe {
                let mut keys = [self.keys.at; KEYS];
                for (i, key) in keys.iter_mut().enumerate() {
                    *key = self.keys.at.add((first + i.min(present - 1)) * self.keys.stride);
                }
                self.soon.iter().for_each(|soon| soon.ask(s, first..first + KEYS));
                for i in (0..whole).step_by(S::LANES) {
                    let mut q = [s.splat(0.0); R];
                    for r in 0..R {
                        q[r] = s.load(self.queries.at.add(r * self.queries.stride + i));
                    }
                    for j in 0..KEYS {
                        let k = s.load(keys[j].add(i));
                        for r in 0..R {
                            sums[r][j] = s.mul_add(q[r], k, sums[r][j]);
                        }
                    }
                }
                if ragged > 0 {
                    for j in 0..KEYS {
                        let k = s.load_first(keys[j].add(whole), ragged);
                        for r in 0..R {
                            let q = s.load(self.queries.at.add(r * self.queries.stride + whole));
                            sums[r][j] = s.mul_add(q, k, sums[r][j]);
                        }
                    }
                }
                for r in 0..R {
                    let dots = s.sum4(sums[r]);
                    for j in 0..present {
                        *self.scores.add((first + j) * LANES + r) = dots[j];
                    }
                }
            }
        }
    }
}
