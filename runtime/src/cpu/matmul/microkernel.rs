//! The floating-point microkernel: `C[r][0..16] (+)= Σ_k A[r][k] · B[k][0..16]`, or 32 columns.
//!
//! ```text
//!              B  k ─ 16 or 32 columns                  registers   AVX2, 6 × 16    AVX-512, 12 × 32
//!                 ┌────────┬────────┐                    sums        12              24
//!                 │  b0    │  b1    │ ◄─ k                b0, b1      2               2
//!                 └────────┴────────┘                    A[r][k]     1               1
//!   A ┌────────┐  ┌────────┬────────┐
//!   r │ a·     │  │ sum r0 │ sum r1 │  C
//!     └────────┘  └────────┴────────┘
//! ```
//!
//! `A` is read where it lies, either with its `k` adjacent or with its rows adjacent, or from a copy whose rows
//! are [`COPIED`] apart. `B` is a panel, or any rows of adjacent columns. Fewer than four rows would wait for the
//! latency of their sums, so they get two or four sums each for alternating `k`.
//!
//! Figures: `cargo run --release -p castiron-runtime --example kernel_peak -- matmul`.

use std::marker::PhantomData;

use half::{bf16, f16};

use crate::cpu::isa::Isa;
use crate::cpu::simd::{Kernel, Simd};
use crate::weights::PANEL;

/// Bytes between the weights in use and those asked for from memory.
const AHEAD: usize = 2048;
/// Bytes of a cache line.
const LINE: usize = 64;
/// Steps of `k` in one turn of the loop.
const UNROLL: usize = 4;
/// Elements from row to row of a copy of `A`: the rows of a tile fall into different sets of the cache, and their
/// addresses are one register with constants.
pub(crate) const COPIED: usize = super::blocked::K_BLOCK + 16;

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

/// How `A` is walked through: elements from row to row, and from `k` to `k + 1`.
trait Walk {
    /// Whether `B` is read once, as a stream from memory.
    const IS_STREAM: bool;
    fn steps(left: &Left) -> (usize, usize);
}

/// `k` adjacent, rows anywhere.
struct Across;
/// The same, of a `B` that is in the cache.
struct Apart;
/// `k` adjacent, rows [`COPIED`] apart.
struct Copied;
/// Rows adjacent.
struct Down;

impl Walk for Across {
    const IS_STREAM: bool = true;
    #[inline(always)]
    fn steps(left: &Left) -> (usize, usize) {
        (left.row, 1)
    }
}

impl Walk for Apart {
    const IS_STREAM: bool = false;
    #[inline(always)]
    fn steps(left: &Left) -> (usize, usize) {
        (left.row, 1)
    }
}

impl Walk for Copied {
    const IS_STREAM: bool = false;
    #[inline(always)]
    fn steps(_: &Left) -> (usize, usize) {
        (COPIED, 1)
    }
}

impl Walk for Down {
    const IS_STREAM: bool = false;
    #[inline(always)]
    fn steps(left: &Left) -> (usize, usize) {
        (1, left.step)
    }
}

/// Rows of adjacent columns.
#[derive(Clone, Copy)]
pub(crate) enum Right {
    /// f32.
    F32(*const f32),
    /// binary16.
    F16(*const f16),
    /// bfloat16.
    BF16(*const bf16),
    /// Signed bytes; the rows of `A` are adjacent.
    I8(*const i8),
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

/// A product of any number of rows with 16 or 32 columns.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    /// `A`
    pub left: Left,
    /// `B`
    pub right: Right,
    /// Columns of `B` and `C`: one or two panels.
    pub columns: usize,
    /// Elements from row to row of `B`.
    pub step: usize,
    /// Elements from the first panel of `B` to the second.
    pub apart: usize,
    /// Rows of `B`.
    pub k: usize,
    /// Rows of `A` and `C`.
    pub rows: usize,
    /// `C`
    pub sums: Sums,
    /// What the block after this one reads, to be asked for meanwhile.
    pub next: Upcoming,
}

/// Memory that is needed soon: two pieces of one size, which may be 0.
#[derive(Clone, Copy)]
pub(crate) struct Upcoming {
    /// The first byte; any address.
    pub at: *const u8,
    /// Bytes of a piece.
    pub bytes: usize,
    /// Bytes from the first piece to the second.
    pub apart: usize,
    /// Lines of each piece that a turn of the microkernel's loop asks for.
    pub pace: usize,
}

impl Upcoming {
    /// Nothing.
    pub const NONE: Upcoming = Upcoming { at: std::ptr::null(), bytes: 0, apart: 0, pace: 0 };

