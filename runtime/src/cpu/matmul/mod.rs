//! Matrix products: `y[m, n] = epilogue(x[m, k] · Wᵀ)`.
//!
//! ```text
//!  mod.rs          the product with a packed weight; how work is split over threads
//!  blocked.rs      cache blocking of f32 sums            quantised.rs   blocking of integer dots
//!  microkernel.rs  the register tile                     int_tile.rs    their register tile
//!  dense.rs        panels from packed f32, f16, bf16     quantise.rs    rows of x as bytes
//!  batched.rs      panels from another activation      stacked.rs     a weight for each row
//! ```
//!
//! Sums stay in a thread's scratch. The epilogue reads them there, while they are in cache, and
//! writes the result wherever it belongs.
#![allow(unsafe_code)]

pub mod batched;
mod blocked;
mod dense;
mod int_tile;
pub(crate) mod microkernel;
mod quantise;
mod quantised;
pub mod stacked;

use std::ops::Range;

use super::isa::Isa;
use super::pool::{Worker, share};
use super::scratch::{Carver, Scratch};
use crate::weights::PackedMatrix;
use microkernel::Left;

/// Most groups that a product has.
pub const MAX_GROUPS: usize = 4;

/// A finished part of a row.
#[derive(Clone, Copy, Debug)]
pub struct Tile {
    /// Index of the product, for [`batched::Batched`]; else 0.
    pub batch: usize,
    /// Row of the result.
    pub row: usize,
    /// First column of the result.
    pub column: usize,
    /// How many columns.
    pub columns: usize,
    /// The sums of each group, `columns` each, in the thread's scratch; null beyond the last group.
    pub accumulators: [*const f32; MAX_GROUPS],
}

/// Rows of f32 whose elements are adjacent.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// The first row.
    pub at: *const f32,
    /// Elements from row to row.
    pub stride: usize,
}

impl Rows {
    fn left(self) -> Left {
        Left { at: self.at, row: self.stride, step: 1 }
    }
}

/// A product with a packed weight, `x[m, k] · W[group][n][k]ᵀ`.
#[derive(Clone, Copy)]
pub struct Matmul<'a> {
    /// Instruction set.
    pub isa: Isa,
    /// The packed weight, [`PackedMatrix::bytes`] long.
    pub weights: &'a [u8],
    /// What the weight is; at most [`MAX_GROUPS`] groups.
    pub shape: PackedMatrix,
    /// The left operand.
    pub x: Rows,
    /// Its rows.
    pub m: usize,
    /// Numbers of the rows that are multiplied, instead of all `m`.
    pub rows: Option<&'a [u32]>,
}

impl Matmul<'_> {
    /// Scratch that each thread needs for up to `m` rows.
    pub fn scratch_bytes(shape: &PackedMatrix, m: usize) -> usize {
        if shape.encoding.is_quantised() {
            quantised::scratch_bytes(shape, m)
        } else {
            blocked::scratch_bytes(m, shape.n, shape.k, shape.groups)
        }
    }

    /// Computes this worker's share and hands it to the epilogue in parts of rows, at most some
    /// hundred columns wide.
    ///
    /// # Safety
    /// `m` rows of `k` elements can be read at `x`, and nobody writes them meanwhile.
    ///
    /// # Panics
    /// When there is no such row, when the weight has another size than its shape says, or scratch is too small.
    pub unsafe fn run(&self, worker: Worker<'_>, scratch: &mut Scratch, epilogue: &mut dyn FnMut(Tile)) {
        assert_eq!(Some(self.weights.len()), self.shape.bytes(), "size of a packed weight");
        assert!((1..=MAX_GROUPS).contains(&self.shape.groups), "groups of a packed weight");
        assert!(self.rows.is_none_or(|rows| rows.iter().all(|&row| (row as usize) < self.m)), "rows of a product");
        let count = self.rows.map_or(self.m, <[u32]>::len);
        let [batch, rows, panels] =
            split([worker.index, worker.count], [1, count, self.shape.panels()], self.isa.tiles().rows);
        if batch.is_empty() || rows.is_empty() || panels.is_empty() {
            return;
        }
        let mut epilogue = |tile: Tile| epilogue(Tile { row: self.row(tile.row), ..tile });
        // SAFETY: the caller's contract, for a part of the rows; the weight's size was checked.
        unsafe { self.run_share(rows, panels, scratch.carve(), &mut epilogue) }
    }

    /// # Safety
    /// As [`Matmul::run`], for these rows and panels, of which there are some.
    unsafe fn run_share(
        &self,
        rows: Range<usize>,
        panels: Range<usize>,
        scratch: Carver<'_>,
        epilogue: &mut dyn FnMut(Tile),
    ) {
        // SAFETY: the caller's contract.
        unsafe {
            if self.shape.encoding.is_quantised() {
                self.run_quantised(rows, panels, scratch, epilogue);
            } else {
                self.run_dense(rows, panels, scratch, epilogue);
            }
        }
    }
}

impl Matmul<'_> {
    /// Number of the row that is multiplied in place `i`.
    fn row(&self, i: usize) -> usize {
        self.rows.map_or(i, |rows| rows[i] as usize)
    }
}

/// Tiles of rows for each worker from which on rows are cut rather than panels.
const MANY_TILES: usize = 4;
/// Where many rows may be cut: tiles of a share are of nearly equal height, whatever its rows.
const EVEN: usize = 4;

/// The share of worker `index` of `count` in `[batch, rows, panels]`: the grid of workers whose
/// busiest one has least to do. Of equal grids the one with fewest cuts across rows wins, since a cut
/// there makes more threads read each weight, and then the one with fewest across panels.
///
/// Many rows are cut first: each worker then copies or rounds its own rows only, which costs more than reading
/// weights that are used for so many.
fn split([index, count]: [usize; 2], extents: [usize; 3], tile_rows: usize) -> [Range<usize>; 3] {
    let [batch, rows, panels] = extents;
    let units = [batch, rows.div_ceil(tile_rows), panels];
    let divisors = |n: usize| (1..=n).filter(move |d| n.is_multiple_of(*d));
    let grids = divisors(count).flat_map(|across_batch| {
        let rest = count / across_batch;
        divisors(rest).map(move |across_rows| [across_batch, across_rows, rest / across_rows])
    });
    let cost = |grid: &[usize; 3]| {
        let busiest: usize = units.iter().zip(grid).map(|(&units, &parts)| units.div_ceil(parts)).product();
        (busiest, grid[1], grid[2])
    };
    let is_many = batch == 1 && units[1] >= MANY_TILES * count;
    let best = if is_many { Some([1, count, 1]) } else { grids.min_by_key(cost) };
    let [_, by_rows, by_panels] = best.unwrap_or([1, 1, count]);
    let by_batch = count / (by_rows * by_panels);
    [
        share(batch, 1, index / (by_rows * by_panels), by_batch),
        share(rows, if is_many { EVEN } else { tile_rows }, index / by_panels % by_rows, by_rows),
        share(panels, 1, index % by_panels, by_panels),
    ]
}

#[cfg(test)]
mod tests;
