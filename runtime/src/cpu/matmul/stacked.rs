//! Products whose rows take different weights: mixtures of experts.
//!
//! Rows are sorted by their weight, so that each weight that some row takes is read once and the others never.
//! A weight's rows are copied side by side and multiplied like those of any product; a weight with one row, as
//! when decoding, takes it where it lies. Workers divide the product of each weight.

use super::{Matmul, Rows, Tile, split};
use crate::cpu::isa::Isa;
use crate::cpu::pool::Worker;
use crate::cpu::scratch::Scratch;
use crate::weights::PackedMatrix;

/// Rows of one weight that are multiplied at once: two blocks of a dense product.
const ROWS: usize = 264;

/// A product with a stack of packed weights.
#[derive(Clone, Copy)]
pub struct Stacked<'a> {
    /// Instruction set.
    pub isa: Isa,
    /// The packed weights, one after another.
    pub weights: &'a [u8],
    /// How many.
    pub count: usize,
    /// Each of them.
    pub shape: PackedMatrix,
    /// Where a row of the left operand lies, whose elements are adjacent.
    pub x: &'a dyn Fn(usize) -> *const f32,
    /// The weight that a row takes, below `count`.
    pub chosen: &'a dyn Fn(usize) -> usize,
    /// Rows of the left operand.
    pub m: usize,
}

impl Stacked<'_> {
    /// Scratch that each thread needs for `m` rows.
    pub fn scratch_bytes(shape: &PackedMatrix, count: usize, m: usize) -> usize {
        let most = m.min(ROWS);
        Scratch::bytes_of::<i32>(count + 1)
            + Scratch::bytes_of::<i32>(m)
            + Scratch::bytes_of::<f32>(most * shape.k)
            + Matmul::scratch_bytes(shape, most)
    }

    /// Computes this worker's share and hands it to the epilogue in parts of rows.
    ///
    /// # Safety
    /// The rows of `x` have `k` elements that can be read, and nobody writes them meanwhile.
    ///
    /// # Panics
    /// When the weights have another size than their shape says, a choice is out of range, or scratch is too small.
    pub unsafe fn run(&self, worker: Worker<'_>, scratch: &mut Scratch, epilogue: &mut dyn FnMut(Tile)) {
        let (size, k) = (self.weights.len() / self.count.max(1), self.shape.k);
        assert_eq!(Some(size), self.shape.bytes(), "size of a packed weight");
        let mut carver = scratch.carve();
        let (ends, order) = (carver.take::<i32>(self.count + 1), carver.take::<i32>(self.m));
        let copies = carver.take::<f32>(self.m.min(ROWS) * k);
        self.sort(ends, order);
        for (number, range) in ends.windows(2).enumerate() {
            for members in order[range[0] as usize..range[1] as usize].chunks(ROWS) {
                let extents = [1, members.len(), self.shape.panels()];
                let [_, rows, panels] = split([worker.index, worker.count], extents, self.isa.tiles().rows);
                let members = &members[rows];
                if members.is_empty() || panels.is_empty() {
                    continue;
                }
                let at = |i: usize| (self.x)(members[i] as usize);
                if members.len() > 1 {
                    for (i, copy) in copies.chunks_exact_mut(k).enumerate().take(members.len()) {
                        // SAFETY: the caller's contract.
                        copy.copy_from_slice(unsafe { std::slice::from_raw_parts(at(i), k) });
                    }
                }
                let first = if members.len() > 1 { copies.as_ptr() } else { at(0) };
                let weights = &self.weights[number * size..][..size];
                let x = Rows { at: first, stride: k };
                let product = Matmul { isa: self.isa, weights, shape: self.shape, x, m: members.len(), rows: None };
                let mut finish = |tile: Tile| epilogue(Tile { row: members[tile.row] as usize, ..tile });
                // SAFETY: the caller's contract, or copies of what it vouches for.
                unsafe { product.run_share(0..members.len(), panels, carver.lend(), &mut finish) };
            }
        }
    }

    /// Sorts the rows by their weight, keeping their order: those of weight `i` are
    /// `order[ends[i]..ends[i + 1]]`.
    fn sort(&self, ends: &mut [i32], order: &mut [i32]) {
        ends.fill(0);
        (0..self.m).for_each(|row| ends[(self.chosen)(row) + 1] += 1);
        for i in 1..ends.len() {
            ends[i] += ends[i - 1];
        }
        // What begins a weight's rows moves to their end, which is where the next one's begin.
        for row in 0..self.m {
            let next = &mut ends[(self.chosen)(row)];
            order[*next as usize] = row as i32;
            *next += 1;
        }
        ends.rotate_right(1);
        ends[0] = 0;
    }
}
