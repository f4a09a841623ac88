//! The microkernel of quantised weights: `R` rows of bytes by one panel of 16 columns.
//!
//! ```text
//!   panel block:  d │ m │ scales │ minima │ runs of 32 k: vectors of 16 columns × 4 k
//!   x run:        32 bytes of each row; 4 of them are broadcast to every column of a vector
//!
//!   registers (AVX2, 4 rows, 8 columns at a time):  8 f32 sums · 4 integer sums · w, |w| · x · factor
//!   registers (AVX-512, 8 rows):                    8 f32 sums · 8 integer sums · w · factor
//! ```
//!
//! With sums of 32 bits (VNNI) a vector instruction adds 64 products to them; weights are taken as unsigned, and
//! sums begin with what that adds too much. Without, bytes are multiplied in pairs (`maddubs`), 32 products for
//! an instruction, and summed in 16 bits as long as these hold the sums; the step to 32 bits multiplies by the
//! scale of the group, too.
//!
//! Figures: `cargo run --release -p castiron-runtime --example kernel_peak -- matmul`.

use std::hint::black_box;
use std::marker::PhantomData;

use super::quantise::Quantised;
use crate::cpu::simd::{Kernel, Simd};
use crate::weights::{BLOCK, Encoding, Layout, PANEL, VECTOR};

/// Bytes between the weights in use and those asked for from memory.
const AHEAD: usize = 2048;
/// Steps of a run: a vector has 4 elements of each half of it.
const STEPS: usize = BLOCK / 8;

/// A quantised encoding, as the kernel sees it.
pub(super) trait Format {
    const LAYOUT: Layout;
    /// Whether the zero point is taken from each byte, where sums have 16 bits.
    const IS_SHIFTED: bool = Self::LAYOUT.is_scaled && Self::LAYOUT.zero > 0;
    /// Steps whose sums 16 bits hold.
    const STEPS: usize = {
        let most = match Self::LAYOUT {
            layout if layout.is_signed() => 128,
            layout if Self::IS_SHIFTED => layout.zero as usize,
            layout => (1 << layout.bits()) - 1,
        };
        (1 << 15) / (2 * 127 * most + 1)
    };
}

