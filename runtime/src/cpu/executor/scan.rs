//! Scans: each lane walks through time with its carried rows, which stay in the first cache meanwhile.
//!
//! Operands are found once for a lane; from step to step their pointers move. Rows that do not lie
//! densely in memory are carried in scratch memory.
#![allow(unsafe_code)] // Row functions take pointers; binding has checked where they point.

use std::ops::Range;
use std::ptr::{null, null_mut};

use super::convert::{load, store};
use super::kernels::{WorkerMemory, part};
use super::operand::{BadIndex, Mode, Operand};
use super::run::Run;
use super::work::{Index, RowWork};
use crate::program::row::MAX_OPERANDS;

/// A row program repeated along time. Time is the first axis of its operands.
#[derive(Debug)]
pub(super) struct ScanKernel {
    /// The step; its first inputs and outputs are what is carried.
    pub work: RowWork,
    /// How many rows are carried.
    pub carried: usize,
    pub steps: usize,
    pub reverse: bool,
    /// Number of independent rows.
    pub lanes: usize,
    /// Elements of a row.
    pub row: usize,
    /// Most elements that walk through time together.
    pub block: usize,
    /// Whether threads may share a row.
    pub can_cut: bool,
}

/// The operands of a lane: where their rows lie, and what the row function is given.
struct Lane {
    rows: [*mut u8; MAX_OPERANDS],
    inputs: [*const f32; MAX_OPERANDS],
    outputs: [*mut f32; MAX_OPERANDS],
    /// A value for each operand that has one, of as many as there may be.
    singles: *mut f32,
}

impl ScanKernel {
    /// Does this worker's share of the lanes.
    ///
    /// # Safety
    /// The kernel was bound to the memory of the run, and all workers execute it together.
    pub unsafe fn execute(&self, run: &Run<'_>, memory: &mut WorkerMemory) {
        let elements = self.lanes.saturating_mul(self.row).saturating_mul(self.steps);
        let Some((lanes, columns)) = part(run, elements, (self.lanes, self.row), self.can_cut) else { return };
        let mut carver = memory.staging.carve();
        let staging = carver.take::<f32>(self.work.staging);
        let mut at = self.work.index(lanes.start);
        for _ in lanes {
            let mut start = columns.start;
            while start < columns.end {
                let block = start..columns.end.min(start + self.block);
                start = block.end;
                // SAFETY: the lane lies in the space; workers have disjoint shares of lanes or columns.
                if let Err((number, bad)) = unsafe { self.walk(run, at, block, staging) } {
                    return run.fail(number, bad);
                }
            }
            self.work.advance(&mut at);
        }
    }

    /// All steps of some columns of a lane. Fails with the operand whose index is out of range.
    ///
    /// # Safety
    /// As [`RowWork::call`], in every step.
    unsafe fn walk(
        &self,
        run: &Run<'_>,
        mut at: Index,
        columns: Range<usize>,
        staging: &mut [f32],
    ) -> Result<(), (usize, BadIndex)> {
        let mut singles = [0_f32; MAX_OPERANDS];
        let mut lane = Lane {
            rows: [null_mut(); MAX_OPERANDS],
            inputs: [null(); MAX_OPERANDS],
            outputs: [null_mut(); MAX_OPERANDS],
            singles: singles.as_mut_ptr(),
        };
        let is_steady = self.operands().all(is_steady);
        let is_direct = is_steady && self.others().all(is_direct) && !self.fills();
        at.0[0] = if self.reverse { self.steps - 1 } else { 0 };
        // SAFETY: the caller's contract; scratch areas take a block and are apart.
        unsafe {
            self.locate(&mut lane, run, &at, &columns, staging)?;
            self.take_carried(&mut lane, &columns, staging);
            self.step(&mut lane, &at, &columns, staging);
            for number in 1..self.steps {
                at.0[0] = if self.reverse { self.steps - 1 - number } else { number };
                if is_direct {
                    self.advance_pointers(&mut lane);
                    self.call(&lane, columns.len());
                    continue;
                }
                if is_steady {
                    self.advance_rows(&mut lane);
                } else {
                    self.locate(&mut lane, run, &at, &columns, staging)?;
                }
                self.step(&mut lane, &at, &columns, staging);
            }
            self.leave_carried(&lane, &columns);
        }
        Ok(())
    }

    fn operands(&self) -> impl Iterator<Item = &Operand> {
        self.work.inputs.iter().chain(&self.work.outputs)
    }

    /// Operands that are not carried.
    fn others(&self) -> impl Iterator<Item = &Operand> {
        self.work.inputs[self.carried..].iter().chain(&self.work.outputs[self.carried..])
    }

    /// Whether a carried row is filled with one value.
    fn fills(&self) -> bool {
        self.work.outputs[..self.carried].iter().any(|operand| operand.mode == Mode::Fill)
    }

    /// Finds the rows of a step.
    unsafe fn locate(
        &self,
        lane: &mut Lane,
        run: &Run<'_>,
        at: &Index,
        columns: &Range<usize>,
        staging: &mut [f32],
    ) -> Result<(), (usize, BadIndex)> {
        let outer = &at.0[..self.work.outer.len()];
        for (number, (row, operand)) in lane.rows.iter_mut().zip(self.operands()).enumerate() {
            // SAFETY: the caller's contract.
            let start = unsafe { operand.row(run, outer, staging) }.map_err(|bad| (number, bad))?;
            *row = start.wrapping_add(columns.start * operand.step);
        }
        Ok(())
    }

