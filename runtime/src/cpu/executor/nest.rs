//! Iteration spaces made simple: rows as long, and outer axes as few, as the operands' strides allow.

use crate::bind::view::{FlatView, Memory};
use crate::program::row::{Access, RowProgram};

use super::parts::has_place;

/// What a row costs besides its elements, and an element that does not lie beside the one before: in dense
/// elements.
const ROW: u128 = 32;
const SPARSE: u128 = 4;

/// A row program over an iteration space whose last axis is the row.
#[derive(Clone, Debug)]
pub(super) struct Nest {
    /// Whether the first axis is time, which stays as it is.
    pub timed: bool,
    pub extents: Vec<usize>,
    pub program: RowProgram,
    /// Inputs that come before `inputs`: accumulators.
    pub given: usize,
    pub inputs: Vec<FlatView>,
    pub outputs: Vec<FlatView>,
}

impl Nest {
    /// Elements of a row.
    pub fn row(&self) -> usize {
        self.extents.last().copied().unwrap_or(1)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.outer().iter().product()
    }

    /// Extents of the outer axes.
    pub fn outer(&self) -> &[usize] {
        self.extents.split_last().map_or(&[], |(_, outer)| outer)
    }

    /// Whether rows may be cut and joined: a map that does not ask where it is, and that does not carry one
    /// value for a row through time, which each part would do again.
    pub fn is_divisible(&self) -> bool {
        let is_single = |view: &FlatView| view.strides.last() == Some(&0);
        let carries_single = self.timed && self.row() > 1 && self.outputs.iter().any(is_single);
        self.program.is_map() && !has_place(&self.program) && !carries_single
    }

    /// Removes outer axes of one element and joins those that lie one in another.
    pub fn simplify_outer(&mut self) {
        let first = usize::from(self.timed);
        for axis in (first..self.extents.len() - 1).rev() {
            if self.extents[axis] == 1 {
                self.remove(axis);
            }
        }
        for axis in (first + 1..self.extents.len() - 1).rev() {
            if self.views().all(|view| is_nested(view, axis, self.extents[axis])) {
                self.join(axis);
            }
        }
    }

    /// Makes rows of a divisible program longer.
    pub fn simplify_row(&mut self) {
        if !self.is_divisible() || self.given > 0 {
            return;
        }
        let least = 1 + usize::from(self.timed);
        if self.row() == 1 && self.extents.len() > least {
            self.turn();
        }
        if let Some(axis) = self.better_row() {
            self.exchange(axis);
            self.simplify_outer();
        }
        while self.extents.len() > least && self.can_lengthen() {
            self.join(self.extents.len() - 1);
        }
    }

    fn views(&self) -> impl Iterator<Item = &FlatView> {
        self.inputs.iter().chain(&self.outputs)
    }

    fn views_mut(&mut self) -> impl Iterator<Item = &mut FlatView> {
        self.inputs.iter_mut().chain(&mut self.outputs)
    }

    /// Takes an axis away; the views stay at its first index.
    fn remove(&mut self, axis: usize) {
        self.extents.remove(axis);
        for view in self.views_mut() {
            view.strides.remove(axis);
            if let Some(index) = &mut view.index {
                index.strides.remove(axis);
            }
            match &mut view.memory {
                Memory::Index(of) if *of == axis => view.memory = Memory::Value(0.0),
                Memory::Index(of) if *of > axis => *of -= 1,
                _ => {}
            }
        }
    }

    /// Joins an axis with the one before it, whose strides it keeps.
    fn join(&mut self, axis: usize) {
        self.extents[axis] *= self.extents[axis - 1];
        self.remove(axis - 1);
    }

    /// Whether the last outer axis continues the row in every operand.
    fn can_lengthen(&self) -> bool {
        let (axis, row) = (self.extents.len() - 2, self.row());
        let inputs = self.inputs.iter().zip(&self.program.inputs).map(|(view, &access)| (view, access));
        let levels = self.program.levels();
        let stored = |&node: &u16| if levels[usize::from(node)].varies { Access::Element } else { Access::Uniform };
        let outputs = self.outputs.iter().zip(self.program.stores.iter().map(stored));
        inputs.chain(outputs).all(|(view, access)| {
            let by_index = view.index.as_ref().map_or(0, |index| index.strides[axis]);
            let stride = view.strides[axis];
            let continues = match access {
                Access::Uniform => stride == 0,
                Access::Element => stride == view.strides[axis + 1].saturating_mul(row) && !is_packed(view),
            };
            by_index == 0 && continues && view.memory != Memory::Index(axis)
        })
    }

    /// An outer axis along which the program is evaluated in clearly less time than along the row: rows
    /// are longer there, or operands dense.
    fn better_row(&self) -> Option<usize> {
        let row = self.extents.len() - 1;
        // A result that is one for the row would become one for several rows.
        let is_single = |view: &FlatView| view.strides[row] == 0 && self.row() > 1;
        if self.views().any(is_packed) || self.outputs.iter().any(is_single) {
            return None;
        }
        let is_free = |&axis: &usize| {
            let by_index = |view: &FlatView| view.index.as_ref().is_some_and(|index| index.strides[axis] != 0);
            !self.views().any(|view| by_index(view) || view.memory == Memory::Index(axis))
        };
        let best = (usize::from(self.timed)..row).filter(is_free).min_by_key(|&axis| self.cost(axis))?;
        (4 * self.cost(best) < 3 * self.cost(row)).then_some(best)
    }

