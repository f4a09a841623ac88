//! Keys and values of a block as adjacent f32, and what is asked for from memory meanwhile.
//!
//! They stay where they lie if they can. Those of half precision are widened block by block: memory is
//! read once, and all kernels work on what is in the cache.
#![allow(unsafe_code)] // Operands are pointers with strides.

use std::ops::Range;

use half::f16;

use super::tile::{KEYS, Tile, padded};
use super::{Attention, Elements, Strided};
use crate::cpu::simd::{Kernel, Simd};
use crate::weights::PANEL;

/// Rows between those in use and those asked for from memory.
const AHEAD: usize = 16;
/// Bytes of a cache line.
const LINE: usize = 64;

/// Rows somewhere in memory.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    /// The first element.
    pub at: *const f32,
    /// Elements from row to row.
    pub stride: usize,
    /// Adjacent elements of a row.
    pub width: usize,
}

/// Rows that will be read soon.
#[derive(Clone, Copy)]
pub(super) struct Soon {
    at: *const u8,
    /// Bytes from row to row.
    stride: usize,
    /// Bytes of a row.
    bytes: usize,
    /// How many there are.
    count: usize,
}

impl Soon {
    /// No rows.
    pub const NONE: Soon = Soon { at: std::ptr::null(), stride: 0, bytes: 0, count: 0 };

    /// `count` rows of `width` elements, from one of an operand on.
    fn of(x: &Strided<Elements, 4>, index: [usize; 4], count: usize, width: usize) -> Soon {
        let (at, size) = match x.at {
            Elements::F32(at) => (at.cast::<u8>(), size_of::<f32>()),
            Elements::F16(at) => (at.cast::<u8>(), size_of::<f16>()),
        };
        let reach = width.saturating_sub(1) * x.strides[3] + 1;
        Soon { at: at.wrapping_add(x.offset(index) * size), stride: x.strides[2] * size, bytes: reach * size, count }
    }

    /// Asks for some of them.
    #[inline(always)]
    pub fn ask<S: Simd>(&self, s: S, rows: Range<usize>) {
        for row in rows.start..rows.end.min(self.count) {
            let at = self.at.wrapping_add(row * self.stride);
            (0..self.bytes.div_ceil(LINE)).for_each(|line| s.prefetch(at.wrapping_add(line * LINE)));
        }
    }
}

/// Keys and values of a block.
pub(super) struct Source {
    /// Number of the first key.
    pub first: usize,
    /// Keys.
    pub keys: Rows,
    /// Of the columns that are used in place.
    pub values: Rows,
    /// Of the other columns; column 0 of these rows is that of the value.
    pub copied: Rows,
    /// What the scores of few queries leave time to ask for.
    pub soon: [Soon; 2],
}

impl Source {
    /// The block that a run of keys begins with, copied where it must be.
    ///
    /// # Safety
    /// As [`Attention::run`]; some query of the tile sees each of the keys.
    pub unsafe fn new(tile: &Tile<'_>, run: Range<usize>, keys: &mut [f32], values: &mut [f32]) -> Source {
        let Attention { isa, k, v, extents: [.., d, e], .. } = *tile.attention;
        let (first, count) = (run.start, run.len().min(KEYS));
        let row = |key: usize| [tile.batch, tile.head, key, 0];
        let keys = match adjacent(&k, row(first), d) {
            Some(there) => there,
            None => isa.run(Copied { x: &k, at: row(first), count, columns: 0..d, stride: d, to: keys }),
        };
        let there = adjacent(&v, row(first), e);
        // Products take whole panels of columns.
        let in_place = if there.is_some() { e - e % PANEL } else { 0 };
        let copied =
            isa.run(Copied { x: &v, at: row(first), count, columns: in_place..e, stride: padded(e), to: values });
        let values = Rows { width: in_place, ..there.unwrap_or(copied) };
        let soon = match (k.at, v.at) {
            // Keys are read one after the other, and then the values of the same.
            (Elements::F32(_), Elements::F32(_)) => {
                [Soon::of(&k, row(first + AHEAD), count, d), Soon::of(&v, row(first), count, e)]
            }
            // This block has been read.
            _ => {
                let (next, count) = (row(first + count), (run.len() - count).min(KEYS));
                [Soon::of(&k, next, count, d), Soon::of(&v, next, count, e)]
            }
        };
        Source { first, keys, values, copied, soon }
    }
}

/// Rows that can be used where they lie.
fn adjacent(x: &Strided<Elements, 4>, index: [usize; 4], width: usize) -> Option<Rows> {
    match (x.at, x.strides) {
        (Elements::F32(at), [.., stride, 1]) => Some(Rows { at: at.wrapping_add(x.offset(index)), stride, width }),
        _ => None,
    }
}

/// Copies some columns of rows to the same columns of others. Those beyond become zeros.
struct Copied<'a> {
    x: &'a Strided<Elements, 4>,
    /// The first row.
    at: [usize; 4],
    count: usize,
    columns: Range<usize>,
    /// Elements from row to row of the copy.
    stride: usize,
    to: &'a mut [f32],
}

impl Kernel for Copied<'_> {
    type Output = Rows;

    #[inline(always)]
    fn call<S: Simd>(self, s: S) -> Rows {
        let Copied { x, at, count, columns: Range { start, end }, stride, to } = self;
        let copy = Rows { at: to.as_ptr(), stride, width: end };
        if start == end {
            return copy;
        }
        let ([.., row, step], offset) = (x.strides, x.offset(at));
        for (i, to) in to.chunks_exact_mut(stride).take(count).enumerate() {
            let (first, mut column) = (offset + i * row, start);
            // SAFETY: `Source::new` vouches for the rows; a vector of a copied row lies within its columns.
            unsafe {
                match x.at {
                    Elements::F32(p) => (start..end).for_each(|column| to[column] = *p.add(first + column * step)),
                    Elements::F16(p) => {
                        while step == 1 && column + S::LANES <= end {
                            let wide = s.load_f16(p.add(first + column).cast());
                            s.store(to[column..column + S::LANES].as_mut_ptr(), wide);
                            column += S::LANES;
                        }
                        (column..end).for_each(|column| to[column] = (*p.add(first + column * step)).to_f32());
                    }
                }
            }
            to[end..].fill(0.0);
        }
        copy
    }
}
