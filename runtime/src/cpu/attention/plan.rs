//! How attention is split over threads: tiles of queries, and parts of the keys if tiles are few.

use std::ops::Range;

use super::Attention;
use super::state::State;
use super::tile::{FEW, LANES, ROWS};
use crate::cpu::pool::share;

/// Keys that a tile must see for a cut to pay.
const WORTH_CUTTING: usize = 128;
/// Parts of the keys are cut at multiples of this.
const GRAIN: usize = 16;
/// Tiles for each thread that even out their differences.
const PER_THREAD: usize = 4;

/// A division of the work, the same on every thread.
pub(super) struct Plan {
    /// Queries of a tile, of each head.
    pub positions: usize,
    /// Tiles of a key head.
    pub tiles: usize,
    /// Parts of the keys of each tile.
    pub parts: usize,
    /// Tiles, all heads together, times parts.
    pub jobs: usize,
    /// Rows of the highest tile.
    rows: usize,
    /// Width of a value.
    width: usize,
}

impl Plan {
    /// The plan for a number of threads.
    ///
    /// # Safety
    /// `past` can be read for each batch entry.
    pub(super) unsafe fn new(attention: &Attention<'_>, workers: usize) -> Plan {
        let mut plan = Plan::of_queries(&attention.extents, workers);
        let [b, _, _, s, ..] = attention.extents;
        if plan.jobs > 0 && plan.parts > 1 {
            // SAFETY: the caller's contract.
            let longest = (0..b).map(|batch| unsafe { attention.visible_to_any(batch, 0..s) }.len()).max();
            if longest < Some(WORTH_CUTTING) {
                plan.jobs /= plan.parts;
                plan.parts = 1;
            }
        }
        plan
    }

    /// The plan for as many keys as there may be.
    pub(super) fn of_queries(extents: &[usize; 7], workers: usize) -> Plan {
        let &[b, g, r, s, _, _, width] = extents;
        let heads = b * g;
        let least = if r * s <= FEW { 1 } else { s.div_ceil((ROWS / r.max(1)).max(1)) };
        // More tiles for the sake of balance, but none with less than a full vector of rows.
        let balanced = (PER_THREAD * workers).div_ceil(heads.max(1)).min(r * s / LANES);
        let positions = s.div_ceil(least.max(balanced).max(1)).max(1);
        let tiles = s.div_ceil(positions);
        let units = if r * width == 0 { 0 } else { heads * tiles };
        let is_even = units.is_multiple_of(workers) || units >= PER_THREAD * workers;
        let parts = if is_even { 1 } else { workers / greatest_common_divisor(units, workers) };
        Plan { positions, tiles, parts, jobs: units * parts, rows: r * positions, width }
    }

    /// Shared memory for any number of keys.
    pub(super) fn shared_floats(extents: &[usize; 7], workers: usize) -> usize {
        let plan = Plan::of_queries(extents, workers);
        if plan.parts > 1 { plan.jobs * plan.state_floats() } else { 0 }
    }

    /// Elements of a tile's state.
    pub(super) fn state_floats(&self) -> usize {
        State::floats(self.rows, self.width)
    }

    /// The jobs of worker `index` of `count`: to and fro, since later queries of a causal attention have more keys.
    pub(super) fn jobs(&self, [index, count]: [usize; 2]) -> impl Iterator<Item = usize> + use<> {
        let jobs = self.jobs;
        let place = move |round: usize| round * count + if round.is_multiple_of(2) { index } else { count - 1 - index };
        (0..jobs.div_ceil(count)).map(place).filter(move |&job| job < jobs)
    }

    /// One part of a tile's keys.
    pub(super) fn part(&self, keys: Range<usize>, part: usize) -> Range<usize> {
        let cut = share(keys.len(), GRAIN, part, self.parts);
        keys.start + cut.start..keys.start + cut.end
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
