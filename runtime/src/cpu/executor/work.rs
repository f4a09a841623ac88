//! Row programs on parts of rows, with operands staged where the program cannot take them as they
//! lie. Both row kernels and the epilogues of products end here.
#![allow(unsafe_code)] // Row functions take pointers; binding has checked where they point.

use std::ops::Range;
use std::ptr::{null, null_mut};

use super::convert::{load, store};
use super::operand::{Mode, Operand};
use super::run::Run;
use crate::cpu::row::RowFunction;
use crate::program::MAX_RANK;
use crate::program::row::MAX_OPERANDS;

/// Operands of most programs: fewer than code generators take.
const FEW_OPERANDS: usize = 8;

/// A row program with its operands.
#[derive(Clone, Debug)]
pub(super) struct RowWork {
    pub function: RowFunction,
    /// Extents of the outer axes.
    pub outer: Box<[usize]>,
    /// Inputs that the kernel gives.
    pub given: usize,
    pub inputs: Box<[Operand]>,
    pub outputs: Box<[Operand]>,
    /// Most elements that are worked on at once.
    pub block: usize,
    /// Floats of scratch memory.
    pub staging: usize,
}

/// An index of the outer axes.
#[derive(Clone, Copy)]
pub(super) struct Index(pub [usize; MAX_RANK]);

impl Index {
    /// The index of row number `row` over axes of some extents.
    #[inline]
    pub fn of(mut row: usize, outer: &[usize]) -> Index {
        let mut index = [0; MAX_RANK];
        if let [_] = *outer {
            index[0] = row;
            return Index(index);
        }
        for (axis, extent) in outer.iter().enumerate().rev() {
            index[axis] = row % extent;
            row /= extent;
        }
        Index(index)
    }
}

impl RowWork {
    /// Number of operands in memory.
    pub fn operands(&self) -> usize {
        self.inputs.len() + self.outputs.len()
    }

    /// The index of row number `row`.
    #[inline]
    pub fn index(&self, row: usize) -> Index {
        Index::of(row, &self.outer)
    }

    /// The index of the next row.
    #[inline]
    pub fn advance(&self, index: &mut Index) {
        for (axis, &extent) in self.outer.iter().enumerate().rev() {
            index.0[axis] += 1;
            if index.0[axis] < extent {
                return;
            }
            index.0[axis] = 0;
        }
    }

    /// Executes the program on some columns of a row. An index from memory that is out of range is
    /// reported to the run, and the row left alone.
    ///
    /// # Safety
    /// The index and the columns lie in the iteration space that was bound to the run's memory; each
    /// pointer of `given` has a value for each column; no other thread touches the same results, or
    /// writes what is read.
    pub unsafe fn call(
        &self,
        run: &Run<'_>,
        at: &Index,
        given: &[*const f32],
        columns: Range<usize>,
        staging: &mut [f32],
    ) {
        assert!(staging.len() >= self.staging && given.len() == self.given, "scratch memory of a row program");
        let operands = self.given + self.inputs.len() + self.outputs.len();
        // SAFETY: the caller's contract.
        unsafe {
            if operands <= FEW_OPERANDS {
                self.call_with::<FEW_OPERANDS>(run, at, given, columns, staging);
            } else {
                self.call_with::<MAX_OPERANDS>(run, at, given, columns, staging);
            }
        }
    }

    /// [`RowWork::call`] with at most `N` operands.
    ///
    /// # Safety
    /// As [`RowWork::call`].
    #[inline]
    unsafe fn call_with<const N: usize>(
        &self,
        run: &Run<'_>,
        at: &Index,
        given: &[*const f32],
        columns: Range<usize>,
        staging: &mut [f32],
    ) {
        let at = &at.0[..self.outer.len()];
        let mut rows = [null_mut::<u8>(); N];
        for (number, (row, operand)) in rows.iter_mut().zip(self.inputs.iter().chain(&self.outputs)).enumerate() {
            // SAFETY: the caller's contract.
            match unsafe { operand.row(run, at, staging) } {
                Ok(pointer) => *row = pointer,
                Err(bad) => return run.fail(number, bad),
            }
        }
        let (input_rows, output_rows) = rows[..self.inputs.len() + self.outputs.len()].split_at(self.inputs.len());
        let mut start = columns.start;
        while start < columns.end {
            let part = start..columns.end.min(start + self.block);
            start = part.end;
            // SAFETY: the caller's contract, for a part of the columns.
            unsafe {
                self.call_part::<N>(at, given, part.start - columns.start, input_rows, output_rows, part, staging);
            }
        }
    }

