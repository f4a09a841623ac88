//! Blocking of a floating-point product around the microkernel.
//!
//! ```text
//!   for rows in blocks of ROWS             A block: ROWS × K_BLOCK, stays in L2
//!     for a chunk of panels                sums: ROWS × chunk, stays in L2
//!       for k in blocks of K_BLOCK         A block is copied to rows of a fixed distance
//!         for two panels of the chunk      B block: K_BLOCK × 32, as f32 where it lies or copied, stays in L1
//!           for tile of the rows           microkernel
//!       epilogue, row by row of the chunk
//! ```
//!
//! When all rows fit one tile nothing is used twice: `k` is not cut, and a worker reads its weights
//! as one sequential stream.

use std::ops::Range;

use super::microkernel::{Block, COPIED, Left, Right, Sums, Upcoming};
use super::{MAX_GROUPS, Tile};
use crate::cpu::isa::Isa;
use crate::cpu::scratch::{Carver, Scratch};
use crate::cpu::simd::MOST_TILE_ROWS;
use crate::weights::PANEL;

/// Rows of a block.
pub(super) const ROWS: usize = 132;
/// Contracted elements of a block.
pub(super) const K_BLOCK: usize = 256;
/// Columns of a chunk, all groups together, for many rows and for those of one tile.
const CHUNK: [usize; 2] = [256, 512];

/// Blocks of `k` up to which `A` is copied once for all chunks: its copy stays in the second cache.
const KEPT: usize = 4;

/// Panels that a block of `B` has.
const SIDE_BY_SIDE: usize = 2;

/// Where the panels of `B` come from.
pub(super) trait Panels {
    /// A panel from row `k` on where it lies, if it lies as panels do.
    ///
    /// # Safety
    /// The panel, the group and `k` lie within the matrix.
    unsafe fn in_place(&self, panel: usize, group: usize, k: usize) -> Option<Right>;

    /// Elements from a panel in place to the next one of its group.
    fn apart(&self) -> usize;

    /// Copies rows `k` of a panel to rows `step` apart.
    ///
    /// # Safety
    /// The panel, the group and `k` lie within the matrix.
    unsafe fn copy(&self, panel: usize, group: usize, k: Range<usize>, to: &mut [f32], step: usize);

    /// The memory that rows `k` of the two panels after this one are copied from; any memory at the end.
    fn next(&self, panel: usize, group: usize, k: Range<usize>) -> Upcoming;
}

/// A product with rows `A[m][k]`.
pub(super) struct Blocked<'a, P> {
    pub isa: Isa,
    pub left: Left,
    /// Numbers of the rows, whose `k` are adjacent, instead of all.
    pub list: Option<&'a [u32]>,
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
pub(super) fn scratch_bytes(m: usize, n: usize, k: usize, groups: usize) -> usize {
    let sums = |rows: usize, one_tile| groups * rows * chunk_panels(n, groups, one_tile) * PANEL;
    let count = sums(m.min(MOST_TILE_ROWS), true).max(sums(m.min(ROWS), false));
    let copies = m.min(ROWS) * COPIED * copied_blocks(k);
    [count, K_BLOCK * SIDE_BY_SIDE * PANEL, copies].into_iter().map(Scratch::bytes_of::<f32>).sum()
}

