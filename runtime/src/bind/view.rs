//! Views in numbers, and their bounds.

use castiron_ir::{DType, Dim};

use super::BindFault;
use super::symbols::{SymbolTable, Values};
use crate::program::view::{Place, View};
use crate::program::{EntryProgram, Program, WeightForm};
use crate::tensor::tensor_bytes;
use crate::weights::PackedMatrix;

/// Where a view lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Memory {
    /// A buffer of the entry, or after these a temporary one.
    Buffer(usize),
    Input(usize),
    Output(usize),
    State(usize),
    Weight(usize),
    /// A row of a packed weight.
    Packed(usize, PackedMatrix),
    /// The index along an outer axis.
    Index(usize),
    /// A number.
    Value(f32),
}

/// A view whose sizes are numbers; all in elements.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FlatView {
    pub memory: Memory,
    pub dtype: DType,
    pub offset: usize,
    pub strides: Vec<usize>,
    pub index: Option<FlatIndex>,
}

/// The part of an address that is read from memory.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FlatIndex {
    pub memory: Memory,
    pub dtype: DType,
    pub offset: usize,
    pub strides: Vec<usize>,
    /// Elements that one step of the index skips.
    pub step: usize,
    /// Indices lie below it.
    pub extent: usize,
}

impl FlatIndex {
    /// A view of indices that lie below `extent`.
    pub fn of(view: FlatView, extent: usize) -> FlatIndex {
        let FlatView { memory, dtype, offset, strides, .. } = view;
        FlatIndex { memory, dtype, offset, strides, step: 1, extent }
    }
}

impl FlatView {
    /// The last element that the view reaches over an iteration space.
    pub fn last(&self, extents: &[usize]) -> Option<usize> {
        let last = last_index(self.offset, &self.strides, extents)?;
        match &self.index {
            Some(index) => last.checked_add(index.step.checked_mul(index.extent.saturating_sub(1))?),
            None => Some(last),
        }
    }

    /// A row-major buffer.
    pub fn row_major(memory: Memory, dtype: DType, extents: &[usize]) -> FlatView {
        let mut strides = vec![1; extents.len()];
        for axis in (1..extents.len()).rev() {
            strides[axis - 1] = strides[axis] * extents[axis];
        }
        FlatView { memory, dtype, offset: 0, strides, index: None }
    }

    /// Whether elements of a type lie in memory, at addresses that follow from the index alone.
    pub fn is_plain(&self, dtype: DType) -> bool {
        let is_memory = !matches!(self.memory, Memory::Packed(..) | Memory::Index(_) | Memory::Value(_));
        is_memory && self.dtype == dtype && self.index.is_none()
    }
}

fn last_index(offset: usize, strides: &[usize], extents: &[usize]) -> Option<usize> {
    let mut axes = strides.iter().zip(extents);
    axes.try_fold(offset, |at, (&stride, &extent)| at.checked_add(stride.checked_mul(extent.saturating_sub(1))?))
}

/// Turns views into numbers under a binding.
pub(crate) struct Resolver<'a> {
    pub program: &'a Program,
    pub entry: &'a EntryProgram,
    pub table: &'a SymbolTable,
    pub values: &'a Values,
}

