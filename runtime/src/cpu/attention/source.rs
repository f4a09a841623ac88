//! Keys and values of a block, and what is asked for from memory meanwhile.
//!
//! They are used where they lie if their elements are adjacent. Narrower keys than f32 that many queries see are
//! widened once for all of them.

use std::ops::Range;

use super::dots::Key;
use super::tile::{KEYS, Tile, columns};
use super::{Attention, Elements, Strided};
use crate::cpu::matmul::microkernel::Right;
use crate::cpu::simd::{Kernel, Simd};
use crate::weights::PANEL;

/// Rows between those in use and those asked for from memory.
const AHEAD: usize = 16;
/// Bytes of a cache line.
const LINE: usize = 64;

/// Rows somewhere in memory.
#[derive(Clone, Copy)]
pub(super) struct Rows<P> {
    /// The first element.
    pub at: P,
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
        let (at, size) = x.at.bytes();
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
    /// Keys: f32 if they meet many queries.
    pub keys: Rows<Elements>,
    /// Of the columns that are used in place.
    pub values: Rows<Right>,
    /// Of the other columns; column 0 of these rows is that of the value.
    pub copied: Rows<Right>,
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
        let keys = match (adjacent(&k, row(first), d), k.at) {
            (Some(there), Elements::F32(_)) => there,
            (Some(there), Elements::F16(_) | Elements::I8(_)) if tile.is_few() => there,
            _ => isa.run(Copied { x: &k, at: row(first), count, columns: 0..d, stride: d, to: keys }),
        };
        let there = adjacent(&v, row(first), e);
        // Products take whole panels of columns.
        let in_place = if there.is_some() { e - e % PANEL } else { 0 };
        let copied =
            isa.run(Copied { x: &v, at: row(first), count, columns: in_place..e, stride: columns(e), to: values });
        let values = Rows { width: in_place, ..there.unwrap_or(copied) };
        // Keys are read one after the other, and then the values of the same.
        let soon = [Soon::of(&k, row(first + AHEAD), count, d), Soon::of(&v, row(first), count, e)];
        Source { first, keys, values: values.into(), copied: copied.into(), soon }
    }
}

/// Rows that can be used where they lie.
fn adjacent(x: &Strided<Elements, 4>, index: [usize; 4], width: usize) -> Option<Rows<Elements>> {
    let ([.., stride, step], offset) = (x.strides, x.offset(index));
    (step == 1).then_some(Rows { at: x.at.skip(offset), stride, width })
}

impl From<Rows<Elements>> for Rows<Right> {
    fn from(Rows { at, stride, width }: Rows<Elements>) -> Rows<Right> {
        let at = match at {
            Elements::F32(at) => Right::F32(at),
            Elements::F16(at) => Right::F16(at),
            Elements::I8(at) => Right::I8(at),
        };
        Rows { at, stride, width }
    }
}

/// Copies some columns of rows, as f32, to the same columns of others. Those beyond become zeros.
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
    type Output = Rows<Elements>;

    #[inline(always)]
    fn call<S: Simd>(self, s: S) -> Rows<Elements> {
        let Copied { x, at, count, columns: Range { start, end }, stride, to } = self;
        let copy = Rows { at: Elements::F32(to.as_ptr()), stride, width: end };
        if start == end {
            return copy;
        }
        let ([.., row, step], offset) = (x.strides, x.offset(at));
        for (i, to) in to.chunks_exact_mut(stride).take(count).enumerate() {
            let first = offset + i * row;
            // SAFETY: `Source::new` vouches for the rows.
            unsafe {
                match x.at {
                    Elements::F32(p) => widen(s, p.add(first), step, start..end, to),
                    Elements::F16(p) => widen(s, p.add(first), step, start..end, to),
                    Elements::I8(p) => widen(s, p.add(first), step, start..end, to),
                }
            }
            to[end..].fill(0.0);
        }
        copy
    }
}

/// Copies columns of a row, `step` elements apart, as f32.
///
/// # Safety
/// They can be read from `row` on.
#[inline(always)]
unsafe fn widen<S: Simd, K: Key>(
    s: S,
    row: *const K,
    step: usize,
    Range { mut start, end }: Range<usize>,
    to: &mut [f32],
) {
    // SAFETY: the caller's contract; a vector lies within the columns.
    unsafe {
        while step == 1 && start + S::LANES <= end {
            s.store(to[start..start + S::LANES].as_mut_ptr(), K::load(s, row.add(start)));
            start += S::LANES;
        }
        (start..end).for_each(|column| to[column] = (*row.add(column * step)).wide());
    }
}
