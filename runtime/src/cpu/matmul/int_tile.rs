//! The microkernel of quantised weights: `R` rows of bytes by one panel of 16 columns.
//!
//! ```text
//!   panel block:  d │ m │ scales │ minima │ runs of 32 k: octet 0: vectors of 8 columns × 4 k │ octet 1
//!   x run:        32 bytes of each row; 4 of them are broadcast to every column of a vector
//!
//!   registers (AVX2, 4 rows, per octet):  8 f32 sums · 4 integer sums · w, |w| · x · factor
//! ```
//!
//! Bytes are multiplied in pairs (`maddubs`), one vector instruction for 32 products, and summed in 16 bits
//! as long as these hold the sums; the step to 32 bits multiplies by the scale of the group, too.
//!
//! Share of the integer peak (394 GOP/s on two threads) with many rows: see
//! `cargo run --release -p castiron-runtime --example kernel_peak -- matmul`.

use std::hint::black_box;
use std::marker::PhantomData;

use super::quantise::Quantised;
use crate::cpu::simd::{Kernel, LANES, Simd};
use crate::weights::{BLOCK, Encoding, Layout, PANEL};

/// Rows of a tile.
pub(super) const TILE_ROWS: usize = 4;
/// Bytes between the weights in use and those asked for from memory.
const AHEAD: usize = 2048;
/// Bytes of a vector.
const VECTOR: usize = 4 * LANES;
/// Steps of a run: a vector has 4 elements of each half of it.
const STEPS: usize = BLOCK / 8;

/// A quantised encoding, as the kernel sees it.
pub(super) trait Format {
    const LAYOUT: Layout;
    /// How the zero point is taken into account.
    const ZERO: Zero = match Self::LAYOUT {
        Layout { zero: 0, .. } => Zero::None,
        Layout { is_scaled: true, .. } => Zero::Bytes,
        _ => Zero::Minimum,
    };
    /// Steps whose sums 16 bits hold.
    const STEPS: usize = {
        let most = match Self::ZERO {
            _ if Self::LAYOUT.is_signed() => 128,
            Zero::Bytes => Self::LAYOUT.zero as usize,
            _ => (1 << Self::LAYOUT.bits()) - 1,
        };
        (1 << 15) / (2 * 127 * most + 1)
    };
}

/// How the zero point is taken into account.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Zero {
    /// There is none.
    None,
    /// Taken from each byte.
    Bytes,
    /// As a minimum, `-zero·d`.
    Minimum,
}

/// Declares a type for each encoding.
macro_rules! formats {
    ($($name:ident)*) => {
        $(pub(super) struct $name;

        impl Format for $name {
            const LAYOUT: Layout = match Layout::of(Encoding::$name) {
                Some(layout) => layout,
                None => panic!("a quantised encoding"),
            };
        })*
    };
}

formats! { Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2K Q3K Q4K Q5K Q6K Q8S }

/// Integer dots, multiplied by the scales of their groups, of the vectors of an octet at `w` with the runs
/// of bytes at `x`.
///
/// # Safety
/// Reads [`Layout::bits`] vectors at `w`, 32 bytes at each `x`, and, if groups are scaled, 8 bytes for each
/// group of the run at `scales`, which are 16 bytes apart.
#[inline(always)]
unsafe fn dot<S: Simd, F: Format, const R: usize>(
    s: S,
    w: *const u8,
    scales: *const i8,
    x: [*const i8; R],
) -> [S::Ints; R] {
    let mut totals = [s.int_zero(); R];
    let mut sums = [s.pairs_zero(); R];
    // SAFETY: the caller's contract.
    unsafe {
        if F::LAYOUT.is_signed() {
            let factor = factor::<S, F>(s, scales, 0);
            // Unrolled, the compiler takes row after row, and spills the vectors that rows share.
            for vector in 0..black_box(2 * STEPS) {
                let w = s.load_bytes(w.add(VECTOR * vector));
                for r in 0..R {
                    let pairs = s.dot_signed(s.pairs_zero(), w, x[r].add(4 * vector));
                    totals[r] = s.add_pairs(totals[r], pairs, factor);
                }
            }
            return totals;
        }
        let mut held = 0;
        for half in 0..2 {
            for step in 0..STEPS {
                let w = integers::<S, F>(s, w, step, half);
                for r in 0..R {
                    let x = x[r].add(BLOCK / 2 * half + 4 * step);
                    sums[r] = match F::ZERO {
                        Zero::Bytes => s.dot_signed(sums[r], w, x),
                        Zero::None | Zero::Minimum => s.dot_unsigned(sums[r], w, x),
                    };
                }
                held += 1;
                let is_last = step + 1 == STEPS && (half == 1 || F::LAYOUT.group == BLOCK / 2);
                if is_last || held == F::STEPS {
                    let factor = factor::<S, F>(s, scales, half);
                    for r in 0..R {
                        totals[r] = s.add_pairs(totals[r], sums[r], factor);
                        sums[r] = s.pairs_zero();
                    }
                    held = 0;
                }
            }
        }
    }
    totals
}