    /// Time for all rows along an axis, in units of a dense element.
    fn cost(&self, axis: usize) -> u128 {
        let each = |view: &FlatView| match view.strides[axis] {
            0 => 0,
            1 => 1,
            _ => SPARSE,
        };
        let (size, extent) = (self.extents.iter().map(|&n| n as u128).product::<u128>(), self.extents[axis] as u128);
        size / extent * ROW + size * self.views().map(each).sum::<u128>()
    }

    /// Exchanges an outer axis with the row.
    fn exchange(&mut self, axis: usize) {
        let row = self.extents.len() - 1;
        self.extents.swap(axis, row);
        for view in self.views_mut() {
            view.strides.swap(axis, row);
            if let Some(index) = &mut view.index {
                index.strides.swap(axis, row);
            }
        }
        self.program.inputs = self.accesses(row);
    }

    /// How inputs vary along an axis.
    fn accesses(&self, axis: usize) -> Vec<Access> {
        let access = |view: &FlatView| if view.strides[axis] == 0 { Access::Uniform } else { Access::Element };
        self.inputs.iter().map(access).collect()
    }

    /// Rows of one element: makes the last outer axis the row, where its operands are ready for that.
    fn turn(&mut self) {
        let axis = self.extents.len() - 2;
        let by_index = |view: &FlatView| view.index.as_ref().is_some_and(|index| index.strides[axis] != 0);
        let is_bound = |view: &FlatView| {
            by_index(view) || view.memory == Memory::Index(axis) || is_packed(view) && view.strides[axis] != 0
        };
        if self.views().any(is_bound) {
            return;
        }
        self.program.inputs = self.accesses(axis);
        let row = axis + 1;
        self.remove(row);
    }
}

/// Whether an axis continues the one before it, as if they were one.
fn is_nested(view: &FlatView, axis: usize, extent: usize) -> bool {
    let continues = |strides: &[usize]| strides[axis - 1] == strides[axis].saturating_mul(extent);
    let is_index = matches!(view.memory, Memory::Index(of) if of == axis || of == axis - 1);
    continues(&view.strides) && !is_index && view.index.as_ref().is_none_or(|index| continues(&index.strides))
}

fn is_packed(view: &FlatView) -> bool {
    matches!(view.memory, Memory::Packed(..))
}

#[cfg(test)]
mod tests {
    use castiron_ir::DType;

    use super::*;
    use crate::program::row::RowNode;

    fn view(strides: &[usize]) -> FlatView {
        let (memory, strides) = (Memory::Buffer(0), strides.to_vec());
        FlatView { memory, dtype: DType::F32, offset: 0, strides, index: None }
    }

    fn copy(extents: &[usize], access: Access, from: &[usize], to: &[usize]) -> Nest {
        let program = RowProgram { inputs: vec![access], nodes: vec![RowNode::Input(0)], stores: vec![0] };
        let mut nest = Nest {
            timed: false,
            extents: extents.to_vec(),
            program,
            given: 0,
            inputs: vec![view(from)],
            outputs: vec![view(to)],
        };
        nest.simplify_outer();
        nest.simplify_row();
        nest
    }

    #[test]
    fn contiguous_copies_are_one_row() {
        let nest = copy(&[2, 1, 3, 4], Access::Element, &[12, 12, 4, 1], &[12, 12, 4, 1]);
        assert_eq!((nest.extents, nest.inputs[0].strides.as_slice()), (vec![24], &[1][..]));
        let nest = copy(&[2, 3, 1], Access::Uniform, &[3, 1, 0], &[3, 1, 0]);
        assert_eq!((nest.extents, nest.program.inputs), (vec![6], vec![Access::Element]));
    }

    #[test]
    fn short_rows_give_way_to_long_ones() {
        // Three taps at each of 50 positions, with the channels between them.
        let nest = copy(&[50, 8, 3], Access::Element, &[1, 60, 1], &[24, 3, 1]);
        assert_eq!((nest.extents, nest.inputs[0].strides.as_slice()), (vec![3, 8, 50], &[1, 60, 1][..]));
        let nest = copy(&[50, 40], Access::Element, &[1, 50], &[1, 50]);
        assert_eq!(nest.extents, [2000]);
        let nest = copy(&[50, 64], Access::Element, &[1, 50], &[64, 1]);
        assert_eq!(nest.extents, [50, 64]);
    }

    #[test]
    fn transposes_stay_rows() {
        let nest = copy(&[2, 3, 4], Access::Element, &[4, 8, 1], &[12, 4, 1]);
        assert_eq!(nest.extents, [2, 3, 4]);
        let nest = copy(&[2, 3, 4], Access::Uniform, &[3, 1, 0], &[12, 4, 1]);
        assert_eq!(nest.extents, [6, 4]);
    }
}
