//! Attention with an online softmax: `softmax(scale · q·kᵀ + bias) · v` over the visible keys.
//!
//! ```text
//!   mod.rs      operands; which keys a query sees        tile.rs      a tile of queries by a run of keys
//!   plan.rs     how work is split over threads           dots.rs      scores of few queries
//!   state.rs    running sums; joining partial ones       softmax.rs   scores to weights
//!   source.rs   keys and values of a block
//! ```
//!
//! A tile holds queries of all heads that share a key head, so that one pass over K and V serves them
//! all. Its scores stand transposed, a key's 32 queries side by side:
//!
//! ```text
//!           32 queries                              softmax goes down the columns, lane by lane;
//!   keys ┌────────────┐   K is the left operand     then the same block is the left operand,
//!        │ K · Qᵀ     │   where it lies,            its rows adjacent, of a product with V,
//!        └────────────┘   Q becomes panels          where it lies
//! ```
//!
//! so neither K nor V is packed, unless its elements are apart or the columns of V are ragged. Narrower keys
//! are widened once where many queries see them; few queries, and all products with V, widen as
//! they load. A key's scale multiplies its scores, a value's scale the weights of its row. When there are fewer tiles than threads, or some would be left over, the keys are cut too, and
//! the partial sums are joined after a barrier.
//!
//! Figures: `cargo run --release -p castiron-runtime --example kernel_peak -- attention`.
#![allow(unsafe_code)] // Operands are pointers with strides.

mod dots;
mod plan;
mod softmax;
mod source;
mod state;
#[cfg(test)]
mod tests;
mod tile;

use std::ops::Range;

use half::f16;

use super::isa::Isa;
use super::live::Live;
use super::pool::Worker;
use super::scratch::Scratch;
use super::strided::Strided;
use plan::Plan;
use state::State;
use tile::{Room, Tile};

/// Keys or values in memory.
#[derive(Clone, Copy, Debug)]
pub enum Elements {
    /// As they are computed with.
    F32(*const f32),
    /// Widened when they are read.
    F16(*const f16),
    /// The same.
    I8(*const i8),
}

impl Elements {
    /// The address, and bytes of an element.
    fn bytes(self) -> (*const u8, usize) {
        match self {
            Elements::F32(at) => (at.cast(), size_of::<f32>()),
            Elements::F16(at) => (at.cast(), size_of::<f16>()),
            Elements::I8(at) => (at.cast(), size_of::<i8>()),
        }
    }

    /// So many elements later.
    fn skip(self, elements: usize) -> Elements {
        match self {
            Elements::F32(at) => Elements::F32(at.wrapping_add(elements)),
            Elements::F16(at) => Elements::F16(at.wrapping_add(elements)),
            Elements::I8(at) => Elements::I8(at.wrapping_add(elements)),
        }
    }
}

/// The fused op [`castiron_ir::op::Attention`] on numbers in memory. A query that sees no key gives zeros.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// Instruction set.
    pub isa: Isa,
    /// `[b, g, r, s, t, d, e]`: batch, key heads, query heads of one, queries, keys, key width, value width.
    pub extents: [usize; 7],
    /// Over `[b, g, r, s, d]`.
    pub q: Strided<*const f32, 5>,
    /// Over `[b, g, t, d]`; only keys that a query sees are read, and the same of `v`.
    pub k: Strided<Elements, 4>,
    /// Over `[b, g, t, e]`.
    pub v: Strided<Elements, 4>,
    /// Over `[b, g, t]`: what each key, and what each value, is multiplied with.
    pub scales: Option<[Strided<*const f32, 3>; 2]>,
    /// Over `[b, g, r, s, e]`.
    pub out: Strided<*mut f32, 5>,
    /// Over `[b]`: positions before the first query; 0 if absent.
    pub past: Option<Strided<*const i32, 1>>,
    /// Over `[b, t]`: a key of 0 is hidden.
    pub mask: Option<Strided<*const i32, 2>>,
    /// Over `[b, g, r, s, t]`: added to the scores.
    pub bias: Option<Strided<*const f32, 5>>,
    /// Over `[b, g, r, s]`: a score that takes part in the softmax without a key.
    pub sinks: Option<Strided<*const f32, 4>>,
    /// Factor of the scores.
    pub scale: f32,
    /// Scores become `cap · tanh(score / cap)` before the bias is added.
    pub soft_cap: Option<f32>,
    /// Whether query `i` of batch entry `n` sees only keys `j ≤ past[n] + i`.
    pub causal: bool,
    /// And only keys `j > past[n] + i - window`; without `causal` also only `j < past[n] + i + window`.
    pub window: Option<usize>,
    /// Queries `[b, s]` that are computed; the results of the others are left as they are.
    pub live: Option<&'a Live>,
}