/// Blocks of `k` whose copies of `A` are there at once.
fn copied_blocks(k: usize) -> usize {
    let blocks = k.div_ceil(K_BLOCK).max(1);
    if blocks <= KEPT { blocks } else { 1 }
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
        let one_tile = rows.len() <= self.isa.tiles().rows;
        let chunk = chunk_panels(self.n, self.groups, one_tile);
        let height = rows.len().min(ROWS);
        let sums = scratch.take(self.groups * height * chunk * PANEL);
        let mut room = Room {
            panels: scratch.take(K_BLOCK * SIDE_BY_SIDE * PANEL),
            rows: scratch.take(height * COPIED * copied_blocks(self.k)),
        };
        for first in rows.clone().step_by(ROWS) {
            let rows = first..rows.end.min(first + ROWS);
            let all = panels.clone();
            for panel in all.clone().step_by(chunk) {
                let panels = panel..all.end.min(panel + chunk);
                // SAFETY: both are parts of what the caller vouches for.
                unsafe {
                    if !one_tile || !self.stream(rows.clone(), panels.clone(), sums) {
                        self.sum_blocks(rows.clone(), panels.clone(), panel == all.start, sums, &mut room);
                    }
                }
                finish(rows.clone(), panels, [self.batch, self.groups, self.n], sums, epilogue);
            }
        }
    }

    /// Sums `[group][row][column]` of a chunk for the rows of one tile, with all of `k` at once; gives false if
    /// the panels are not in place, or the rows not one after the other.
    ///
    /// # Safety
    /// As [`Blocked::run`].
    unsafe fn stream(&self, rows: Range<usize>, panels: Range<usize>, sums: &mut [f32]) -> bool {
        if self.list.is_some() {
            return false;
        }
        let left = Left { at: self.left.at.wrapping_add(rows.start * self.left.row), ..self.left };
        let (k, rows, width) = (self.k, rows.len(), panels.len() * PANEL);
        for (i, panel) in panels.enumerate() {
            for group in 0..self.groups {
                // SAFETY: the caller's contract.
                let Some(right) = (unsafe { self.panels.in_place(panel, group, 0) }) else { return false };
                let at = sums[group * rows * width + i * PANEL..][..(rows - 1) * width + PANEL].as_mut_ptr();
                let sums = Sums { at, row: width, add: false };
                let (columns, step, apart, next) = (PANEL, PANEL, 0, Upcoming::NONE);
                // SAFETY: rows and panels are the caller's; the sums lie within the slice.
                unsafe { Block { left, right, columns, step, apart, k, rows, sums, next }.multiply(self.isa) };
            }
        }
        true
    }

    /// Sums `[group][row][column]` of a chunk, block by block. The first chunk of the rows finds no copy of them.
    ///
    /// # Safety
    /// As [`Blocked::run`].
    unsafe fn sum_blocks(
        &self,
        rows: Range<usize>,
        panels: Range<usize>,
        is_first: bool,
        sums: &mut [f32],
        room: &mut Room<'_>,
    ) {
        let width = panels.len() * PANEL;
        let keeps = copied_blocks(self.k) > 1;
        for (block, first) in (0..self.k.max(1)).step_by(K_BLOCK).enumerate() {
            let k = first..self.k.min(first + K_BLOCK);
            // SAFETY: the caller vouches for the rows.
            let left = unsafe {
                let left = Left { at: self.left.at.add(k.start * self.left.step), ..self.left };
                let copies = if keeps { &mut room.rows[block * rows.len() * COPIED..] } else { &mut *room.rows };
                let copied = Left { at: copies.as_ptr(), row: COPIED, step: 1 };
                match self.list {
                    _ if left.step != 1 => Left { at: left.at.add(rows.start * left.row), ..left },
                    _ if keeps && !is_first => copied,
                    Some(list) => {
                        copy_rows(left, list[rows.clone()].iter().map(|&row| row as usize), k.len(), copies);
                        copied
                    }
                    None => {
                        copy_rows(left, rows.clone(), k.len(), copies);
                        copied
                    }
                }
            };
            for panel in panels.clone().step_by(SIDE_BY_SIDE) {
                let pair = panel..panels.end.min(panel + SIDE_BY_SIDE);
                let columns = pair.len() * PANEL;
                for group in 0..self.groups {
                    let at = group * rows.len() * width + (panel - panels.start) * PANEL;
                    let at = sums[at..][..(rows.len() - 1) * width + columns].as_mut_ptr();
                    let sums = Sums { at, row: width, add: first > 0 };
                    // SAFETY: rows and panels are the caller's; the sums lie within the slice.
                    unsafe {
                        let (right, step, apart) = match self.panels.in_place(panel, group, k.start) {
                            Some(right @ Right::F32(_)) => (right, PANEL, self.panels.apart()),
                            _ => {
                                for (i, panel) in pair.clone().enumerate() {
                                    self.panels.copy(panel, group, k.clone(), &mut room.panels[i * PANEL..], columns);
                                }
                                (Right::F32(room.panels.as_ptr()), columns, PANEL)
                            }
                        };
                        let next = self.panels.next(pair.end - 1, group, k.clone());
                        let (k, rows) = (k.len(), rows.len());
                        Block { left, right, columns, step, apart, k, rows, sums, next }.multiply(self.isa);
                    }
                }
            }
        }
    }
}

/// Copies of the blocks in use.
struct Room<'a> {
    /// Of `B`.
    panels: &'a mut [f32],
    /// Of `A`.
    rows: &'a mut [f32],
}

/// Copies rows by number, whose `k` are adjacent, [`COPIED`] apart.
///
/// # Safety
/// Rows and `k` can be read.
unsafe fn copy_rows(from: Left, rows: impl Iterator<Item = usize>, k: usize, to: &mut [f32]) {
    for (to, row) in to.chunks_exact_mut(COPIED).zip(rows) {
        // SAFETY: the caller's contract.
        to[..k].copy_from_slice(unsafe { std::slice::from_raw_parts(from.at.add(row * from.row), k) });
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
