//! A tile of queries, all heads of a key head, that meets its keys block by block.
//!
//! ```text
//!   rows: query 0 of head 0, 1 …, query 1 of head 0, 1 …      panels of 32 rows
//!
//!   for a block of keys                       K and V of it stay in the cache
//!     for a panel of rows that sees any       scores → weights → sums of values
//! ```

use std::f32::consts::LOG2_E;
use std::ops::Range;

use super::dots::{self, Dots, Key};
use super::softmax::{Rescale, Scales, Shaping, Weigh};
use super::source::{Rows, Soon, Source};
use super::state::State;
use super::{Attention, Elements};
use crate::cpu::matmul::microkernel::{Block, Left, Right, Sums, Upcoming};
use crate::cpu::scratch::{Carver, Scratch};
use crate::cpu::simd;
use crate::weights::PANEL;

/// Rows of a panel: as wide as the tiles of products are.
pub(super) const LANES: usize = 2 * PANEL;
/// Rows of a tile, unless a single query has more heads.
pub(super) const ROWS: usize = 64;
/// Rows up to which scores are dot products along keys instead of a product of matrices.
pub(super) const FEW: usize = 8;
/// Keys of a block.
pub(super) const KEYS: usize = 64;

/// The next number of whole panels of rows.
pub(super) const fn padded(rows: usize) -> usize {
    rows.next_multiple_of(LANES)
}

/// The next number of columns that products with values have.
pub(super) const fn columns(e: usize) -> usize {
    e.next_multiple_of(PANEL)
}

/// Working memory of a tile.
pub(super) struct Room<'a> {
    /// `[row][d]` of few rows, else `[panel][d][32]`; scaled.
    queries: &'a mut [f32],
    /// First visible key and the end of them for each row, as numbers.
    begin: &'a mut [f32],
    end: &'a mut [f32],
    /// `[key][32]`
    scores: &'a mut [f32],
    bias: &'a mut [f32],
    rescale: &'a mut [f32],
    /// Copies of keys whose elements are apart, or of fewer bits where many queries see them.
    keys: &'a mut [f32],
    /// Copies of values whose elements are apart, or of their ragged columns.
    values: &'a mut [f32],
}

impl<'a> Room<'a> {
    /// Elements of each part for the largest tile, and of its state.
    fn sizes(&[_, _, r, s, _, d, e]: &[usize; 7]) -> [usize; 9] {
        let rows = if r * s <= FEW { r * s } else { r * (ROWS / r.max(1)).clamp(1, s.max(1)) };
        let (panels, d) = (padded(rows), d.next_multiple_of(simd::MOST_LANES));
        let block = KEYS * LANES;
        [panels * d, panels, panels, block, block, LANES, KEYS * d, KEYS * columns(e), State::floats(rows, e)]
    }

    /// Scratch for a room and a state.
    pub(super) fn bytes(extents: &[usize; 7]) -> usize {
        Room::sizes(extents).into_iter().map(Scratch::bytes_of::<f32>).sum()
    }

    /// The room, without the state.
    pub(super) fn carve(extents: &[usize; 7], carver: &mut Carver<'a>) -> Room<'a> {
        let [queries, begin, end, scores, bias, rescale, keys, values, _] = Room::sizes(extents);
        Room {
            queries: carver.take(queries),
            begin: carver.take(begin),
            end: carver.take(end),
            scores: carver.take(scores),
            bias: carver.take(bias),
            rescale: carver.take(rescale),
            keys: carver.take(keys),
            values: carver.take(values),
        }
    }
}

/// Copies a panel of queries of `d` adjacent elements, transposed and scaled.
struct Turn<'a, R> {
    /// Where the query of a lane begins; `d` elements can be read there.
    row: R,
    d: usize,
    factor: f32,
    /// `[d][32]`
    panel: &'a mut [f32],
}

