//! Hazards between threads: a result is written once at each address, and what a kernel writes it
//! reads only through the very same view, element by element.
//!
//! Both tests are sufficient, not necessary; what lowering makes of tensors passes them.

use super::BindFault;
use super::view::{FlatView, Memory};

/// A view with the extents over which it is used.
pub(crate) struct Span<'a> {
    pub name: &'a str,
    pub view: &'a FlatView,
    pub extents: &'a [usize],
    /// Whether row programs read it element by element, so that it may lie where a result does.
    pub in_place: bool,
}

/// Checks the operands of a kernel. No extent is 0.
///
/// # Errors
/// A result that may be written twice at one address, or memory that may be read or written by one
/// thread while another one writes it.
pub(crate) fn check(reads: &[Span<'_>], writes: &[Span<'_>]) -> Result<(), BindFault> {
    for (i, write) in writes.iter().enumerate() {
        if !is_injective(write) {
            return Err(BindFault::WrittenTwice(write.name.to_owned()));
        }
        let others = reads.iter().chain(&writes[i + 1..]);
        let clash = |other: &&Span<'_>| !is_same(other, write) && !are_apart(other, write);
        if let Some(other) = others.clone().find(clash) {
            let (read, written) = (other.name.to_owned(), write.name.to_owned());
            return Err(BindFault::Overlap { read, written });
        }
        let index = reads.iter().chain(writes).filter_map(|span| span.view.index.as_ref().map(|i| (span.name, i)));
        if let Some((name, _)) = index.clone().find(|(_, index)| may_alias(index.memory, write.view.memory)) {
            let read = format!("the index of {name}");
            return Err(BindFault::Overlap { read, written: write.name.to_owned() });
        }
    }
    Ok(())
}

/// Reading and writing the same elements in the same order.
fn is_same(read: &Span<'_>, write: &Span<'_>) -> bool {
    read.in_place && read.view == write.view && read.extents == write.extents && read.view.index.is_none()
}

fn may_alias(a: Memory, b: Memory) -> bool {
    match (a, b) {
        (Memory::Weight(_) | Memory::Packed(..) | Memory::Index(_) | Memory::Value(_), _) => false,
        (a, b) => a == b,
    }
}

/// Axes with more than one element, in ascending order of strides, in bytes.
fn axes(span: &Span<'_>) -> Vec<(usize, usize, usize)> {
    let size = span.view.dtype.size();
    let numbered = span.view.strides.iter().zip(span.extents).enumerate();
    let moving = numbered.filter(|(_, (_, extent))| **extent > 1);
    let mut axes: Vec<_> =
        moving.map(|(axis, (&stride, &extent))| (stride.saturating_mul(size), extent, axis)).collect();
    axes.sort_unstable();
    axes
}

/// Whether different indices have different addresses: each stride exceeds what the smaller ones,
/// and the index from memory if it varies along any of these axes, can add up to.
fn is_injective(span: &Span<'_>) -> bool {
    let size = span.view.dtype.size();
    let mut reach = size - 1;
    let mut index = span.view.index.as_ref();
    for (stride, extent, axis) in axes(span) {
        if let Some(varying) = index
            && varying.strides[axis] != 0
        {
            let span = varying.step.saturating_mul(size).saturating_mul(varying.extent.saturating_sub(1));
            reach = reach.saturating_add(span);
            index = None;
        }
        if stride <= reach {
            return false;
        }
        reach = reach.saturating_add(stride.saturating_mul(extent - 1));
    }
    true
}

/// Whether two views have no byte in common.
fn are_apart(a: &Span<'_>, b: &Span<'_>) -> bool {
    if !may_alias(a.view.memory, b.view.memory) {
        return true;
    }
    let boxes = [Bytes::new(a), Bytes::new(b)];
    let strides = boxes.iter().flat_map(|b| b.strides.iter().map(|&(stride, _)| stride));
    strides.chain([usize::MAX]).any(|modulus| are_apart_modulo(&boxes, modulus))
}

/// The bytes of a view: intervals of one element's size at all sums of strides.
struct Bytes {
    start: usize,
    size: usize,
    /// Strides other than 0 with what is one less than their extents.
    strides: Vec<(usize, usize)>,
}