impl Resolver<'_> {
    pub fn dim(&self, dim: &Dim) -> Result<usize, BindFault> {
        Ok(self.table.evaluate(dim, self.values)?)
    }

    pub fn dims(&self, dims: &[Dim]) -> Result<Vec<usize>, BindFault> {
        dims.iter().map(|dim| self.dim(dim)).collect()
    }

    /// A view over `extents`, none of which is 0, with every address within its memory.
    pub fn view(&self, operand: &str, view: &View, extents: &[usize]) -> Result<FlatView, BindFault> {
        let mut flat = FlatView {
            memory: self.memory(&view.place)?,
            dtype: view.dtype,
            offset: self.dim(&view.offset)?,
            strides: self.dims(&view.strides)?,
            index: None,
        };
        if let Some(indirect) = &view.indirect {
            let indices = self.view(&format!("the index of {operand}"), &indirect.indices, extents)?;
            if extents.last().is_some_and(|&n| n > 1) && indices.strides.last().is_some_and(|&stride| stride != 0) {
                return Err(BindFault::VaryingIndex(operand.to_owned()));
            }
            let FlatView { memory, dtype, offset, strides, .. } = indices;
            let (step, extent) = (self.dim(&indirect.stride)?, self.dim(&indirect.extent)?);
            flat.index = Some(FlatIndex { memory, dtype, offset, strides, step, extent });
        }
        match flat.memory {
            Memory::Index(_) | Memory::Value(_) => {
                flat.strides.fill(0);
                Ok(flat)
            }
            Memory::Packed(_, matrix) => self.check_packed(operand, &flat, &matrix, extents).map(|()| flat),
            _ => self.check_bounds(operand, &flat, extents).map(|()| flat),
        }
    }

    /// The memory of a place.
    pub fn memory(&self, place: &Place) -> Result<Memory, BindFault> {
        Ok(match *place {
            Place::Buffer(number) => Memory::Buffer(number as usize),
            Place::Input(number) => Memory::Input(number as usize),
            Place::Output(number) => Memory::Output(number as usize),
            Place::State(number) => Memory::State(number as usize),
            Place::Weight(number) => match self.program.weights[number as usize].form {
                WeightForm::Dense { .. } | WeightForm::Stack { .. } => Memory::Weight(number as usize),
                WeightForm::Packed(matrix) => Memory::Packed(number as usize, matrix),
            },
            Place::Index(axis) => Memory::Index(axis as usize),
            Place::Extent(ref dim) => Memory::Value(self.dim(dim)? as f32),
        })
    }

    /// The matrices that a product with a packed weight takes.
    pub fn matrices(&self, weight: u32) -> Result<(usize, PackedMatrix), BindFault> {
        let form = &self.program.weights[weight as usize].form;
        form.matrices().ok_or(BindFault::TooLarge("a dense weight"))
    }

    /// Bytes of the memory that a view lies in.
    pub fn bytes(&self, memory: Memory) -> Result<usize, BindFault> {
        let tensor = |ty: &castiron_ir::Type| {
            let shape = self.dims(&ty.shape)?;
            tensor_bytes(ty.dtype, &shape).ok_or(BindFault::TooLarge("a tensor"))
        };
        match memory {
            Memory::Buffer(number) => self.dim(&self.entry.buffers[number].bytes),
            Memory::Input(number) => tensor(&self.entry.inputs[number].1),
            Memory::Output(number) => tensor(&self.entry.outputs[number].1),
            Memory::State(number) => tensor(&self.program.states[number].ty),
            Memory::Weight(number) | Memory::Packed(number, _) => {
                self.program.weights[number].bytes(0).ok_or(BindFault::TooLarge("a weight"))
            }
            Memory::Index(_) | Memory::Value(_) => Ok(0),
        }
    }

    fn check_bounds(&self, operand: &str, view: &FlatView, extents: &[usize]) -> Result<(), BindFault> {
        let available = self.bytes(view.memory)?;
        let needed = view.last(extents).and_then(|last| last.checked_add(1)?.checked_mul(view.dtype.size()));
        match needed {
            Some(needed) if needed <= available => Ok(()),
            needed => {
                let needed = needed.unwrap_or(usize::MAX);
                Err(BindFault::Bounds { operand: operand.to_owned(), needed, available })
            }
        }
    }

    /// Rows of a packed weight are read one by one: outer strides are whole rows.
    fn check_packed(
        &self,
        operand: &str,
        view: &FlatView,
        matrix: &PackedMatrix,
        extents: &[usize],
    ) -> Result<(), BindFault> {
        let fault = || BindFault::PackedRow(operand.to_owned());
        let (&row, outer) = extents.split_last().ok_or_else(fault)?;
        let (&step, strides) = view.strides.split_last().ok_or_else(fault)?;
        let in_rows = |(&stride, &extent): (&usize, &usize)| extent == 1 || stride.is_multiple_of(matrix.k);
        let is_row = row == 1 || step <= 1 && view.offset % matrix.k + (row - 1) * step < matrix.k;
        let last = view.last(extents).ok_or_else(fault)?;
        let is_inside = last / matrix.k < matrix.n;
        let is_index_row = view.index.as_ref().is_none_or(|index| index.step.is_multiple_of(matrix.k));
        let is_right = is_row && is_inside && is_index_row && strides.iter().zip(outer).all(in_rows);
        if is_right { Ok(()) } else { Err(fault()) }
    }
}