impl Attention<'_> {
    /// Scratch that each thread needs.
    pub fn scratch_bytes(extents: &[usize; 7]) -> usize {
        Room::bytes(extents)
    }

    /// Elements of the memory that the threads of a region share, for just these extents: fewer queries
    /// may need more of it, as they are cut along the keys.
    pub fn shared_floats(extents: &[usize; 7], workers: usize) -> usize {
        Plan::shared_floats(extents, workers)
    }

    /// Computes this worker's share. Every worker of the region must call it, with the same operands.
    ///
    /// # Safety
    /// Every element that the strides reach can be read, of K and V those of keys that some query
    /// sees, and nobody writes them meanwhile. `out` can be written, and elements at different indices
    /// are apart. `shared` is the same memory for all workers, used for nothing else until all of
    /// them have returned.
    ///
    /// # Panics
    /// When scratch or shared memory is too small.
    pub unsafe fn run(&self, worker: Worker<'_>, scratch: &mut Scratch, shared: *mut [f32]) {
        // SAFETY: the caller vouches for `past`.
        let plan = unsafe { Plan::new(self, worker.count) };
        if plan.jobs == 0 {
            return;
        }
        let mut carver = scratch.carve();
        let mut room = Room::carve(&self.extents, &mut carver);
        if plan.parts == 1 {
            let memory = carver.take(plan.state_floats());
            for job in plan.jobs([worker.index, worker.count]) {
                let tile = self.tile(&plan, job);
                if tile.queries.is_empty() {
                    continue;
                }
                let mut state = State::of(memory, tile.rows(), self.extents[6]);
                // SAFETY: the caller's contract.
                unsafe {
                    tile.attend(tile.keys(), &mut state, &mut room);
                    tile.write(&state);
                }
            }
            return;
        }
        let size = plan.state_floats();
        assert!(plan.jobs * size <= shared.len(), "shared memory of attention");
        // SAFETY: the slot lies within the shared memory; before the barrier only the worker that has
        // the job touches it, and afterwards only the one that has the tile.
        let slot = |job: usize| unsafe { std::slice::from_raw_parts_mut(shared.cast::<f32>().add(job * size), size) };
        for job in plan.jobs([worker.index, worker.count]) {
            let tile = self.tile(&plan, job / plan.parts);
            if tile.queries.is_empty() {
                continue;
            }
            let mut state = State::of(slot(job), tile.rows(), self.extents[6]);
            // SAFETY: the caller's contract.
            unsafe { tile.attend(plan.part(tile.keys(), job % plan.parts), &mut state, &mut room) };
        }
        worker.barrier();
        for unit in worker.range(plan.jobs / plan.parts, 1) {
            let tile = self.tile(&plan, unit);
            if tile.queries.is_empty() {
                continue;
            }
            let (first, rest) = (unit * plan.parts, 1..plan.parts);
            let mut total = State::of(slot(first), tile.rows(), self.extents[6]);
            for part in rest {
                total.join(self.isa, &State::of(slot(first + part), tile.rows(), self.extents[6]));
            }
            // SAFETY: the caller's contract.
            unsafe { tile.write(&total) };
        }
    }

    /// Tile number `unit`.
    fn tile(&self, plan: &Plan, unit: usize) -> Tile<'_> {
        let (head, tile) = (unit / plan.tiles, unit % plan.tiles);
        let (first, batch) = (tile * plan.positions, head / self.extents[1]);
        let queries = first..self.extents[3].min(first + plan.positions);
        let queries = self.live.map_or(queries.clone(), |live| live.of_text(batch, queries));
        Tile { attention: self, batch, head: head % self.extents[1], queries }
    }

    /// The keys that a query sees, apart from masks. Both ends grow with the query.
    ///
    /// # Safety
    /// `past` can be read at `batch`.
    unsafe fn visible(&self, batch: usize, query: usize) -> Range<usize> {
        if self.window == Some(0) {
            return 0..0;
        }
        let keys = self.extents[4] as i64;
        // SAFETY: the caller's contract.
        let past = self.past.map_or(0, |past| unsafe { *past.at.add(past.offset([batch])) });
        let next = i64::from(past) + query as i64 + 1;
        let window = self.window.map_or(i64::MAX, |window| i64::try_from(window).unwrap_or(i64::MAX));
        let end = if self.causal { next } else { next.saturating_add(window - 1) }.clamp(0, keys);
        next.saturating_sub(window).clamp(0, end) as usize..end as usize
    }

    /// The keys that at least one of some queries sees.
    ///
    /// # Safety
    /// As [`Attention::visible`].
    unsafe fn visible_to_any(&self, batch: usize, queries: Range<usize>) -> Range<usize> {
        // SAFETY: the caller's contract.
        let (first, last) = unsafe { (self.visible(batch, queries.start), self.visible(batch, queries.end - 1)) };
        first.start..last.end
    }

    /// The keys from the first one that the mask does not hide to the last.
    ///
    /// # Safety
    /// The mask can be read at `batch`.
    unsafe fn unmasked(&self, batch: usize) -> Range<usize> {
        let keys = 0..self.extents[4];
        let Some(mask) = self.mask else { return keys };
        // SAFETY: the caller's contract.
        let is_seen = |&key: &usize| unsafe { *mask.at.add(mask.offset([batch, key])) != 0 };
        let Some(first) = keys.clone().find(is_seen) else { return 0..0 };
        first..keys.clone().rev().find(is_seen).map_or(first, |last| last + 1)
    }
}