impl Bytes {
    fn new(span: &Span<'_>) -> Bytes {
        let size = span.view.dtype.size();
        let mut strides: Vec<_> = axes(span).into_iter().map(|(stride, extent, _)| (stride, extent - 1)).collect();
        if let Some(index) = &span.view.index {
            strides.push((index.step.saturating_mul(size), index.extent.saturating_sub(1)));
        }
        strides.retain(|&(stride, most)| stride > 0 && most > 0);
        Bytes { start: span.view.offset * size, size, strides }
    }

    /// The interval that all bytes fall in modulo a stride, if the larger strides are multiples.
    fn modulo(&self, modulus: usize) -> Option<(usize, usize)> {
        let is_whole = self.strides.iter().all(|&(stride, _)| stride < modulus || stride.is_multiple_of(modulus));
        let smaller = self.strides.iter().filter(|&&(stride, _)| stride < modulus);
        let reach = smaller.fold(self.size, |sum, &(stride, most)| sum.saturating_add(stride.saturating_mul(most)));
        let start = self.start % modulus;
        let end = start.saturating_add(reach);
        (is_whole && end <= modulus).then_some((start, end))
    }
}

fn are_apart_modulo([a, b]: &[Bytes; 2], modulus: usize) -> bool {
    match (a.modulo(modulus), b.modulo(modulus)) {
        (Some(a), Some(b)) => a.1 <= b.0 || b.1 <= a.0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use castiron_ir::DType;

    use super::*;
    use crate::bind::view::FlatIndex;

    fn view(offset: usize, strides: &[usize]) -> FlatView {
        FlatView { memory: Memory::Buffer(0), dtype: DType::F32, offset, strides: strides.to_vec(), index: None }
    }

    fn result(write: &FlatView, extents: &[usize], read: Option<(&FlatView, &[usize])>) -> Result<(), BindFault> {
        let span = |view, extents, name| Span { name, view, extents, in_place: true };
        let reads: Vec<Span<'_>> = read.into_iter().map(|(view, extents)| span(view, extents, "x")).collect();
        check(&reads, &[span(write, extents, "y")])
    }

    #[test]
    fn each_element_is_written_once() {
        assert!(result(&view(0, &[4, 1]), &[3, 4], None).is_ok());
        assert!(result(&view(0, &[1, 3]), &[3, 4], None).is_ok());
        assert!(result(&view(0, &[0, 1]), &[1, 4], None).is_ok());
        for strides in [[0, 1], [3, 1], [1, 1]] {
            assert!(matches!(result(&view(0, &strides), &[3, 4], None), Err(BindFault::WrittenTwice(_))));
        }
    }

    #[test]
    fn positions_in_a_cache_stay_within_their_row() {
        // [b, s, d] into [b, c, d] at a position of each b.
        let (b, s, c, d) = (2, 3, 8, 4);
        let indices = |strides: [usize; 3], extent| FlatIndex {
            memory: Memory::Input(0),
            dtype: DType::I32,
            offset: 0,
            strides: strides.to_vec(),
            step: d,
            extent,
        };
        let write = |index| FlatView { index: Some(index), ..view(0, &[c * d, d, 1]) };
        assert!(result(&write(indices([1, 0, 0], c - s + 1)), &[b, s, d], None).is_ok());
        assert!(result(&write(indices([1, 0, 0], c)), &[b, s, d], None).is_err());
        assert!(result(&write(indices([0, 1, 0], c - s + 1)), &[b, s, d], None).is_err());
    }

    #[test]
    fn slices_of_one_buffer_are_told_apart() {
        let (q, k) = (view(0, &[12, 1]), view(8, &[12, 1]));
        assert!(result(&k, &[5, 4], Some((&q, &[5, 8]))).is_ok());
        assert!(matches!(result(&k, &[5, 4], Some((&q, &[5, 9]))), Err(BindFault::Overlap { .. })));
        assert!(result(&k, &[5, 4], Some((&k, &[5, 4]))).is_ok());
        assert!(result(&k, &[5, 4], Some((&view(9, &[12, 1]), &[5, 3]))).is_err());
    }
}