    /// What remains after some bytes.
    fn skip(self, bytes: usize) -> Upcoming {
        let bytes = bytes.min(self.bytes);
        Upcoming { at: self.at.wrapping_add(bytes), bytes: self.bytes - bytes, ..self }
    }
}

impl Block {
    /// Computes the product in tiles of nearly equal height.
    ///
    /// # Safety
    /// `A[rows][k]` and `B[k][columns]` can be read and `C[rows][columns]` written, and read if added to.
    pub(crate) unsafe fn multiply(&self, isa: Isa) {
        let shape = isa.tiles();
        let (tiles, width) = (self.rows.div_ceil(shape.rows), self.columns.min(2 * shape.lanes));
        let turns = self.k / UNROLL;
        let pace = self.next.bytes.div_ceil(LINE).div_ceil((tiles * turns).max(1));
        for column in (0..self.columns).step_by(width) {
            for tile in 0..tiles {
                let (first, end) = (self.rows * tile / tiles, self.rows * (tile + 1) / tiles);
                let mut part = *self;
                (part.rows, part.columns) = (end - first, width);
                part.left.at = part.left.at.wrapping_add(first * part.left.row);
                part.right = self.right.skip(column / PANEL * self.apart);
                part.sums.at = part.sums.at.wrapping_add(first * part.sums.row + column);
                part.next = Upcoming { pace, ..self.next.skip(tile * turns * pace * LINE) };
                // SAFETY: rows and columns are some of those that the caller vouches for.
                unsafe {
                    match width / shape.lanes {
                        1 => part.walk::<1>(isa),
                        _ => part.walk::<2>(isa),
                    }
                }
            }
        }
    }

    /// Chooses the way through the operands, for `N` vectors of columns.
    ///
    /// # Safety
    /// As [`Block::multiply`].
    unsafe fn walk<const N: usize>(&self, isa: Isa) {
        // SAFETY: the caller's contract.
        unsafe {
            match self.right {
                Right::F32(right) if self.left.step != 1 => self.tile::<f32, Down, N>(isa, right),
                Right::F32(right) if self.left.row == COPIED => self.tile::<f32, Copied, N>(isa, right),
                Right::F32(right) if self.columns > PANEL => self.tile::<f32, Apart, N>(isa, right),
                Right::F32(right) => self.tile::<f32, Across, N>(isa, right),
                Right::F16(right) if self.left.step != 1 => self.tile::<f16, Down, N>(isa, right),
                Right::F16(right) => self.tile::<f16, Across, N>(isa, right),
                Right::BF16(right) => self.tile::<bf16, Across, N>(isa, right),
                Right::I8(right) => self.tile::<i8, Down, N>(isa, right),
            }
        }
    }

    /// Chooses the microkernel for the number of rows.
    ///
    /// # Safety
    /// As [`Block::multiply`]; `A` is walked through as the type says.
    unsafe fn tile<W: Weight, A: Walk, const N: usize>(&self, isa: Isa, right: *const W) {
        debug_assert_eq!(A::steps(&self.left), (self.left.row, self.left.step));
        let (block, walk) = (self, PhantomData::<A>);
        match self.rows {
            1 => isa.run(Micro::<W, A, 1, 4, N> { block, right, walk }),
            2 => isa.run(Micro::<W, A, 2, 2, N> { block, right, walk }),
            3 => isa.run(Micro::<W, A, 3, 2, N> { block, right, walk }),
            4 => isa.run(Micro::<W, A, 4, 1, N> { block, right, walk }),
            5 => isa.run(Micro::<W, A, 5, 1, N> { block, right, walk }),
            6 => isa.run(Micro::<W, A, 6, 1, N> { block, right, walk }),
            7 => isa.run(Micro::<W, A, 7, 1, N> { block, right, walk }),
            8 => isa.run(Micro::<W, A, 8, 1, N> { block, right, walk }),
            9 => isa.run(Micro::<W, A, 9, 1, N> { block, right, walk }),
            10 => isa.run(Micro::<W, A, 10, 1, N> { block, right, walk }),
            11 => isa.run(Micro::<W, A, 11, 1, N> { block, right, walk }),
            12 => isa.run(Micro::<W, A, 12, 1, N> { block, right, walk }),
            rows => debug_assert_eq!(rows, 0, "no microkernel has so many rows"),
        }
    }
}

