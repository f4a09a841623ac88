//! Operands of bound kernels: how an address follows from the index, and what is done with it.
#![allow(unsafe_code)] // Addresses are pointers into memory that binding has checked.

use castiron_ir::DType;

use super::run::Run;
use crate::bind::view::{FlatIndex, FlatView};
use crate::weights::PackedMatrix;

/// A place in the memory of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address {
    /// Number of the memory, that of the first iteration if they differ.
    pub slot: usize,
    /// How many slots further the next iteration's is: 0 or 1.
    pub per_iteration: usize,
    /// Bytes from there.
    pub offset: usize,
}

impl Address {
    /// The first byte in an iteration.
    #[inline]
    pub fn pointer(&self, run: &Run<'_>) -> *mut u8 {
        run.bases[self.slot + self.per_iteration * run.iteration].wrapping_add(self.offset)
    }
}

/// An operand of a row program in memory.
#[derive(Clone, Debug)]
pub(super) struct Operand {
    pub address: Address,
    /// Bytes from one index of an outer axis to the next; elements for packed weights.
    pub strides: Box<[usize]>,
    /// Bytes from one element of the row to the next.
    pub step: usize,
    pub dtype: DType,
    pub mode: Mode,
    pub index: Option<Box<IndexOperand>>,
}

/// What becomes of an operand's memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mode {
    /// The row program works on it.
    Direct,
    /// It is converted or gathered, in scratch memory from float `.0` on.
    Staged(usize),
    /// One value of another type.
    Single,
    /// A result that is the same for the whole row, and repeated there.
    Fill,
    /// A row of a packed weight is unpacked to float `at` of the scratch memory.
    Packed { at: usize, matrix: PackedMatrix },
    /// The index along an outer axis.
    Index(usize),
    /// A number.
    Value(f32),
    /// The index of the first element of a part.
    Start,
}

/// Where an index is read, and what it means.
#[derive(Clone, Debug)]
pub(super) struct IndexOperand {
    pub address: Address,
    /// Bytes from one index of an outer axis to the next.
    pub strides: Box<[usize]>,
    pub is_wide: bool,
    /// What is added to the address for an index of 1, in the unit of the operand's strides.
    pub step: usize,
    /// Indices lie below it.
    pub extent: usize,
}

/// An index from memory that is out of range.
#[derive(Clone, Copy, Debug)]
pub(super) struct BadIndex {
    pub index: i64,
    pub extent: usize,
}

impl IndexOperand {
    pub fn new(index: &FlatIndex, address: Address, outer: usize, unit: usize) -> IndexOperand {
        let size = index.dtype.size();
        IndexOperand {
            address: Address { offset: index.offset * size, ..address },
            strides: index.strides[..outer].iter().map(|stride| stride.saturating_mul(size)).collect(),
            is_wide: index.dtype == DType::I64,
            step: index.step.saturating_mul(unit),
            extent: index.extent,
        }
    }

    /// The index, below its bound.
    ///
    /// # Safety
    /// The index of the axes lies in the bound iteration space.
    #[inline]
    pub unsafe fn index(&self, run: &Run<'_>, at: &[usize]) -> Result<usize, BadIndex> {
        let offset: usize = self.strides.iter().zip(at).map(|(stride, i)| stride * i).sum();
        // SAFETY: binding has checked every address of the iteration space.
        let index = unsafe {
            let pointer = self.address.pointer(run).add(offset);
            if self.is_wide {
                pointer.cast::<i64>().read_unaligned()
            } else {
                i64::from(pointer.cast::<i32>().read_unaligned())
            }
        };
        match usize::try_from(index) {
            Ok(inside) if inside < self.extent => Ok(inside),
            _ => Err(BadIndex { index, extent: self.extent }),
        }
    }
}

impl Operand {
    /// An operand over `outer` axes and the row; its mode is [`Mode::Direct`].
    pub fn new(view: &FlatView, address: Address, index: Option<Address>, outer: usize) -> Operand {
        let size = view.dtype.size();
        let unit = if matches!(view.memory, crate::bind::view::Memory::Packed(..)) { 1 } else { size };
        let index = view.index.as_ref().zip(index);
        Operand {
            address: Address { offset: view.offset * unit, ..address },
            strides: view.strides[..outer].iter().map(|stride| stride.saturating_mul(unit)).collect(),
            step: view.strides[outer].saturating_mul(size),
            dtype: view.dtype,
            mode: Mode::Direct,
            index: index.map(|(index, address)| Box::new(IndexOperand::new(index, address, outer, unit))),
        }
    }

    /// What lies between the start of the operand and its row at an index, apart from its offset.
    ///
    /// # Safety
    /// The index lies in the bound iteration space.
    #[inline]
    pub unsafe fn distance(&self, run: &Run<'_>, at: &[usize]) -> Result<usize, BadIndex> {
        let direct: usize = self.strides.iter().zip(at).map(|(stride, i)| stride * i).sum();
        match &self.index {
            // SAFETY: the caller's contract.
            Some(index) => Ok(direct + unsafe { index.index(run, at) }? * index.step),
            None => Ok(direct),
        }
    }
}
