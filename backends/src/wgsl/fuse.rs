//! Maps that follow one another and do not depend on one another become one dispatch, since a
//! dispatch costs more than most maps: rope on queries and keys with the appends to both caches is
//! one launch of a decoder's layer.

use castiron_ir::Dim;
use castiron_runtime::program::view::{Place, View};
use castiron_runtime::program::{EntryProgram, Kernel, KernelBody};

use super::MAX_BINDINGS;
use super::shader::dim_text;

/// Cuts a sequence of kernels into runs that are one launch each.
pub(super) fn groups<'n>(entry: &EntryProgram, numbers: &'n [u32]) -> Vec<&'n [u32]> {
    let mut groups = Vec::new();
    let mut start = 0;
    for end in 1..=numbers.len() {
        if end == numbers.len() || !may_join(entry, &numbers[start..end], numbers[end]) {
            groups.push(&numbers[start..end]);
            start = end;
        }
    }
    groups
}

fn may_join(entry: &EntryProgram, group: &[u32], next: u32) -> bool {
    let kernel = |number: u32| &entry.kernels[number as usize];
    let mut all: Vec<&Kernel> = group.iter().map(|&number| kernel(number)).collect();
    let next = kernel(next);
    let is_map = |k: &Kernel| matches!(&k.body, KernelBody::Rows(rows) if rows.operands.program.is_map());
    if !all.iter().all(|k| is_map(k)) || !is_map(next) || !all.iter().all(|k| are_independent(k, next)) {
        return false;
    }
    all.push(next);
    let mut places: Vec<Place> = Vec::new();
    for place in all.iter().flat_map(|k| touched(k)) {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    // One more is for the report of indices out of range.
    places.len() < MAX_BINDINGS
}

fn are_independent(a: &Kernel, b: &Kernel) -> bool {
    let writes = |k: &Kernel| -> Vec<Place> { k.body.views().1.iter().map(|view| view.place.clone()).collect() };
    let clashes = |written: &[Place], other: &Kernel| touched(other).iter().any(|place| written.contains(place));
    !clashes(&writes(a), b) && !clashes(&writes(b), a)
}

/// All memory that a kernel reads or writes.
fn touched(kernel: &Kernel) -> Vec<Place> {
    let (reads, writes) = kernel.body.views();
    let places = |view: &View| {
        let index = view.indirect.as_ref().map(|indirect| indirect.indices.place.clone());
        [Some(view.place.clone()), index].into_iter().flatten().collect::<Vec<_>>()
    };
    let all = reads.into_iter().chain(writes).flat_map(places);
    all.filter(|place| !matches!(place, Place::Index(_) | Place::Extent(_))).collect()
}

/// The number of workgroups of some grids, as an expression.
pub(super) fn count_text(grids: &[Vec<(Dim, u32)>]) -> String {
    let count = |grid: &Vec<(Dim, u32)>| {
        let factors = grid.iter().map(|(extent, tile)| extent.div_ceil((*tile).into()));
        factors.fold(Dim::constant(1), |product, factor| product * factor)
    };
    dim_text(&grids.iter().map(count).fold(Dim::constant(0), |sum, n| sum + n))
}
