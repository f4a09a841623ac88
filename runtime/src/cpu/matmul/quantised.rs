//! Blocking of products with quantised weights.
//!
//! A worker quantises a block of rows of `x` into its scratch, then sweeps its panels; each panel
//! is read from the cache for all tiles of the block. `k` is not cut: a panel of 4,096 is 70 KB.

use std::marker::PhantomData;
use std::ops::Range;

use super::blocked::finish;
use super::int_tile::{self, Format, IntTile, zero_in_dots};
use super::quantise::{Quantise, Quantised};
use super::{Matmul, Tile};
use crate::cpu::isa::Isa;
use crate::cpu::scratch::{Carver, Scratch};
use crate::cpu::simd::MOST_TILE_ROWS;
use crate::weights::{BLOCK, Encoding, Layout, PANEL, PackedMatrix};

/// Rows that are quantised together.
const ROWS: usize = 64;
/// Columns of a chunk, all groups together, for many rows and for those of one tile.
const CHUNK: [usize; 2] = [128, 512];

fn chunk_panels(shape: &PackedMatrix, one_tile: bool) -> usize {
    (CHUNK[usize::from(one_tile)] / PANEL / shape.groups).clamp(1, shape.panels().max(1))
}

/// Runs of 32 elements of a row of `x`: as many as a column of the weight has.
fn runs(shape: &PackedMatrix) -> usize {
    let (span, _) = shape.encoding.block();
    shape.k.div_ceil(span) * (span / BLOCK)
}

/// Scratch for up to `m` rows.
pub(super) fn scratch_bytes(shape: &PackedMatrix, m: usize) -> usize {
    let sums = |rows: usize, one_tile| shape.groups * rows * chunk_panels(shape, one_tile) * PANEL;
    let count = sums(m.min(MOST_TILE_ROWS), true).max(sums(m.min(ROWS), false));
    Scratch::bytes_of::<f32>(count) + Quantised::scratch_bytes(m.min(ROWS), runs(shape))
}

impl Matmul<'_> {
    /// # Safety
    /// As [`Matmul::run`], for these rows and panels.
    pub(super) unsafe fn run_quantised(
        &self,
        rows: Range<usize>,
        panels: Range<usize>,
        mut scratch: Carver<'_>,
        epilogue: &mut dyn FnMut(Tile),
    ) {
        let PackedMatrix { groups, n, k, .. } = self.shape;
        let tiles = self.isa.tiles();
        let one_tile = rows.len() <= tiles.dot_rows;
        let chunk = chunk_panels(&self.shape, one_tile);
        let height = rows.len().min(ROWS);
        let sums = scratch.take(groups * height * chunk * PANEL);
        let mut x = Quantised::take(height, runs(&self.shape), &mut scratch);
        let layout = Layout::of(self.shape.encoding).expect("a quantised encoding");
        let (zero, is_halved) = (zero_in_dots(&layout, tiles.wide), layout.group < BLOCK);
        for first in rows.clone().step_by(ROWS) {
            let rows = first..rows.end.min(first + ROWS);
            let row = |i: usize| self.row(first + i);
            self.isa.run(Quantise { x: self.x, row, rows: rows.len(), k, zero, is_halved, out: &mut x });
            for panel in panels.clone().step_by(chunk) {
                let panels = panel..panels.end.min(panel + chunk);
                self.sum_chunk(&x, rows.len(), panels.clone(), sums);
                finish(rows.clone(), panels, [0, groups, n], sums, epilogue);
            }
        }
    }

    /// Sums `[group][row][column]` of a chunk.
    fn sum_chunk(&self, x: &Quantised<'_>, rows: usize, panels: Range<usize>, sums: &mut [f32]) {
        let width = panels.len() * PANEL;
        let size = self.weights.len() / (self.shape.panels() * self.shape.groups);
        for (i, panel) in panels.enumerate() {
            for group in 0..self.shape.groups {
                let panel = &self.weights[(panel * self.shape.groups + group) * size..][..size];
                let sums = &mut sums[group * rows * width + i * PANEL..][..(rows - 1) * width + PANEL];
                let product = PanelProduct { isa: self.isa, x, rows, panel, sums, width };
                match self.shape.encoding {
                    Encoding::Q8_0 => product.run::<int_tile::Q8_0>(),
                    Encoding::Q4_0 => product.run::<int_tile::Q4_0>(),
                    Encoding::Q4_1 => product.run::<int_tile::Q4_1>(),
                    Encoding::Q5_0 => product.run::<int_tile::Q5_0>(),
                    Encoding::Q5_1 => product.run::<int_tile::Q5_1>(),
                    Encoding::Q2K => product.run::<int_tile::Q2K>(),
                    Encoding::Q3K => product.run::<int_tile::Q3K>(),
                    Encoding::Q4K => product.run::<int_tile::Q4K>(),
                    Encoding::Q5K => product.run::<int_tile::Q5K>(),
                    Encoding::Q6K => product.run::<int_tile::Q6K>(),
                    Encoding::Q8S => product.run::<int_tile::Q8S>(),
                    Encoding::F32 | Encoding::F16 | Encoding::BF16 => unreachable!("not a quantised encoding"),
                }
            }
        }
    }
}

/// All rows by one panel.
struct PanelProduct<'a> {
    isa: Isa,
    x: &'a Quantised<'a>,
    rows: usize,
    panel: &'a [u8],
    sums: &'a mut [f32],
    width: usize,
}

impl PanelProduct<'_> {
    fn run<F: Format>(self) {
        let format = PhantomData::<F>;
        let most = self.isa.tiles().dot_rows;
        let mut first = 0;
        while first < self.rows {
            let (x, panel, stride) = (self.x, self.panel.as_ptr(), self.width);
            let out = self.sums[first * stride..].as_mut_ptr();
            first += match (self.rows - first).min(most) {
                1 => self.tile(IntTile::<F, 1> { format, x, first, panel, out, stride }),
                2 => self.tile(IntTile::<F, 2> { format, x, first, panel, out, stride }),
                3 => self.tile(IntTile::<F, 3> { format, x, first, panel, out, stride }),
                8 => self.tile(IntTile::<F, 8> { format, x, first, panel, out, stride }),
                _ => self.tile(IntTile::<F, 4> { format, x, first, panel, out, stride }),
            };
        }
    }

    /// Computes a tile; gives its rows.
    fn tile<F: Format, const R: usize>(&self, tile: IntTile<'_, F, R>) -> usize {
        self.isa.run(tile);
        R
    }
}
