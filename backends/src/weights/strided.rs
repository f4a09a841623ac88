//! Matrices whose rows lie in stored tensors: what a weight expression of params, slices, transposes
//! and concatenations comes to, without evaluating it.

use castiron_ir::op::Op;
use castiron_ir::{Region, Storage, ValueId};

/// Rows of a stored tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    /// Name template of the tensor.
    pub name: String,
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
    let shape: Vec<usize> =
        region.type_of(value).shape.iter().map(|d| usize::try_from(d.as_constant()?).ok()).collect::<Option<_>>()?;
    match &node.op {
        Op::Param(param) => {
            let strides = row_major(&shape);
            Some(vec![Part { name: param.name.clone(), stored_shape: shape.clone(), offset: 0, shape, strides }])
        }
        Op::Concat(concat) if concat.axis == 0 => {
            let each = node.operands.iter().map(|&o| parts(region, definitions, o));
            Some(each.collect::<Option<Vec<_>>>()?.concat())
        }
        Op::Transpose(transpose) => {
            let part = single(operand()?)?;
            let pick = |from: &[usize]| transpose.axes.iter().map(|&a| from[a]).collect();
            Some(vec![Part { shape: pick(&part.shape), strides: pick(&part.strides), ..part }])
        }
        Op::Slice(slice) => {
            let mut part = single(operand()?)?;
            let start = usize::try_from(slice.start.as_constant()?).ok()?;
            let step = slice.step.unwrap_or(1);
            part.offset += start * part.strides[slice.axis];
            part.strides[slice.axis] *= step;
            Some(vec![Part { shape, ..part }])
        }
        Op::Reshape(_) => {
            let part = single(operand()?)?;
            part.is_row_major().then(|| vec![Part { strides: row_major(&shape), shape, ..part }])
        }
        _ => None,
    }
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
