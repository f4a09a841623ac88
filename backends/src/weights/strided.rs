//! Matrices whose rows lie in stored tensors: what a weight expression of params, slices, transposes
//! and concatenations comes to, without evaluating it.

use castiron_ir::op::{Op, Slice};
use castiron_ir::{Region, Storage, ValueId};

/// Rows of a stored tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    /// Name template of the tensor.
    pub name: String,
    /// The index in the name that counts tensors of a stack, and which it is.
    pub at: Option<(String, usize)>,
    /// Its extents in the graph.
    pub stored_shape: Vec<usize>,
    /// First element.
    pub offset: usize,
    /// Extent of each axis.
    pub shape: Vec<usize>,
    /// Elements from one index to the next, for each axis.
    pub strides: Vec<usize>,
}

impl Part {
    /// Elements of one row, a run if it is stored as one.
    pub fn row(&self, row: usize) -> Run {
        Run { start: self.offset + row * self.strides[0], step: self.strides.get(1).copied().unwrap_or(1) }
    }

    /// Whether every row is a run of whole blocks of the storage.
    pub fn has_rows_of_blocks(&self, storage: Storage) -> bool {
        let (block, _) = storage.block();
        let (run, width) = (self.row(0), self.shape[1..].iter().product::<usize>());
        run.step == 1 && [run.start, self.strides[0], width].iter().all(|n| n.is_multiple_of(block))
    }

    /// The elements that the part can be read from: from its first to its last.
    pub fn range(&self) -> std::ops::Range<usize> {
        let last: usize = self.shape.iter().zip(&self.strides).map(|(n, stride)| n.saturating_sub(1) * stride).sum();
        self.offset..self.offset + last + 1
    }

    fn transposed(self, axes: &[usize]) -> Part {
        let pick = |from: &[usize]| axes.iter().map(|&a| from[a]).collect();
        Part { shape: pick(&self.shape), strides: pick(&self.strides), ..self }
    }

    fn sliced(mut self, slice: &Slice, axis: usize, shape: &[usize]) -> Option<Part> {
        let start = usize::try_from(slice.start.as_constant()?).ok()?;
        self.offset += start * self.strides[axis];
        self.strides[axis] *= slice.step.unwrap_or(1);
        Some(Part { shape: shape.to_vec(), ..self })
    }

    fn is_row_major(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(&n, &s)| {
            let fits = n == 1 || s == expected;
            expected *= n;
            fits
        })
    }
}

/// Equally spaced elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Run {
    /// The first.
    pub start: usize,
    /// Elements from one to the next.
    pub step: usize,
}

/// The value as parts that follow one another along axis 0, if it is that simple.
pub(super) fn parts(region: &Region, definitions: &[Option<usize>], value: ValueId) -> Option<Vec<Part>> {
    let node = &region.nodes[definitions[value.index()]?];
    let operand = || parts(region, definitions, node.operands[0]);
    let shape = constant_shape(region, value)?;
    match &node.op {
        Op::Param(param) if param.stack.is_none() => {
            let (name, strides) = (param.name.clone(), row_major(&shape));
            Some(vec![Part { name, at: None, stored_shape: shape.clone(), offset: 0, shape, strides }])
        }
        Op::Concat(concat) if concat.axis == 0 => {
            let each = node.operands.iter().map(|&o| parts(region, definitions, o));
            Some(each.collect::<Option<Vec<_>>>()?.concat())
        }
        Op::Transpose(transpose) => Some(vec![single(operand()?)?.transposed(&transpose.axes)]),
        Op::Slice(slice) => Some(vec![single(operand()?)?.sliced(slice, slice.axis, &shape)?]),
        Op::Reshape(_) => {
            let part = single(operand()?)?;
            part.is_row_major().then(|| vec![Part { strides: row_major(&shape), shape, ..part }])
        }
        _ => None,
    }
}

/// Element `number` along axis 0 of the value, as parts that follow one another along the next axis.
pub(super) fn element(
    region: &Region,
    definitions: &[Option<usize>],
    value: ValueId,
    number: usize,
) -> Option<Vec<Part>> {
    let node = &region.nodes[definitions[value.index()]?];
    let operand = |number| element(region, definitions, node.operands[0], number);
    let shape: Vec<usize> = constant_shape(region, value)?.split_off(1);
    match &node.op {
        Op::Param(param) => {
            let (name, strides) = (param.name.clone(), row_major(&shape));
            let (stored_shape, offset) = match param.stack {
                Some(_) => (shape.clone(), 0),
                None => (constant_shape(region, value)?, number * shape.iter().product::<usize>()),
            };
            let at = param.stack.clone().map(|index| (index, number));
            Some(vec![Part { name, at, stored_shape, offset, shape, strides }])
        }
        Op::Concat(concat) if concat.axis == 1 => {
            let each = node.operands.iter().map(|&o| element(region, definitions, o, number));
            Some(each.collect::<Option<Vec<_>>>()?.concat())
        }
        Op::Transpose(transpose) if transpose.axes[0] == 0 => {
            let axes: Vec<usize> = transpose.axes[1..].iter().map(|axis| axis - 1).collect();
            Some(vec![single(operand(number)?)?.transposed(&axes)])
        }
        Op::Slice(slice) if slice.axis == 0 => {
            operand(usize::try_from(slice.start.as_constant()?).ok()? + number * slice.step.unwrap_or(1))
        }
        Op::Slice(slice) => Some(vec![single(operand(number)?)?.sliced(slice, slice.axis - 1, &shape)?]),
        _ => None,
    }
}

fn constant_shape(region: &Region, value: ValueId) -> Option<Vec<usize>> {
    region.type_of(value).shape.iter().map(|d| usize::try_from(d.as_constant()?).ok()).collect()
}

fn single(parts: Vec<Part>) -> Option<Part> {
    <[Part; 1]>::try_from(parts).ok().map(|[part]| part)
}

fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (0..shape.len().saturating_sub(1)).rev() {
        strides[axis] = strides[axis + 1] * shape[axis + 1];
    }
    strides
}