/// The zero point that stays in the integers that are multiplied, given whether sums are wide.
pub(super) const fn zero_in_dots(layout: &Layout, wide: bool) -> i32 {
    match wide {
        true if layout.is_signed() => 128,
        false if layout.is_scaled => 0,
        _ => layout.zero as i32,
    }
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

/// A run of 32 elements of some columns, and of some rows of x.
#[derive(Clone, Copy)]
struct Run {
    /// The vectors of these columns.
    weights: *const u8,
    /// The scales of the run's groups.
    scales: *const i8,
    /// The bytes of the rows, 32 of each.
    x: *const i8,
    /// What their sums begin with, two of each.
    offsets: *const i32,
}

/// Integer dots of a run, multiplied by the scales of their groups.
///
/// # Safety
/// Reads [`Layout::bits`] vectors of four bytes a lane, [`VECTOR`] apart, `R` rows of x, and, if groups are
/// scaled, a byte a lane for each group of the run, 16 apart.
#[inline(always)]
unsafe fn dot<S: Simd, F: Format, const R: usize>(s: S, run: &Run) -> [S::Ints; R] {
    // SAFETY: the caller's contract.
    unsafe {
        match S::WIDE {
            true => dot_wide::<S, F, R>(s, run),
            false if F::LAYOUT.is_signed() => dot_signed::<S, F, R>(s, run),
            false => dot_narrow::<S, F, R>(s, run),
        }
    }
}

/// With sums of 32 bits, of unsigned integers.
///
/// # Safety
/// As [`dot`].
#[inline(always)]
unsafe fn dot_wide<S: Simd, F: Format, const R: usize>(s: S, run: &Run) -> [S::Ints; R] {
    let mut totals = [s.int_splat(0); R];
    let halves = if F::LAYOUT.group < BLOCK { 1 } else { 2 };
    for group in 0..2 / halves {
        // SAFETY: the caller's contract.
        unsafe {
            let mut sums = [s.pairs(0); R];
            for r in 0..R {
                sums[r] = s.pairs(*run.offsets.add(2 * r + group));
            }
            for half in group..group + halves {
                for step in 0..STEPS {
                    let w = integers::<S, F>(s, run.weights, step, half);
                    for r in 0..R {
                        sums[r] = s.dot_unsigned(sums[r], w, run.x.add(BLOCK * r + BLOCK / 2 * half + 4 * step));
                    }
                }
            }
            let factor = factor::<S, F>(s, run.scales, group);
            for r in 0..R {
                totals[r] = s.add_pairs(totals[r], sums[r], factor);
            }
        }
    }
    totals
}

/// With sums of 16 bits, of signed bytes: they hold one step.
///
/// # Safety
/// As [`dot`].
#[inline(always)]
unsafe fn dot_signed<S: Simd, F: Format, const R: usize>(s: S, run: &Run) -> [S::Ints; R] {
    let mut totals = [s.int_splat(0); R];
    // SAFETY: the caller's contract.
    unsafe {
        let factor = factor::<S, F>(s, run.scales, 0);
        // Unrolled, the compiler takes row after row, and spills the vectors that rows share.
        for vector in 0..black_box(2 * STEPS) {
            let w = s.load_bytes(run.weights.add(VECTOR * vector));
            for r in 0..R {
                let pairs = s.dot_signed(s.pairs(0), w, run.x.add(BLOCK * r + 4 * vector));
                totals[r] = s.add_pairs(totals[r], pairs, factor);
            }
        }
    }
    totals
}

/// With sums of 16 bits, of integers of fewer bits.
///
/// # Safety
/// As [`dot`].
#[inline(always)]
unsafe fn dot_narrow<S: Simd, F: Format, const R: usize>(s: S, run: &Run) -> [S::Ints; R] {
    let mut totals = [s.int_splat(0); R];
    let mut sums = [s.pairs(0); R];
    let mut held = 0;
    // SAFETY: the caller's contract.
    unsafe {
        if !F::LAYOUT.is_scaled {
            for r in 0..R {
                totals[r] = s.int_splat(*run.offsets.add(2 * r));
            }
        }
        for half in 0..2 {
            for step in 0..STEPS {
                let w = integers::<S, F>(s, run.weights, step, half);
                for r in 0..R {
                    let x = run.x.add(BLOCK * r + BLOCK / 2 * half + 4 * step);
                    sums[r] = match F::IS_SHIFTED {
                        true => s.dot_signed(sums[r], w, x),
                        false => s.dot_unsigned(sums[r], w, x),
                    };
                }
                held += 1;
                let is_last = step + 1 == STEPS && (half == 1 || F::LAYOUT.group == BLOCK / 2);
                if is_last || held == F::STEPS {
                    let factor = factor::<S, F>(s, run.scales, 16 * half / F::LAYOUT.group);
                    for r in 0..R {
                        totals[r] = s.add_pairs(totals[r], sums[r], factor);
                        sums[r] = s.pairs(0);
                    }
                    held = 0;
                }
            }
        }
    }
    totals
}

/// What the sums of a group of a run are multiplied by.
///
/// # Safety
/// As [`dot`].
#[inline(always)]
unsafe fn factor<S: Simd, F: Format>(s: S, scales: *const i8, group: usize) -> Option<S::Pairs> {
    // SAFETY: the caller's contract.
    F::LAYOUT.is_scaled.then(
        #[inline(always)]
        || unsafe { s.load_factors(scales.add(PANEL * group)) },
    )
}

/// The integers of four elements of each column, as bytes: less their zero point if it is not left to the dots.
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
        let bits = match plane.bits {
            8 => bytes,
            _ => s.shift_bytes(bytes, bit as i32 - plane.at as i32, plane.mask() << plane.at),
        };
        integers = Some(match integers {
            Some(low) => s.or_bytes(low, bits),
            None => bits,
        });
        at = at.wrapping_add(VECTOR * plane.bits);
    }
    let integers = integers.expect("integers have bits");
    match S::WIDE {
        // From signed to unsigned, and the zero point with them.
        true if F::LAYOUT.is_signed() => s.sub_bytes(integers, 128),
        false if F::IS_SHIFTED => s.sub_bytes(integers, F::LAYOUT.zero),
        _ => integers,
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
        // No tile is higher than the registers hold; this keeps the compiler from making such code.
        if R > S::DOT_ROWS {
            return debug_assert!(false, "no tile of {R} rows is asked for");
        }
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
                    for part in 0..PANEL / S::LANES {
                        self.add_run(s, panel, (block * runs + run, run), part, &mut sums);
                    }
                }
            }
            for r in 0..R {
                for part in 0..PANEL / S::LANES {
                    s.store(self.out.add(r * self.stride + part * S::LANES), sums[r][part]);
                }
            }
        }
    }
}

