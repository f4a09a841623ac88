//! The floating-point microkernel: `C[r][0..16] (+)= Σ_k A[r][k] · B[k][0..16]`.
//!
//! ```text
//!              B  k ─ 16 columns, two vectors            registers (AVX2, 6 rows)
//!                 ┌────────┬────────┐                     12  sums
//!                 │  b0    │  b1    │ ◄─ k                  2  b0, b1
//!                 └────────┴────────┘                      1  broadcast of A[r][k]
//!   A ┌────────┐  ┌────────┬────────┐
//!   r │ a·     │  │ sum r0 │ sum r1 │  C
//!     └────────┘  └────────┴────────┘
//! ```
//!
//! `A` is read where it lies, either with its `k` adjacent or with its rows adjacent. `B` is a panel
//! (`step` 16) or any rows of 16 adjacent columns. Fewer than four rows would wait for the
//! latency of their sums, so they get two or four sums each for alternating `k`.
//!
//! 91 % of the FMA peak on B in L1: `cargo run --release -p castiron-runtime --example kernel_peak -- matmul`.

use half::{bf16, f16};

use crate::cpu::isa::Isa;
use crate::cpu::simd::{Kernel, LANES, Simd};
use crate::weights::PANEL;

/// Bytes between the weights in use and those asked for from memory.
const AHEAD: usize = 2048;
/// Steps of `k` in one turn of the loop.
const UNROLL: usize = 4;

/// A matrix that is broadcast element by element.
#[derive(Clone, Copy)]
pub(crate) struct Left {
    /// Its first element.
    pub at: *const f32,
    /// Elements from row to row.
    pub row: usize,
    /// Elements from `k` to `k + 1`. Either this or `row` is 1.
    pub step: usize,
}

/// Rows of 16 columns.
#[derive(Clone, Copy)]
pub(crate) enum Right {
    /// f32.
    F32(*const f32),
    /// binary16.
    F16(*const f16),
    /// bfloat16.
    BF16(*const bf16),
}

/// Where sums go.
#[derive(Clone, Copy)]
pub(crate) struct Sums {
    /// The first sum.
    pub at: *mut f32,
    /// Elements from row to row.
    pub row: usize,
    /// Whether to add to what is there.
    pub add: bool,
}

/// A product of any number of rows with 16 columns.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    /// `A`
    pub left: Left,
    /// `B`
    pub right: Right,
    /// Elements from row to row of `B`.
    pub step: usize,
    /// Rows of `B`.
    pub k: usize,
    /// Rows of `A` and `C`.
    pub rows: usize,
    /// `C`
    pub sums: Sums,
}

impl Block {
    /// Computes the product in tiles of nearly equal height.
    ///
    /// # Safety
    /// `A[rows][k]` and `B[k][16]` can be read and `C[rows][16]` written, and read if added to.
    pub(crate) unsafe fn multiply(&self, isa: Isa) {
        let tiles = self.rows.div_ceil(isa.tile_rows());
        for tile in 0..tiles {
            let (first, end) = (self.rows * tile / tiles, self.rows * (tile + 1) / tiles);
            let mut part = *self;
            part.rows = end - first;
            part.left.at = part.left.at.wrapping_add(first * part.left.row);
            part.sums.at = part.sums.at.wrapping_add(first * part.sums.row);
            // SAFETY: the rows are some of those that the caller vouches for.
            unsafe {
                match self.right {
                    Right::F32(right) if self.left.step == 1 => part.tile::<f32, false>(isa, right),
                    Right::F32(right) => part.tile::<f32, true>(isa, right),
                    Right::F16(right) => part.tile::<f16, false>(isa, right),
                    Right::BF16(right) => part.tile::<bf16, false>(isa, right),
                }
            }
        }
    }

    /// Chooses the microkernel for the number of rows.
    ///
    /// # Safety
    /// As [`Block::multiply`]; `DOWN` says that the rows of `A` are adjacent, not its `k`.
    unsafe fn tile<W: Weight, const DOWN: bool>(&self, isa: Isa, right: *const W) {
        debug_assert_eq!(if DOWN { self.left.row } else { self.left.step }, 1);
        let block = self;
        match self.rows {
            1 => isa.run(Micro::<W, 1, 4, DOWN> { block, right }),
            2 => isa.run(Micro::<W, 2, 2, DOWN> { block, right }),
            3 => isa.run(Micro::<W, 3, 2, DOWN> { block, right }),
            4 => isa.run(Micro::<W, 4, 1, DOWN> { block, right }),
            5 => isa.run(Micro::<W, 5, 1, DOWN> { block, right }),
            6 => isa.run(Micro::<W, 6, 1, DOWN> { block, right }),
            rows => debug_assert_eq!(rows, 0, "no microkernel has so many rows"),
        }
    }
}

/// Element types of `B`.
trait Weight: Copy {
    /// 16 columns.
    ///
    /// # Safety
    /// Reads 16 elements at `p`.
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> [S::Floats; 2];
}

/// Implements [`Weight`] by a load of [`Simd`].
macro_rules! weight {
    ($($ty:ty: $load:ident;)*) => { $(impl Weight for $ty {
        #[inline(always)]
        unsafe fn load<S: Simd>(s: S, p: *const $ty) -> [S::Floats; 2] {
            // SAFETY: the caller's contract.
            unsafe { [s.$load(p.cast()), s.$load(p.add(LANES).cast())] }
        }
    })* };
}
weight! {
    f32: load;
    f16: load_f16;
    bf16: load_bf16;
}

/// A tile of `R` rows with `U` sums for each, to be combined at the end.
struct Micro<'a, W, const R: usize, const U: usize, const DOWN: bool> {
    block: &'a Block,
    right: *const W,
}

impl<W: Weight, const R: usize, const U: usize, const DOWN: bool> Kernel for Micro<'_, W, R, U, DOWN> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        let Block { left, k, step, sums: target, .. } = *self.block;
        let (row, next) = if DOWN { (1, left.step) } else { (left.row, 1) };
        let (mut a, mut b) = (left.at, self.right);
        let mut sums = [[[s.splat(0.0); 2]; R]; U];
        // SAFETY: `Block::multiply`'s contract covers every row and every k below the extent.
        unsafe {
            for _ in 0..k / UNROLL {
                for line in 0..UNROLL * PANEL * size_of::<W>() / 64 {
                    s.prefetch(b.cast::<u8>().wrapping_add(AHEAD + 64 * line));
                }
                for i in 0..UNROLL {
                    let b = W::load(s, b.add(i * step));
                    for r in 0..R {
                        let x = s.splat(*a.add(r * row + i * next));
                        let sum = &mut sums[i % U][r];
                        *sum = [s.mul_add(x, b[0], sum[0]), s.mul_add(x, b[1], sum[1])];
                    }
                }
                a = a.wrapping_add(UNROLL * next);
                b = b.wrapping_add(UNROLL * step);
            }
            for _ in 0..k % UNROLL {
                let columns = W::load(s, b);
                for r in 0..R {
                    let x = s.splat(*a.add(r * row));
                    let sum = &mut sums[0][r];
                    *sum = [s.mul_add(x, columns[0], sum[0]), s.mul_add(x, columns[1], sum[1])];
                }
                a = a.wrapping_add(next);
                b = b.wrapping_add(step);
            }
            for r in 0..R {
                for half in 0..2 {
                    let p = target.at.add(r * target.row + half * LANES);
                    let mut sum = if target.add { s.load(p) } else { s.splat(0.0) };
                    for part in &sums {
                        sum = s.add(sum, part[r][half]);
                    }
                    s.store(p, sum);
                }
            }
        }
    }
}
