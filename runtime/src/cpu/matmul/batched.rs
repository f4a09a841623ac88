//! Products of two activations: `C[b][m][n] = Σ_k A[b][m][k] · B[b][k][n]` of any strides.
//!
//! The right operand becomes panels of 16 columns in scratch, block by block, for the same blocking
//! and microkernel as packed weights.

use std::ops::Range;

use super::blocked::{self, Blocked, Panels};
use super::microkernel::{Left, Right, Upcoming};
use super::{Tile, split};
use crate::cpu::isa::Isa;
use crate::cpu::pool::Worker;
use crate::cpu::scratch::Scratch;
use crate::weights::PANEL;

/// A batch of strided matrices of f32.
#[derive(Clone, Copy)]
pub struct Operand<'a> {
    /// First element of the matrix of a batch index.
    pub at: &'a dyn Fn(usize) -> *const f32,
    /// Elements from one row of the result (left operand) or column of it (right) to the next.
    pub stride: usize,
    /// Elements from `k` to `k + 1`.
    pub step: usize,
}

/// A batch of products.
#[derive(Clone, Copy)]
pub struct Batched<'a> {
    /// Instruction set.
    pub isa: Isa,
    /// Number of products.
    pub batch: usize,
    /// Rows of each.
    pub m: usize,
    /// Columns of each.
    pub n: usize,
    /// Contracted extent.
    pub k: usize,
    /// `A`
    pub lhs: Operand<'a>,
    /// `B`
    pub rhs: Operand<'a>,
}

impl Batched<'_> {
    /// Scratch that each thread needs.
    pub fn scratch_bytes(m: usize, n: usize, k: usize) -> usize {
        blocked::scratch_bytes(m, n, k, 1) + Scratch::bytes_of::<f32>(m.min(blocked::ROWS) * k)
    }

    /// Computes this worker's share and hands it to the epilogue in parts of rows.
    ///
    /// # Safety
    /// Every element of both operands can be read, and nobody writes it meanwhile.
    ///
    /// # Panics
    /// When scratch is too small.
    pub unsafe fn run(&self, worker: Worker<'_>, scratch: &mut Scratch, epilogue: &mut dyn FnMut(Tile)) {
        let [batches, rows, panels] =
            split([worker.index, worker.count], [self.batch, self.m, self.n.div_ceil(PANEL)], self.isa.tiles().rows);
        for batch in batches {
            // SAFETY: the caller's contract, for a part of the product.
            unsafe { self.run_one(batch, rows.clone(), panels.clone(), scratch, epilogue) };
        }
    }

    /// # Safety
    /// As [`Batched::run`].
    unsafe fn run_one(
        &self,
        batch: usize,
        rows: Range<usize>,
        panels: Range<usize>,
        scratch: &mut Scratch,
        epilogue: &mut dyn FnMut(Tile),
    ) {
        if panels.is_empty() {
            return;
        }
        let (n, k) = (self.n, self.k);
        let source = Strided { at: (self.rhs.at)(batch), column: self.rhs.stride, step: self.rhs.step, n };
        let lhs = Left { at: (self.lhs.at)(batch), row: self.lhs.stride, step: self.lhs.step };
        for first in rows.clone().step_by(blocked::ROWS) {
            let rows = first..rows.end.min(first + blocked::ROWS);
            let mut carver = scratch.carve();
            // The microkernel wants rows or k adjacent, here rows from 0.
            let copy = carver.take(self.m.min(blocked::ROWS) * k);
            // SAFETY: rows and k of `lhs` can be read, and of `rhs` all.
            unsafe {
                let at = lhs.at.add(first * lhs.row);
                let left = match (lhs.row, lhs.step) {
                    (_, 1) | (1, _) => Left { at, ..lhs },
                    _ => gather(Left { at, ..lhs }, rows.len(), k, copy),
                };
                let list = None;
                let blocked = Blocked { isa: self.isa, left, list, panels: &source, groups: 1, n, k, batch };
                blocked.run(0..rows.len(), panels.clone(), carver, &mut |tile| {
                    epilogue(Tile { row: first + tile.row, ..tile });
                });
            }
        }
    }
}

/// Copies rows so that their `k` are adjacent.
///
/// # Safety
/// Rows and `k` can be read.
unsafe fn gather(from: Left, rows: usize, k: usize, copy: &mut [f32]) -> Left {
    for (row, copy) in copy.chunks_exact_mut(k.max(1)).take(rows).enumerate() {
        for (i, x) in copy.iter_mut().enumerate() {
            // SAFETY: the caller's contract.
            *x = unsafe { *from.at.add(row * from.row + i * from.step) };
        }
    }
    Left { at: copy.as_ptr(), row: k, step: 1 }
}

/// Panels gathered from a strided matrix.
struct Strided {
    at: *const f32,
    column: usize,
    step: usize,
    n: usize,
}

impl Panels for Strided {
    unsafe fn in_place(&self, _: usize, _: usize, _: usize) -> Option<Right> {
        None
    }

    fn apart(&self) -> usize {
        PANEL
    }

    unsafe fn copy(&self, panel: usize, _: usize, k: Range<usize>, to: &mut [f32], step: usize) {
        let columns = PANEL.min(self.n - panel * PANEL);
        let start = self.at.wrapping_add(panel * PANEL * self.column + k.start * self.step);
        for (i, row) in to.chunks_mut(step).take(k.len()).enumerate() {
            let row = &mut row[..PANEL];
            row[columns..].fill(0.0);
            if self.column == 1 {
                // SAFETY: the caller vouches for the panel's columns and for k.
                row[..columns]
                    .copy_from_slice(unsafe { std::slice::from_raw_parts(start.add(i * self.step), columns) });
                continue;
            }
            for (column, x) in row[..columns].iter_mut().enumerate() {
                // SAFETY: as above.
                *x = unsafe { *start.add(column * self.column + i * self.step) };
            }
        }
    }

    fn next(&self, _: usize, _: usize, _: Range<usize>) -> Upcoming {
        Upcoming::NONE
    }
}