impl<F: Format, const R: usize> IntTile<'_, F, R> {
    /// Adds the products of a run of 32 elements with a vector's part of the columns, given its number in x and
    /// in the panel's block.
    ///
    /// # Safety
    /// As [`Kernel::call`]: the block at `panel` and x have that run.
    #[inline(always)]
    unsafe fn add_run<S: Simd>(
        &self,
        s: S,
        panel: *const u8,
        (x_run, run): (usize, usize),
        part: usize,
        sums: &mut [[S::Floats; 2]; R],
    ) {
        let (layout, group, column) = (F::LAYOUT, run * BLOCK / F::LAYOUT.group, part * S::LANES);
        let index = self.x.index(x_run, self.first);
        // SAFETY: the caller's contract.
        unsafe {
            let dots = dot::<S, F, R>(
                s,
                &Run {
                    weights: panel.add(layout.integers(run) + 4 * column),
                    scales: panel.add(layout.scale(group) + column).cast(),
                    x: self.x.bytes.as_ptr().add(index * BLOCK),
                    offsets: self.x.offsets.as_ptr().add(2 * index),
                },
            );
            let own = panel.cast::<u16>().add(column);
            let d = s.load_f16(own);
            for r in 0..R {
                let scale = s.mul(d, s.splat(*self.x.scales.as_ptr().add(index + r)));
                sums[r][part] = s.mul_add(scale, s.to_floats(dots[r]), sums[r][part]);
            }
            if layout.has_minimum {
                let totals = self.x.totals.as_ptr().add(2 * index);
                let m = s.load_f16(own.add(PANEL));
                if !layout.is_scaled {
                    return add_minimum(s, m, totals, part, sums);
                }
                let minima = panel.add(layout.minimum(group) + column);
                let first = s.mul(m, s.load_u8(minima));
                add_minimum(s, first, totals, part, sums);
                if layout.group < BLOCK {
                    let second = s.mul(m, s.load_u8(minima.add(PANEL)));
                    add_minimum(s, s.sub(second, first), totals.add(1), part, sums);
                }
            }
        }
    }
}

/// Adds the products of a minimum with a total of each row.
///
/// # Safety
/// Reads `R` totals, two apart.
#[inline(always)]
unsafe fn add_minimum<S: Simd, const R: usize>(
    s: S,
    minimum: S::Floats,
    totals: *const f32,
    part: usize,
    sums: &mut [[S::Floats; 2]; R],
) {
    for r in 0..R {
        // SAFETY: the caller's contract.
        let total = unsafe { *totals.add(2 * r) };
        sums[r][part] = s.mul_add(minimum, s.splat(total), sums[r][part]);
    }
}