impl<R: Fn(usize) -> *const f32> simd::Kernel for Turn<'_, R> {
    type Output = ();

    #[inline(always)]
    fn call<S: simd::Simd>(self, _: S) {
        const SIDE: usize = 4;
        let Turn { row, d, factor, panel } = self;
        for lane in (0..LANES).step_by(SIDE) {
            let rows: [*const f32; SIDE] = std::array::from_fn(|i| row(lane + i));
            for (i, out) in panel.chunks_exact_mut(SIDE * LANES).enumerate() {
                // SAFETY: `Turn` is made for rows that can be read.
                let x: [[f32; SIDE]; SIDE] =
                    std::array::from_fn(|r| unsafe { rows[r].add(i * SIDE).cast::<[f32; SIDE]>().read() });
                for (j, out) in out.chunks_exact_mut(LANES).enumerate() {
                    out[lane..lane + SIDE].copy_from_slice(&std::array::from_fn::<f32, SIDE, _>(|r| factor * x[r][j]));
                }
            }
            for i in d - d % SIDE..d {
                for (r, row) in rows.iter().enumerate() {
                    // SAFETY: as above.
                    panel[i * LANES + lane + r] = factor * unsafe { *row.add(i) };
                }
            }
        }
    }
}

/// Some queries of all heads that share a key head.
#[derive(Clone)]
pub(super) struct Tile<'a> {
    pub attention: &'a Attention<'a>,
    /// Batch entry.
    pub batch: usize,
    /// Key head.
    pub head: usize,
    /// Positions of the queries.
    pub queries: Range<usize>,
}

/// Part of a tile: rows of one panel, and the keys of a block that they see.
struct Part<'a> {
    rows: Range<usize>,
    keys: Range<usize>,
    /// Where the keys and values of the block are.
    source: &'a Source,
}