impl Right {
    /// Rows that begin so many elements later.
    pub(crate) fn skip(self, elements: usize) -> Right {
        match self {
            Right::F32(p) => Right::F32(p.wrapping_add(elements)),
            Right::F16(p) => Right::F16(p.wrapping_add(elements)),
            Right::BF16(p) => Right::BF16(p.wrapping_add(elements)),
            Right::I8(p) => Right::I8(p.wrapping_add(elements)),
        }
    }
}

/// Element types of `B`.
trait Weight: Copy {
    /// `N` vectors of columns, so many elements apart.
    ///
    /// # Safety
    /// Reads them at `p`.
    unsafe fn load<S: Simd, const N: usize>(s: S, p: *const Self, apart: usize) -> [S::Floats; N];
}

/// Implements [`Weight`] by a load of [`Simd`].
macro_rules! weight {
    ($($ty:ty: $load:ident;)*) => { $(impl Weight for $ty {
        #[inline(always)]
        unsafe fn load<S: Simd, const N: usize>(s: S, p: *const $ty, apart: usize) -> [S::Floats; N] {
            let mut columns = [s.splat(0.0); N];
            for i in 0..N {
                // SAFETY: the caller's contract.
                columns[i] = unsafe { s.$load(p.add(i * apart).cast()) };
            }
            columns
        }
    })* };
}
weight! {
    f32: load;
    f16: load_f16;
    bf16: load_bf16;
    i8: load_i8;
}

/// A tile of `R` rows by `N` vectors, with `U` sums for each element, to be combined at the end.
struct Micro<'a, W, A, const R: usize, const U: usize, const N: usize> {
    block: &'a Block,
    right: *const W,
    walk: PhantomData<A>,
}

impl<W: Weight, A: Walk, const R: usize, const U: usize, const N: usize> Kernel for Micro<'_, W, A, R, U, N> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        // No tile is higher than the registers hold, none is narrower than a panel, and streams are one panel:
        // this keeps the compiler from making such code.
        let width = N * S::LANES;
        if R > S::TILE_ROWS || width < PANEL || A::IS_STREAM && width > PANEL {
            return debug_assert!(false, "no tile of {R} rows by {width} columns is asked for");
        }
        let Block { left, k, step, sums: target, next: upcoming, .. } = *self.block;
        let (row, next) = A::steps(&left);
        let between = if S::LANES < PANEL { S::LANES } else { self.block.apart };
        let (mut a, mut b) = (left.at, self.right);
        let Upcoming { at: mut ahead, bytes, apart, pace } = upcoming;
        let last = ahead.wrapping_add(bytes);
        let mut sums = [[[s.splat(0.0); N]; R]; U];
        // SAFETY: `Block::multiply`'s contract covers every row and every k below the extent.
        unsafe {
            for _ in 0..k / UNROLL {
                if A::IS_STREAM {
                    for line in 0..UNROLL * PANEL * size_of::<W>() / LINE {
                        s.prefetch(b.cast::<u8>().wrapping_add(AHEAD + LINE * line));
                    }
                } else if ahead < last {
                    for _ in 0..pace {
                        s.prefetch_later(ahead);
                        s.prefetch_later(ahead.wrapping_add(apart));
                        ahead = ahead.wrapping_add(LINE);
                    }
                }
                for i in 0..UNROLL {
                    let b = W::load::<S, N>(s, b.add(i * step), between);
                    for r in 0..R {
                        let x = s.splat(*a.add(r * row + i * next));
                        add_products(s, x, &b, &mut sums[i % U][r]);
                    }
                }
                a = a.wrapping_add(UNROLL * next);
                b = b.wrapping_add(UNROLL * step);
            }
            for _ in 0..k % UNROLL {
                let columns = W::load::<S, N>(s, b, between);
                for r in 0..R {
                    add_products(s, s.splat(*a.add(r * row)), &columns, &mut sums[0][r]);
                }
                a = a.wrapping_add(next);
                b = b.wrapping_add(step);
            }
            for r in 0..R {
                for i in 0..N {
                    let p = target.at.add(r * target.row + i * S::LANES);
                    let mut sum = if target.add { s.load(p) } else { s.splat(0.0) };
                    for part in &sums {
                        sum = s.add(sum, part[r][i]);
                    }
                    s.store(p, sum);
                }
            }
        }
    }
}

/// `sum += x · b`
#[inline(always)]
fn add_products<S: Simd, const N: usize>(s: S, x: S::Floats, b: &[S::Floats; N], sum: &mut [S::Floats; N]) {
    for i in 0..N {
        sum[i] = s.mul_add(x, b[i], sum[i]);
    }
}
