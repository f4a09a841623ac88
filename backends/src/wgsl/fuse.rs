//! Maps that follow one another and do not depend on one another become one dispatch, since a
//! dispatch costs more than most maps: rope on queries and keys with the appends to both caches is
//! one launch of a decoder's layer.
//!
//! A norm before a product of one row becomes part of it: every workgroup normalises the row again, which
//! costs less than a dispatch.

use castiron_ir::Dim;
use castiron_runtime::program::view::{Place, View};
use castiron_runtime::program::{EntryProgram, Kernel, KernelBody, Matmul, Rows};

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

/// The norm and the product that are one launch, if kernel `second` reads nothing but rows that kernel
/// `first` writes for it alone.
pub(super) fn norm_and_product(entry: &EntryProgram, first: u32, second: u32) -> Option<(&Rows, &Matmul)> {
    let [a, b] = [first, second].map(|number| &entry.kernels[number as usize]);
    let (KernelBody::Rows(rows), KernelBody::Matmul(matmul)) = (&a.body, &b.body) else { return None };
    let ([out], Place::Buffer(number)) = (rows.operands.outputs.as_slice(), &matmul.x.place) else { return None };
    let program = &rows.operands.program;
    let varies = program.levels()[usize::from(program.stores[0])].varies;
    let (outer, outer_of_rows) = (matmul.space.split_last()?.1, rows.space.split_last()?.1);
    let buffer = &entry.buffers[*number as usize];
    let is_own = (buffer.first, buffer.last) == (first, second);
    let others = matmul.epilogue.inputs.iter().all(|view| view.place != matmul.x.place);
    // A workgroup may write while others still read the row.
    let reads: Vec<Place> = rows.operands.inputs.iter().map(|view| view.place.clone()).collect();
    let is_apart = matmul.epilogue.outputs.iter().all(|view| !reads.contains(&view.place));
    let is_fit = matmul.chosen.is_none()
        && !program.is_map()
        && varies
        && *out == matmul.x
        && outer == outer_of_rows
        && is_own
        && others;
    (is_fit && is_apart).then_some((rows, matmul))
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