impl Tile<'_> {
    /// Queries times heads.
    pub(super) fn rows(&self) -> usize {
        self.queries.len() * self.attention.extents[2]
    }

    /// The keys that a query of the tile sees.
    ///
    /// # Safety
    /// As [`Attention::run`].
    pub(super) unsafe fn keys(&self) -> Range<usize> {
        // SAFETY: the caller's contract.
        let (seen, unmasked) = unsafe {
            (self.attention.visible_to_any(self.batch, self.queries.clone()), self.attention.unmasked(self.batch))
        };
        let start = seen.start.max(unmasked.start);
        start..seen.end.min(unmasked.end).max(start)
    }

    /// Whether its rows are worth no panels.
    pub(super) fn is_few(&self) -> bool {
        self.rows() <= FEW
    }

    /// Index of a row: batch entry, key head, head, query.
    fn index(&self, row: usize) -> [usize; 4] {
        let heads = self.attention.extents[2];
        [self.batch, self.head, row % heads, self.queries.start + row / heads]
    }

    /// Attends to some of the keys, from an empty state on.
    ///
    /// # Safety
    /// As [`Attention::run`]; some query of the tile sees each of the keys.
    pub(super) unsafe fn attend(&self, keys: Range<usize>, state: &mut State<'_>, room: &mut Room<'_>) {
        state.clear();
        // SAFETY: the caller's contract.
        unsafe {
            self.pack_queries(room);
            for first in keys.clone().step_by(KEYS) {
                let block = first..keys.end.min(first + KEYS);
                let source = Source::new(self, first..keys.end, room.keys, room.values);
                for row in (0..self.rows()).step_by(LANES) {
                    let rows = row..self.rows().min(row + LANES);
                    let seen = self.attention.visible_to_any(self.batch, self.queries_of(&rows));
                    let keys = block.start.max(seen.start)..block.end.min(seen.end);
                    if !keys.is_empty() {
                        self.meet(&Part { rows, keys, source: &source }, state, room);
                    }
                }
            }
        }
    }

    /// Positions of the queries of some rows.
    fn queries_of(&self, rows: &Range<usize>) -> Range<usize> {
        self.index(rows.start)[3]..self.index(rows.end - 1)[3] + 1
    }

    /// Copies the queries, scaled, and notes what they see.
    ///
    /// # Safety
    /// As [`Attention::run`].
    unsafe fn pack_queries(&self, room: &mut Room<'_>) {
        let Attention { q, scale, soft_cap, extents, .. } = *self.attention;
        let d = extents[5];
        let factor = soft_cap.map_or(scale * LOG2_E, |cap| scale / cap);
        let (width, panel) = (d.next_multiple_of(simd::MOST_LANES), LANES * d);
        let is_turned = d > 0 && !self.is_few() && self.rows().is_multiple_of(LANES) && q.strides[4] == 1;
        if !is_turned {
            room.queries.fill(0.0);
        }
        for row in 0..self.rows() {
            let [b, g, r, s] = self.index(row);
            // SAFETY: the caller vouches for `q` and `past`.
            let (seen, source) = unsafe { (self.attention.visible(b, s), q.at.add(q.offset([b, g, r, s, 0]))) };
            (room.begin[row], room.end[row]) = (seen.start as f32, seen.end as f32);
            let (start, step) =
                if self.is_few() { (row * width, 1) } else { (row / LANES * panel + row % LANES, LANES) };
            if is_turned {
                continue;
            }
            let packed = room.queries.iter_mut().skip(start).step_by(step);
            for (i, to) in packed.take(d).enumerate() {
                // SAFETY: as above.
                *to = factor * unsafe { *source.add(i * q.strides[4]) };
            }
        }
        if is_turned {
            let queries = &mut room.queries[..];
            for (number, panel) in queries.chunks_exact_mut(panel).take(self.rows() / LANES).enumerate() {
                let row = |lane: usize| {
                    let [b, g, r, s] = self.index(number * LANES + lane);
                    q.at.wrapping_add(q.offset([b, g, r, s, 0]))
                };
                // SAFETY: the caller vouches for `q`, whose elements are adjacent.
                self.attention.isa.run(Turn { row, d, factor, panel });
            }
        }
    }

    /// Adds the values of some keys, weighted, to the sums of some rows.
    ///
    /// # Safety
    /// As [`Attention::run`].
    unsafe fn meet(&self, part: &Part<'_>, state: &mut State<'_>, room: &mut Room<'_>) {
        let Part { rows, keys, source } = part;
        let isa = self.attention.isa;
        // SAFETY: the caller's contract; rows, keys and columns lie within the tile and the block.
        unsafe {
            self.score(part, room);
            self.copy_bias(part, room);
            let shaping = self.shaping(part, room.bias, room.begin, room.end);
            isa.run(Weigh {
                scores: &mut room.scores[..keys.len() * LANES],
                shaping,
                scales: self.scales(1, keys.start),
                queries: rows.len(),
                largest: &mut state.largest[rows.start..][..LANES],
                total: &mut state.total[rows.start..][..LANES],
                rescale: room.rescale,
            });
            let width = state.width;
            let mix = &mut state.mix[rows.start * width..rows.end * width];
            isa.run(Rescale { rows: mix, width, factors: room.rescale });
            let left = Left { at: room.scores.as_ptr(), row: 1, step: LANES };
            let mut column = 0;
            while column < width {
                let (values, end) = match column < source.values.width {
                    true => (source.values, source.values.width),
                    false => (source.copied, width),
                };
                let columns = if column + 2 * PANEL <= end { 2 * PANEL } else { PANEL };
                let right = values.at.skip((keys.start - source.first) * values.stride + column);
                let sums = Sums { at: mix.as_mut_ptr().add(column), row: width, add: true };
                let block = Block {
                    left,
                    right,
                    columns,
                    step: values.stride,
                    apart: PANEL,
                    k: keys.len(),
                    rows: rows.len(),
                    sums,
                    next: Upcoming::NONE,
                };
                block.multiply(isa);
                column += columns;
            }
        }
    }

    /// Scores `[key][32]` of a part.
    ///
    /// # Safety
    /// As [`Attention::run`].
    unsafe fn score(&self, part: &Part<'_>, room: &mut Room<'_>) {
        let Part { rows, keys, source } = part;
        let (d, Rows { at, stride, width }) = (self.attention.extents[5], source.keys);
        let skipped = (keys.start - source.first) * stride;
        // SAFETY: the keys are some of the block, the rows some of the tile.
        unsafe {
            match at {
                Elements::F32(at) if !self.is_few() => Block {
                    left: Left { at: at.add(skipped), row: stride, step: 1 },
                    right: Right::F32(room.queries[rows.start * d..].as_ptr()),
                    columns: columns(rows.len()),
                    step: LANES,
                    apart: PANEL,
                    k: d,
                    rows: keys.len(),
                    sums: Sums { at: room.scores.as_mut_ptr(), row: LANES, add: false },
                    next: Upcoming::NONE,
                }
                .multiply(self.attention.isa),
                Elements::F32(at) => self.score_few(part, Rows { at: at.add(skipped), stride, width }, room),
                Elements::F16(at) => self.score_few(part, Rows { at: at.add(skipped), stride, width }, room),
                Elements::I8(at) => self.score_few(part, Rows { at: at.add(skipped), stride, width }, room),
            }
        }
    }

    /// Scores of few rows, and the keys that they see.
    ///
    /// # Safety
    /// As [`Attention::run`].
    unsafe fn score_few<K: Key>(&self, part: &Part<'_>, keys: Rows<*const K>, room: &mut Room<'_>) {
        let Part { rows, source, .. } = part;
        let (isa, d, count) = (self.attention.isa, self.attention.extents[5], part.keys.len());
        let stride = d.next_multiple_of(simd::MOST_LANES);
        for row in rows.clone().step_by(dots::QUERIES) {
            let queries = Rows { at: room.queries[row * stride..].as_ptr(), stride, width: d };
            let scores = room.scores[row..].as_mut_ptr();
            let soon = if row == rows.start { source.soon } else { [Soon::NONE; 2] };
            match rows.end - row {
                1 => isa.run(Dots::<K, 1> { queries, keys, count, scores, soon }),
                2 => isa.run(Dots::<K, 2> { queries, keys, count, scores, soon }),
                _ => isa.run(Dots::<K, { dots::QUERIES }> { queries, keys, count, scores, soon }),
            }
        }
    }

    /// Copies the bias of a part to `[key][32]`.
    ///
    /// # Safety
    /// As [`Attention::run`].
    unsafe fn copy_bias(&self, part: &Part<'_>, room: &mut Room<'_>) {
        let Some(bias) = self.attention.bias else { return };
        for (lane, row) in part.rows.clone().enumerate() {
            let [b, g, r, s] = self.index(row);
            let start = bias.offset([b, g, r, s, part.keys.start]);
            for i in 0..part.keys.len() {
                // SAFETY: the caller vouches for the bias.
                let x = unsafe { *bias.at.add(start + i * bias.strides[4]) };
                // The lowest number hides a key only beside others: it must not become -∞.
                let hides = x == f32::NEG_INFINITY;
                room.bias[i * LANES + lane] = if hides { x } else { (x * LOG2_E).max(f32::MIN) };
            }
        }
    }

    /// Scales of keys (0) or of values (1) from a key on.
    fn scales(&self, of: usize, key: usize) -> Option<Scales> {
        let scales = &self.attention.scales.as_ref()?[of];
        let at = scales.at.wrapping_add(scales.offset([self.batch, self.head, key]));
        Some(Scales { at, stride: scales.strides[2] })
    }

    /// What is done to the scores of a part.
    ///
    /// # Safety
    /// As [`Attention::run`].
    unsafe fn shaping<'r>(&self, part: &Part<'_>, bias: &'r [f32], begin: &'r [f32], end: &'r [f32]) -> Shaping<'r> {
        let Attention { soft_cap, mask, bias: has_bias, .. } = *self.attention;
        let Part { rows, keys, .. } = part;
        let queries = self.queries_of(rows);
        // SAFETY: the caller vouches for `past` and the mask.
        let (first, last, mask) = unsafe {
            let visible = |query: usize| self.attention.visible(self.batch, query);
            let mask = mask.map(|mask| (mask.at.add(mask.offset([self.batch, keys.start])), mask.strides[1]));
            (visible(queries.start), visible(queries.end - 1), mask)
        };
        let is_ragged = keys.start < last.start || keys.end > first.end;
        Shaping {
            scales: self.scales(0, keys.start),
            cap: soft_cap.map(|cap| cap * LOG2_E),
            bias: has_bias.map(|_| bias),
            mask,
            limits: is_ragged.then(|| (keys.start, &begin[rows.start..][..LANES], &end[rows.start..][..LANES])),
        }
    }

    /// Writes the results.
    ///
    /// # Safety
    /// As [`Attention::run`].
    pub(super) unsafe fn write(&self, state: &State<'_>) {
        let Attention { out, sinks, extents: [.., e], .. } = *self.attention;
        for row in 0..self.rows() {
            let [b, g, r, s] = self.index(row);
            // SAFETY: the caller vouches for the sinks.
            let sink = sinks.map(|sinks| LOG2_E * unsafe { *sinks.at.add(sinks.offset([b, g, r, s])) });
            let inverse = state.inverse(row, sink);
            let mix = &state.mix[row * state.width..][..e];
            // SAFETY: the caller vouches for `out`.
            unsafe {
                let target = out.at.add(out.offset([b, g, r, s, 0]));
                if out.strides[4] == 1 {
                    let target = std::slice::from_raw_parts_mut(target, e);
                    target.iter_mut().zip(mix).for_each(|(to, x)| *to = x * inverse);
                    continue;
                }
                for (i, x) in mix.iter().enumerate() {
                    *target.add(i * out.strides[4]) = x * inverse;
                }
            }
        }
    }
}