/// What the sums of a half of a run are multiplied by.
///
/// # Safety
/// As [`dot`].
#[inline(always)]
unsafe fn factor<S: Simd, F: Format>(s: S, scales: *const i8, half: usize) -> S::Pairs {
    match F::LAYOUT {
        Layout { is_scaled: false, .. } => s.pairs_one(),
        // SAFETY: the caller's contract.
        Layout { group, .. } => unsafe { s.load_factors(scales.add(16 * half / group * PANEL)) },
    }
}

/// The integers of four elements of each column, as bytes.
///
/// # Safety
/// As [`dot`].
#[inline(always)]
unsafe fn integers<S: Simd, F: Format>(s: S, w: *const u8, step: usize, half: usize) -> S::Bytes {
    let mut at = w;
    let mut integers = None;
    for plane in F::LAYOUT.planes {
        let (vector, bit) = plane.place(step, half);
        // SAFETY: the caller's contract.
        let bytes = unsafe { s.load_bytes(at.add(VECTOR * vector)) };
        let bits = s.shift_bytes(bytes, bit as i32 - plane.at as i32, plane.mask() << plane.at);
        integers = Some(match integers {
            Some(low) => s.or_bytes(low, bits),
            None => bits,
        });
        at = at.wrapping_add(VECTOR * plane.bits);
    }
    let integers = integers.expect("integers have bits");
    if F::ZERO == Zero::Bytes { s.sub_bytes(integers, F::LAYOUT.zero) } else { integers }
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
        let runs = F::LAYOUT.span / BLOCK;
        let mut sums = [[s.splat(0.0); 2]; R];
        // SAFETY: the panel and x have as many runs for each column and row, and `out` 16 columns
        // for each, as `Matmul::run_quantised` arranges.
        unsafe {
            for block in 0..self.x.runs / runs {
                let panel = self.panel.add(block * F::LAYOUT.bytes());
                for line in 0..F::LAYOUT.bytes().div_ceil(64 * runs) {
                    s.prefetch(panel.wrapping_add(AHEAD + 64 * line));
                }
                for run in 0..runs {
                    for octet in 0..2 {
                        self.add_run(s, panel, (block * runs + run, run), octet, &mut sums);
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

impl<F: Format, const R: usize> IntTile<'_, F, R> {
    /// Adds the products of a run of 32 elements, given its number in x and in the panel's block.
    ///
    /// # Safety
    /// As [`Kernel::call`]: the block at `panel` and x have that run.
    #[inline(always)]
    unsafe fn add_run<S: Simd>(
        &self,
        s: S,
        panel: *const u8,
        (x_run, run): (usize, usize),
        octet: usize,
        sums: &mut [[S::Floats; 2]; R],
    ) {
        let (layout, group) = (F::LAYOUT, run * BLOCK / F::LAYOUT.group);
        let row = |r: usize| (self.first + r) * self.x.runs + x_run;
        // SAFETY: the caller's contract.
        unsafe {
            let x: [*const i8; R] = std::array::from_fn(
                #[inline(always)]
                |r| self.x.bytes.as_ptr().add(row(r) * BLOCK),
            );
            let own = panel.cast::<u16>().add(octet * LANES);
            let d = s.load_f16(own);
            let scales = panel.add(layout.scale(group) + octet * LANES).cast();
            let dots = dot::<S, F, R>(s, panel.add(layout.integers(run, octet)), scales, x);
            for r in 0..R {
                let scale = s.mul(d, s.splat(*self.x.scales.as_ptr().add(row(r))));
                sums[r][octet] = s.mul_add(scale, s.to_floats(dots[r]), sums[r][octet]);
            }
            if F::ZERO == Zero::Minimum {
                let minimum = s.mul(d, s.splat(-f32::from(layout.zero)));
                self.add_minimum(s, minimum, 2 * x_run, octet, sums);
            }
            if layout.has_minimum {
                let m = s.load_f16(own.add(PANEL));
                if !layout.is_scaled {
                    return self.add_minimum(s, m, 2 * x_run, octet, sums);
                }
                let minima = panel.add(layout.minimum(group) + octet * LANES);
                let first = s.mul(m, s.load_u8(minima));
                self.add_minimum(s, first, 2 * x_run, octet, sums);
                if layout.group < BLOCK {
                    let second = s.mul(m, s.load_u8(minima.add(PANEL)));
                    self.add_minimum(s, s.sub(second, first), 2 * x_run + 1, octet, sums);
                }
            }
        }
    }

    /// Adds the products of a minimum with a total of each row, given the number of the total.
    ///
    /// # Safety
    /// x has that total.
    #[inline(always)]
    unsafe fn add_minimum<S: Simd>(
        &self,
        s: S,
        minimum: S::Floats,
        total: usize,
        octet: usize,
        sums: &mut [[S::Floats; 2]; R],
    ) {
        for r in 0..R {
            // SAFETY: the caller's contract.
            let total = unsafe { *self.x.totals.as_ptr().add(2 * (self.first + r) * self.x.runs + total) };
            sums[r][octet] = s.mul_add(minimum, s.splat(total), sums[r][octet]);
        }
    }
}
