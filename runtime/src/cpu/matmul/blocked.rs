//! Blocking of a floating-point product around the microkernel.
//!
//! ```text
//!   for rows in blocks of ROWS             A block: ROWS × K_BLOCK, stays in L2
//!     for a chunk of panels                sums: ROWS × chunk, stays in L2
//!       for k in blocks of K_BLOCK
//!         for panel of the chunk           B block: K_BLOCK × 16, stays in L1
//!           for tile of the rows           microkernel
//!       epilogue, row by row of the chunk
//! ```
//!
//! When all rows fit one tile nothing is used twice: `k` is not cut, and a worker reads its weights
//! as one sequential stream.

use std::ops::Range;

use super::microkernel::{Block, Left, Right, Sums};
use super::{MAX_GROUPS, Tile};
use crate::cpu::isa::Isa;
use crate::cpu::scratch::{Carver, Scratch};
use crate::weights::PANEL;

/// Rows of a block.
pub(super) const ROWS: usize = 96;
/// Contracted elements of a block.
pub(super) const K_BLOCK: usize = 256;
/// Columns of a chunk, all groups together, for many rows and for those of one tile.
const CHUNK: [usize; 2] = [128, 512];

/// Where the panels of `B` come from.
pub(super) trait Panels {
    /// Whether [`Panels::block`] can give any range of `k` without using `room`.
    const IN_PLACE: bool;

    /// Rows `k` of a panel. They lie in the panels' own memory, or are copied to `room`, which
    /// has place for [`K_BLOCK`] of them; `reused` says whether that would pay.
    ///
    /// # Safety
    /// The panel, the group and `k` lie within the matrix.
    unsafe fn block(&self, panel: usize, group: usize, k: Range<usize>, reused: bool, room: &mut [f32]) -> Right;
}

/// A product with rows `A[m][k]`.
pub(super) struct Blocked<'a, P> {
    pub isa: Isa,
    pub left: Left,
    pub panels: &'a P,
    pub groups: usize,
    /// Columns of each group.
    pub n: usize,
    pub k: usize,
    /// Passed on to the epilogue.
    pub batch: usize,
}

/// Panels of a chunk, which is no wider than the matrix.
fn chunk_panels(n: usize, groups: usize, one_tile: bool) -> usize {
    (CHUNK[usize::from(one_tile)] / PANEL / groups).clamp(1, n.div_ceil(PANEL).max(1))
}

/// Scratch of [`Blocked::run`] for up to `m` rows.
pub(super) fn scratch_bytes(m: usize, n: usize, groups: usize) -> usize {
    let sums = |rows: usize, one_tile| groups * rows * chunk_panels(n, groups, one_tile) * PANEL;
    // The widest tile of any instruction set has 6 rows.
    let count = sums(m.min(6), true).max(sums(m.min(ROWS), false));
    Scratch::bytes_of::<f32>(count) + Scratch::bytes_of::<f32>(K_BLOCK * PANEL)
}

impl<P: Panels> Blocked<'_, P> {
    /// Computes some rows of some panels.
    ///
    /// # Safety
    /// `A` can be read for these rows, and the panels exist.
    pub(super) unsafe fn run(
        &self,
        rows: Range<usize>,
        panels: Range<usize>,
        mut scratch: Carver<'_>,
        epilogue: &mut dyn FnMut(Tile),
    ) {
        let one_tile = rows.len() <= self.isa.tile_rows();
        let chunk = chunk_panels(self.n, self.groups, one_tile);
        let sums = scratch.take(self.groups * rows.len().min(ROWS) * chunk * PANEL);
        let room = scratch.take(K_BLOCK * PANEL);
        for first in rows.clone().step_by(ROWS) {
            let rows = first..rows.end.min(first + ROWS);
            for panel in panels.clone().step_by(chunk) {
                let panels = panel..panels.end.min(panel + chunk);
                // SAFETY: both are parts of what the caller vouches for.
                unsafe { self.sum_chunk(rows.clone(), panels.clone(), one_tile, sums, room) };
                self.finish_chunk(rows.clone(), panels, sums, epilogue);
            }
        }
    }

    /// Sums `[group][row][column]` of a chunk.
    ///
    /// # Safety
    /// As [`Blocked::run`].
    unsafe fn sum_chunk(
        &self,
        rows: Range<usize>,
        panels: Range<usize>,
        one_tile: bool,
        sums: &mut [f32],
        room: &mut [f32],
    ) {
        let width = panels.len() * PANEL;
        let k_block = if one_tile && P::IN_PLACE { self.k.max(1) } else { K_BLOCK };
        for first in (0..self.k.max(1)).step_by(k_block) {
            let k = first..self.k.min(first + k_block);
            for (i, panel) in panels.clone().enumerate() {
                for group in 0..self.groups {
                    let at = group * rows.len() * width + i * PANEL;
                    debug_assert!(at + (rows.len() - 1) * width + PANEL <= sums.len());
                    // SAFETY: rows and panels are the caller's; the sums lie within the slice.
                    unsafe {
                        let left = self.left.at.add(rows.start * self.left.row + k.start * self.left.step);
                        let block = Block {
                            left: Left { at: left, ..self.left },
                            right: self.panels.block(panel, group, k.clone(), !one_tile, room),
                            step: PANEL,
                            k: k.len(),
                            rows: rows.len(),
                            sums: Sums { at: sums.as_mut_ptr().add(at), row: width, add: first > 0 },
                        };
                        block.multiply(self.isa);
                    }
                }
            }
        }
    }

    /// Hands the rows of a chunk to the epilogue.
    fn finish_chunk(&self, rows: Range<usize>, panels: Range<usize>, sums: &[f32], epilogue: &mut dyn FnMut(Tile)) {
        finish(rows, panels, [self.batch, self.groups, self.n], sums, epilogue);
    }
}

/// Hands sums `[group][row][column]` to the epilogue, row by row; `of` is batch, groups and columns.
pub(super) fn finish(
    rows: Range<usize>,
    panels: Range<usize>,
    [batch, groups, n]: [usize; 3],
    sums: &[f32],
    epilogue: &mut dyn FnMut(Tile),
) {
    let (column, width) = (panels.start * PANEL, panels.len() * PANEL);
    for (i, row) in rows.clone().enumerate() {
        let mut accumulators = [std::ptr::null(); MAX_GROUPS];
        for (group, pointer) in accumulators.iter_mut().enumerate().take(groups) {
            *pointer = sums[(group * rows.len() + i) * width..][..width].as_ptr();
        }
        epilogue(Tile { batch, row, column, columns: width.min(n - column), accumulators });
    }
}
