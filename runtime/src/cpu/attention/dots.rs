//! Scores of few queries: dot products along the width of a key, which is read once as a stream.
//!
//! Four keys by up to three queries have 12 sums, four vectors of keys or queries pass by. What comes next
//! is asked for meanwhile.

use half::f16;

use super::source::{Rows, Soon};
use super::tile::LANES;
use crate::cpu::simd::{Kernel, MOST_LANES, Simd};

/// Most queries of a pass.
pub(super) const QUERIES: usize = 3;
/// Keys of a turn.
const KEYS: usize = 4;

/// Element types of keys.
pub(super) trait Key: Copy {
    /// A vector of them, as f32.
    ///
    /// # Safety
    /// Reads a vector at `p`.
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::Floats;
    /// The first `n` lanes, less than all, the others zero.
    ///
    /// # Safety
    /// Reads `n` elements at `p`.
    unsafe fn load_first<S: Simd>(s: S, p: *const Self, n: usize) -> S::Floats;
    /// One of them.
    fn wide(self) -> f32;
}

impl Key for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const f32) -> S::Floats {
        // SAFETY: the caller's contract.
        unsafe { s.load(p) }
    }
    #[inline(always)]
    unsafe fn load_first<S: Simd>(s: S, p: *const f32, n: usize) -> S::Floats {
        // SAFETY: the caller's contract.
        unsafe { s.load_first(p, n) }
    }
    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }
}

impl Key for f16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const f16) -> S::Floats {
        // SAFETY: the caller's contract.
        unsafe { s.load_f16(p.cast()) }
    }
    #[inline(always)]
    unsafe fn load_first<S: Simd>(s: S, p: *const f16, n: usize) -> S::Floats {
        let mut lanes = [0; MOST_LANES];
        // SAFETY: the caller's contract, and the lanes are a vector or more.
        unsafe {
            (0..n).for_each(|i| lanes[i] = p.cast::<u16>().add(i).read());
            s.load_f16(lanes.as_ptr())
        }
    }
    #[inline(always)]
    fn wide(self) -> f32 {
        self.to_f32()
    }
}

impl Key for i8 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const i8) -> S::Floats {
        // SAFETY: the caller's contract.
        unsafe { s.load_i8(p) }
    }
    #[inline(always)]
    unsafe fn load_first<S: Simd>(s: S, p: *const i8, n: usize) -> S::Floats {
        let mut lanes = [0; MOST_LANES];
        // SAFETY: the caller's contract, and the lanes are a vector or more.
        unsafe {
            (0..n).for_each(|i| lanes[i] = p.add(i).read());
            s.load_i8(lanes.as_ptr())
        }
    }
    #[inline(always)]
    fn wide(self) -> f32 {
        self.into()
    }
}

/// `scores[key][query] = Σ q[query][i] · k[key][i]` for `R` queries.
pub(super) struct Dots<K, const R: usize> {
    /// `R` rows, `stride` a multiple of 16 and the elements beyond the width zeros.
    pub queries: Rows<*const f32>,
    /// The keys.
    pub keys: Rows<*const K>,
    /// How many.
    pub count: usize,
    /// The first query's scores, [`LANES`] apart from key to key.
    pub scores: *mut f32,
    /// Rows to be asked for from memory, one of each for a key.
    pub soon: [Soon; 2],
}

impl<K: Key, const R: usize> Kernel for Dots<K, R> {
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
                        let k = K::load(s, keys[j].add(i));
                        for r in 0..R {
                            sums[r][j] = s.mul_add(q[r], k, sums[r][j]);
                        }
                    }
                }
                if ragged > 0 {
                    for j in 0..KEYS {
                        let k = K::load_first(s, keys[j].add(whole), ragged);
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
