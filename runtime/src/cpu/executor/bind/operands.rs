//! Operands of row programs: resolved, simplified, and given the mode in which kernels take them.

use castiron_ir::DType;

use super::{Binder, FlatOperands};
use crate::bind::BindFault;
use crate::bind::view::{FlatView, Memory};
use crate::cpu::executor::nest::Nest;
use crate::cpu::executor::operand::{Address, Mode, Operand};
use crate::cpu::executor::parts::{Extra, has_place, on_parts};
use crate::cpu::executor::work::RowWork;
use crate::cpu::row::RowCache;
use crate::cpu::scratch::Scratch;
use crate::program::RowOperands;
use crate::program::row::{Access, RowNode, RowProgram};

/// Elements that staged operands are worked on at once: several of them stay in the first cache.
pub(super) const BLOCK: usize = 1024;

/// A program that copies.
pub(super) fn copy_program(access: Access) -> RowProgram {
    RowProgram { inputs: vec![access], nodes: vec![RowNode::Input(0)], stores: vec![0] }
}

impl Binder<'_> {
    /// Views over an iteration space of which no extent is 0. What is the same for a whole row is
    /// taken at its first element.
    pub(super) fn operands(
        &mut self,
        operands: &RowOperands,
        given: usize,
        space: &[usize],
    ) -> Result<FlatOperands, BindFault> {
        let mut first = space.to_vec();
        first[space.len() - 1] = 1;
        let mut flat = FlatOperands { inputs: Vec::new(), outputs: Vec::new(), extents: Vec::new() };
        for (i, (view, access)) in operands.inputs.iter().zip(&operands.program.inputs[given..]).enumerate() {
            let over = if *access == Access::Element { space } else { &first };
            flat.inputs.push(self.resolver.view(&format!("input {i}"), view, over)?);
            flat.extents.push(over.to_vec());
        }
        let levels = operands.program.levels();
        for (i, (view, &node)) in operands.outputs.iter().zip(&operands.program.stores).enumerate() {
            let name = format!("output {i}");
            let step = self.resolver.dims(&view.strides[space.len() - 1..])?[0];
            let over = if levels[usize::from(node)].varies || step != 0 { space } else { &first };
            flat.outputs.push(self.resolver.view(&name, view, over)?);
            flat.extents.push(over.to_vec());
        }
        for (view, extents) in flat.inputs.iter().chain(&flat.outputs).zip(&flat.extents) {
            self.touch(view, extents);
        }
        Ok(flat)
    }

    pub(super) fn nest(&self, program: &RowProgram, given: usize, flat: FlatOperands, extents: Vec<usize>) -> Nest {
        Nest { timed: false, extents, program: program.clone(), given, inputs: flat.inputs, outputs: flat.outputs }
    }

    /// The epilogue of a product.
    pub(super) fn epilogue(
        &mut self,
        operands: &RowOperands,
        given: usize,
        flat: FlatOperands,
        extents: Vec<usize>,
    ) -> Result<RowWork, BindFault> {
        let mut nest = self.nest(&operands.program, given, flat, extents);
        nest.simplify_outer();
        let levels = nest.program.levels();
        let is_uniform = |(i, &node): (usize, &u16)| {
            !levels[usize::from(node)].varies && nest.outputs[i].strides.last() == Some(&0) && nest.row() > 1
        };
        if let Some(output) = nest.program.stores.iter().enumerate().position(is_uniform) {
            return Err(BindFault::WrittenTwice(format!("output {output}")));
        }
        self.work(nest, true)
    }

    /// A row program ready to run; an epilogue is run on parts of rows.
    pub(super) fn work(&mut self, nest: Nest, is_epilogue: bool) -> Result<RowWork, BindFault> {
        let is_parted = is_epilogue && has_place(&nest.program);
        let (program, extras) = if is_parted { on_parts(&nest.program) } else { (nest.program.clone(), Vec::new()) };
        let row = nest.row();
        let is_whole = |view: &FlatView| matches!(view.memory, Memory::Packed(..));
        let is_divisible = is_epilogue || nest.is_divisible() && !nest.inputs.iter().any(is_whole);
        let block = if is_divisible { row.min(BLOCK) } else { row };
        let mut area = Area { block, used: 0 };
        let mut inputs: Vec<Operand> = Vec::new();
        for (view, &access) in nest.inputs.iter().zip(&nest.program.inputs[nest.given..]) {
            inputs.push(self.input(view, access, nest.outer().len(), row, &mut area));
        }
        inputs.extend(extras.iter().map(|extra| match extra {
            Extra::Start => number(Mode::Start),
            Extra::Length => number(Mode::Value(row as f32)),
        }));
        let levels = program.levels();
        let mut outputs: Vec<Operand> = Vec::new();
        for (view, &node) in nest.outputs.iter().zip(&program.stores) {
            let varies = levels[usize::from(node)].varies;
            outputs.push(self.output(view, varies, nest.outer().len(), row, &mut area));
        }
        // Without staged operands the whole row is one block.
        let block = if area.used == 0 { row } else { block };
        self.scratch.1 = self.scratch.1.max(area.used);
        Ok(RowWork {
            function: RowCache::global().get(&program, self.isa)?,
            outer: nest.outer().into(),
            given: nest.given,
            inputs: inputs.into(),
            outputs: outputs.into(),
            block,
            staging: area.used,
        })
    }

    fn input(&self, view: &FlatView, access: Access, outer: usize, row: usize, area: &mut Area) -> Operand {
        let mut operand = self.operand(view, outer);
        let size = view.dtype.size();
        operand.mode = match (view.memory, access) {
            (Memory::Index(axis), _) => return number(Mode::Index(axis)),
            (Memory::Value(value), _) => return number(Mode::Value(value)),
            (Memory::Packed(_, matrix), _) => Mode::Packed { at: area.take(matrix.k), matrix },
            (_, Access::Uniform) if view.dtype == DType::F32 => Mode::Direct,
            (_, Access::Uniform) => Mode::Single,
            (_, Access::Element) if view.dtype == DType::F32 && (operand.step == size || row == 1) => Mode::Direct,
            (_, Access::Element) => Mode::Staged(area.take(area.block)),
        };
        operand.step = match (operand.mode, access) {
            (_, Access::Uniform) => 0,
            (Mode::Packed { .. }, Access::Element) => size_of::<f32>(),
            (_, Access::Element) => operand.step,
        };
        operand
    }

    fn output(&self, view: &FlatView, varies: bool, outer: usize, row: usize, area: &mut Area) -> Operand {
        let mut operand = self.operand(view, outer);
        let (is_f32, is_dense) = (view.dtype == DType::F32, operand.step == view.dtype.size() || row == 1);
        operand.mode = match (varies, operand.step) {
            (true, _) if is_f32 && is_dense => Mode::Direct,
            (true, _) => Mode::Staged(area.take(area.block)),
            (false, step) if step > 0 && row > 1 => Mode::Fill,
            (false, _) => {
                if is_f32 {
                    Mode::Direct
                } else {
                    Mode::Single
                }
            }
        };
        if !varies && operand.mode != Mode::Fill {
            operand.step = 0;
        }
        operand
    }

    fn operand(&self, view: &FlatView, outer: usize) -> Operand {
        let index = view.index.as_ref().map(|index| self.address(index.memory));
        Operand::new(view, self.address(view.memory), index, outer)
    }
}

impl RowWork {
    /// Whether threads may share a row: no result is one for the row, no row is unpacked by each.
    pub(super) fn can_cut(&self) -> bool {
        let is_packed = |operand: &Operand| matches!(operand.mode, Mode::Packed { .. });
        self.outputs.iter().all(|o| o.step > 0) && !self.inputs.iter().any(is_packed)
    }
}

/// An input without memory.
fn number(mode: Mode) -> Operand {
    let address = Address { slot: 0, per_iteration: 0, offset: 0 };
    Operand { address, strides: Box::new([]), step: 0, dtype: DType::F32, mode, index: None }
}

/// Scratch memory of a row program, in floats.
struct Area {
    block: usize,
    used: usize,
}

impl Area {
    fn take(&mut self, floats: usize) -> usize {
        let at = self.used;
        self.used += Scratch::bytes_of::<f32>(floats) / size_of::<f32>();
        at
    }
}