    /// # Safety
    /// As [`RowWork::call`]; `rows` are the starts of the operands' rows.
    #[allow(clippy::too_many_arguments)] // They are the locals of one loop.
    #[inline]
    unsafe fn call_part<const N: usize>(
        &self,
        at: &[usize],
        given: &[*const f32],
        from: usize,
        input_rows: &[*mut u8],
        output_rows: &[*mut u8],
        part: Range<usize>,
        staging: &mut [f32],
    ) {
        let mut inputs = [null::<f32>(); N];
        let mut outputs = [null_mut::<f32>(); N];
        let mut singles = [0_f32; N];
        let (inputs, outputs) = (&mut inputs[..self.given + self.inputs.len()], &mut outputs[..self.outputs.len()]);
        let (single_inputs, single_outputs) = singles.split_at_mut(self.inputs.len());
        let scratch = staging.as_mut_ptr();
        // SAFETY: rows reach over the columns; staging areas take a block, and are apart.
        unsafe {
            for (input, &accumulators) in inputs.iter_mut().zip(given) {
                *input = accumulators.add(from);
            }
            for (i, (operand, &row)) in self.inputs.iter().zip(input_rows).enumerate() {
                let element = row.wrapping_add(part.start * operand.step);
                let single = &mut single_inputs[i];
                inputs[self.given + i] = operand.provide(element, at, &part, single, scratch);
            }
            for (i, (operand, &row)) in self.outputs.iter().zip(output_rows).enumerate() {
                let element = row.wrapping_add(part.start * operand.step);
                outputs[i] = operand.receive(element, &raw mut single_outputs[i], scratch);
            }
            self.function.call(inputs, outputs, part.len());
            for (i, (operand, &row)) in self.outputs.iter().zip(output_rows).enumerate() {
                operand.deliver(outputs[i], row.wrapping_add(part.start * operand.step), part.len());
            }
        }
    }
}

impl Operand {
    /// The first element of the row at an index; of a packed weight, of its unpacked copy.
    ///
    /// # Safety
    /// As [`RowWork::call`].
    #[inline]
    pub unsafe fn row(
        &self,
        run: &Run<'_>,
        at: &[usize],
        staging: &mut [f32],
    ) -> Result<*mut u8, super::operand::BadIndex> {
        // SAFETY: the caller's contract.
        let distance = unsafe { self.distance(run, at) }?;
        match self.mode {
            Mode::Packed { at, matrix } => {
                let element = self.address.offset + distance;
                let start = super::operand::Address { offset: 0, ..self.address }.pointer(run);
                let bytes = matrix.bytes().unwrap_or(0);
                // SAFETY: the weight's bytes are mapped, and nobody writes them.
                let bytes = unsafe { std::slice::from_raw_parts(start, bytes) };
                let room = &mut staging[at..at + matrix.k];
                matrix.unpack_row(bytes, 0, element / matrix.k, room);
                Ok(room.as_mut_ptr().wrapping_add(element % matrix.k).cast())
            }
            Mode::Index(_) | Mode::Value(_) | Mode::Start => Ok(null_mut()),
            _ => Ok(self.address.pointer(run).wrapping_add(distance)),
        }
    }

    /// A pointer to the values of an input, beginning at `element`, in the form that programs take.
    ///
    /// # Safety
    /// As [`RowWork::call`].
    #[inline]
    pub unsafe fn provide(
        &self,
        element: *mut u8,
        at: &[usize],
        part: &Range<usize>,
        single: &mut f32,
        scratch: *mut f32,
    ) -> *const f32 {
        match self.mode {
            Mode::Direct | Mode::Packed { .. } => return element.cast(),
            Mode::Staged(at) => {
                // SAFETY: the caller's contract; the area belongs to this operand.
                return unsafe {
                    let room = std::slice::from_raw_parts_mut(scratch.add(at), part.len());
                    load(self.dtype, element, self.step, room);
                    room.as_ptr()
                };
            }
            // SAFETY: the caller's contract.
            Mode::Single | Mode::Fill => unsafe {
                load(self.dtype, element, self.dtype.size(), std::slice::from_mut(single));
            },
            Mode::Index(axis) => *single = at[axis] as f32,
            Mode::Value(value) => *single = value,
            Mode::Start => *single = part.start as f32,
        }
        single
    }

    /// Where a program puts the values of a result that belong at `element`.
    ///
    /// # Safety
    /// As [`RowWork::call`].
    #[inline]
    pub unsafe fn receive(&self, element: *mut u8, single: *mut f32, scratch: *mut f32) -> *mut f32 {
        match self.mode {
            Mode::Direct => element.cast(),
            // SAFETY: the area belongs to this operand.
            Mode::Staged(at) => unsafe { scratch.add(at) },
            _ => single,
        }
    }

    /// Takes a result from where it was received to `element`.
    ///
    /// # Safety
    /// As [`RowWork::call`]; `values` is what [`Operand::receive`] gave.
    #[inline]
    pub unsafe fn deliver(&self, values: *const f32, element: *mut u8, count: usize) {
        // SAFETY: the caller's contract; a single value stands for all.
        unsafe {
            match self.mode {
                Mode::Direct => {}
                Mode::Staged(_) => {
                    store(self.dtype, std::slice::from_raw_parts(values, count), element, self.step);
                }
                Mode::Fill => {
                    (0..count).for_each(|i| store(self.dtype, &[*values], element.add(i * self.step), self.step))
                }
                _ => store(self.dtype, &[*values], element, self.step),
            }
        }
    }
}