    /// Moves the rows to the next step.
    fn advance_rows(&self, lane: &mut Lane) {
        for (row, operand) in lane.rows.iter_mut().zip(self.operands()) {
            *row = self.next(*row, operand);
        }
    }

    /// Moves what the function is given to the next step, where that lies in memory.
    #[inline]
    fn advance_pointers(&self, lane: &mut Lane) {
        for (input, operand) in lane.inputs.iter_mut().zip(&self.work.inputs).skip(self.carried) {
            *input = self.next(input.cast_mut().cast(), operand).cast();
        }
        for (output, operand) in lane.outputs.iter_mut().zip(&self.work.outputs).skip(self.carried) {
            *output = self.next(output.cast(), operand).cast();
        }
    }

    #[inline]
    fn next(&self, row: *mut u8, operand: &Operand) -> *mut u8 {
        let stride = operand.strides.first().copied().unwrap_or(0);
        if self.reverse { row.wrapping_sub(stride) } else { row.wrapping_add(stride) }
    }

    /// Points the first inputs and outputs to the carried rows; those that are not dense are copied.
    unsafe fn take_carried(&self, lane: &mut Lane, columns: &Range<usize>, staging: &mut [f32]) {
        for (i, operand) in self.work.inputs[..self.carried].iter().enumerate() {
            let row = lane.rows[i];
            lane.inputs[i] = match operand.mode {
                // SAFETY: the row reaches over the columns, the area over a block.
                Mode::Staged(area) => unsafe {
                    let room = &mut staging[area..area + columns.len()];
                    load(operand.dtype, row, operand.step, room);
                    room.as_ptr()
                },
                _ => row.cast(),
            };
            let number = self.work.inputs.len() + i;
            lane.outputs[i] = match self.work.outputs[i].mode {
                Mode::Fill => lane.singles.wrapping_add(number),
                _ => lane.inputs[i].cast_mut(),
            };
        }
    }

    /// Writes carried rows that were copied back to where they belong.
    unsafe fn leave_carried(&self, lane: &Lane, columns: &Range<usize>) {
        for (i, operand) in self.work.inputs[..self.carried].iter().enumerate() {
            if let Mode::Staged(_) = operand.mode {
                // SAFETY: as when it was copied.
                unsafe {
                    let values = std::slice::from_raw_parts(lane.inputs[i], columns.len());
                    store(operand.dtype, values, lane.rows[i], operand.step);
                }
            }
        }
    }

    /// One step with operands of any kind, whose rows are found.
    unsafe fn step(&self, lane: &mut Lane, at: &Index, columns: &Range<usize>, staging: &mut [f32]) {
        let (outer, scratch) = (&at.0[..self.work.outer.len()], staging.as_mut_ptr());
        let count = self.work.inputs.len();
        // SAFETY: rows reach over the columns; scratch areas take a block and are apart.
        unsafe {
            for (i, operand) in self.work.inputs.iter().enumerate().skip(self.carried) {
                let single = &mut *lane.singles.add(i);
                lane.inputs[i] = operand.provide(lane.rows[i], outer, columns, single, scratch);
            }
            for (i, operand) in self.work.outputs.iter().enumerate().skip(self.carried) {
                lane.outputs[i] = operand.receive(lane.rows[count + i], lane.singles.add(count + i), scratch);
            }
            self.call(lane, columns.len());
            for (i, operand) in self.work.outputs.iter().enumerate() {
                if i >= self.carried {
                    operand.deliver(lane.outputs[i], lane.rows[count + i], columns.len());
                } else if operand.mode == Mode::Fill {
                    let row = std::slice::from_raw_parts_mut(lane.inputs[i].cast_mut(), columns.len());
                    row.fill(*lane.singles.add(count + i));
                }
            }
        }
    }

    #[inline]
    unsafe fn call(&self, lane: &Lane, columns: usize) {
        let (inputs, outputs) = (self.work.inputs.len(), self.work.outputs.len());
        // SAFETY: the caller's contract: every operand has its columns.
        unsafe { self.work.function.call(&lane.inputs[..inputs], &lane.outputs[..outputs], columns) };
    }
}

/// Whether the address in one step follows from that in the step before.
fn is_steady(operand: &Operand) -> bool {
    let by_index = operand.index.as_ref().is_some_and(|index| index.strides.first().is_some_and(|&s| s != 0));
    let is_unpacked = matches!(operand.mode, Mode::Packed { .. }) && operand.strides.first().is_some_and(|&s| s != 0);
    !by_index && !is_unpacked && operand.mode != Mode::Index(0)
}

/// Whether the function works on memory or on a number, and nothing is converted in each step.
fn is_direct(operand: &Operand) -> bool {
    match operand.mode {
        Mode::Direct | Mode::Index(_) | Mode::Value(_) => true,
        Mode::Packed { .. } | Mode::Staged(_) | Mode::Single | Mode::Fill | Mode::Start => false,
    }
}
