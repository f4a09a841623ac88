//! Emission: prologue, phases, loops, the end of reductions, results.
//!
//! A function gets its input pointers in `rdi`, its output pointers in `rsi` and the length in
//! `rdx`; the loop index is in `rcx`. Frame slots lie at `rsp`, aligned to vectors.

use iced_x86::{Code, IcedError, Instruction, MemoryOperand, Register};

use super::assembler::{Assembler, BASE, Rm};
use super::lower::{Reduction, reduction_op};
use super::schedule::{Accumulators, FunctionCode, Loop, PhaseCode, accumulator_register, tail_mask_register};
use super::select::{INDEX, LENGTH, SCRATCH, Selector, pointer, slot, xmm, ymm};
use super::vector::{Lane2, Row};
use crate::program::row::RowReduce;

/// Registers for row pointers: those that a callee may clobber first.
const POINTERS: [Register; 8] = [
    Register::R8,
    Register::R9,
    Register::R10,
    Register::RBX,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
];
/// How many of [`POINTERS`] need no saving.
const CLOBBERED: usize = 3;
/// Holds the address of the tail masks for a moment.
const MASKS: Register = Register::R11;
/// Frames beyond this are touched page by page, so that a guard page is not stepped over.
const PAGE: i64 = 4096;

/// A remark about the code that begins at an offset from the first instruction.
pub(super) type Note = (usize, String);

/// Appends a function and the notes about it; its offset from the first instruction.
pub(super) fn emit(asm: &mut Assembler, code: &FunctionCode, notes: &mut Vec<Note>) -> Result<usize, IcedError> {
    asm.align(32)?;
    let entry = asm.position();
    let mut emitter = Emitter { asm, notes, saved: saved_registers(code) };
    emitter.note("entry".into());
    emitter.prologue(code.slots)?;
    for (number, phase) in code.phases.iter().enumerate() {
        emitter.phase(number, phase)?;
    }
    emitter.results(&code.results)?;
    emitter.epilogue()?;
    Ok((entry - BASE) as usize)
}

/// Pointer registers in use that belong to the caller.
fn saved_registers(code: &FunctionCode) -> &'static [Register] {
    const SAVED: &[Register] = POINTERS.split_at(CLOBBERED).1;
    let rows = code.phases.iter().map(|phase| phase.rows.len()).max().unwrap_or(0);
    &SAVED[..rows.saturating_sub(CLOBBERED).min(SAVED.len())]
}

struct Emitter<'a> {
    asm: &'a mut Assembler,
    notes: &'a mut Vec<Note>,
    saved: &'static [Register],
}

impl Emitter<'_> {
    fn note(&mut self, text: String) {
        self.notes.push(((self.asm.position() - BASE) as usize, text));
    }

    fn prologue(&mut self, slots: u16) -> Result<(), IcedError> {
        self.asm.push(Instruction::with1(Code::Push_r64, Register::RBP))?;
        self.asm.push(Instruction::with2(Code::Mov_r64_rm64, Register::RBP, Register::RSP))?;
        for &register in self.saved {
            self.asm.push(Instruction::with1(Code::Push_r64, register))?;
        }
        let frame = 32 * i64::from(slots);
        if frame > 0 {
            self.asm.push(Instruction::with2(Code::Sub_rm64_imm32, Register::RSP, frame as i32))?;
            self.asm.push(Instruction::with2(Code::And_rm64_imm8, Register::RSP, -32))?;
        }
        for page in 1..=frame / PAGE {
            let place = MemoryOperand::with_base_displ(Register::RSP, frame - page * PAGE);
            self.asm.push(Instruction::with2(Code::Or_rm64_imm8, place, 0))?;
        }
        Ok(())
    }

    fn epilogue(&mut self) -> Result<(), IcedError> {
        self.asm.push(Ok(Instruction::with(Code::VEX_Vzeroupper)))?;
        let saved = MemoryOperand::with_base_displ(Register::RBP, -8 * self.saved.len() as i64);
        self.asm.push(Instruction::with2(Code::Lea_r64_m, Register::RSP, saved))?;
        for &register in self.saved.iter().rev() {
            self.asm.push(Instruction::with1(Code::Pop_r64, register))?;
        }
        self.asm.push(Instruction::with1(Code::Pop_r64, Register::RBP))?;
        self.asm.push(Ok(Instruction::with(Code::Retnq)))
    }

    fn phase(&mut self, number: usize, phase: &PhaseCode) -> Result<(), IcedError> {
        self.note(format!("phase {number}: once"));
        let mut selector = Selector { asm: self.asm, pointers: &[] };
        phase.preamble.iter().try_for_each(|step| selector.step(step))?;
        if phase.loops.is_empty() {
            return Ok(());
        }
        let pointers: Vec<(Row, Register)> = phase.rows.iter().copied().zip(POINTERS).collect();
        for &(row, register) in &pointers {
            self.asm.push(Instruction::with2(Code::Mov_r64_rm64, register, pointer(row)))?;
        }
        self.begin_reductions(phase)?;
        self.asm.push(Instruction::with2(Code::Xor_r32_rm32, Register::ECX, Register::ECX))?;
        for body in &phase.loops {
            match body.stride {
                Some(stride) => self.full_loop(number, stride, body, &pointers)?,
                None => self.tail(number, phase, body, &pointers)?,
            }
        }
        self.end_reductions(number, phase)
    }

    /// `while index + stride <= length { body; index += stride }`
    fn full_loop(
        &mut self,
        phase: usize,
        stride: usize,
        body: &Loop,
        pointers: &[(Row, Register)],
    ) -> Result<(), IcedError> {
        self.note(format!("phase {phase}: {stride} elements"));
        let (top, end) = (self.asm.label(), self.asm.label());
        let stride = stride as i32;
        self.compare_next(stride)?;
        self.asm.jump(Code::Ja_rel32_64, end)?;
        let mut selector = Selector { asm: self.asm, pointers };
        for &(dst, from) in &body.preload {
            selector.step(&super::regalloc::Step::Load { dst, from })?;
        }
        selector.asm.align(32)?;
        selector.asm.bind(top);
        body.steps.iter().try_for_each(|step| selector.step(step))?;
        self.asm.push(Instruction::with2(Code::Add_rm64_imm8, INDEX, stride))?;
        self.compare_next(stride)?;
        self.asm.jump(Code::Jbe_rel32_64, top)?;
        self.asm.bind(end);
        Ok(())
    }

    /// Compares the index after another iteration with the length.
    fn compare_next(&mut self, stride: i32) -> Result<(), IcedError> {
        let next = MemoryOperand::with_base_displ(INDEX, i64::from(stride));
        self.asm.push(Instruction::with2(Code::Lea_r64_m, SCRATCH, next))?;
        self.asm.push(Instruction::with2(Code::Cmp_r64_rm64, SCRATCH, LENGTH))
    }

    /// `if index < length { body under the mask of the first length - index lanes }`
    fn tail(
        &mut self,
        number: usize,
        phase: &PhaseCode,
        body: &Loop,
        pointers: &[(Row, Register)],
    ) -> Result<(), IcedError> {
        self.note(format!("phase {number}: last elements"));
        let end = self.asm.label();
        self.asm.push(Instruction::with2(Code::Cmp_r64_rm64, INDEX, LENGTH))?;
        self.asm.jump(Code::Jae_rel32_64, end)?;
        let accumulators = match phase.accumulators {
            Accumulators::Registers { copies } => phase.reductions.len() * usize::from(copies),
            Accumulators::Slots { .. } => 0,
        };
        let mask = ymm(tail_mask_register(accumulators));
        let masks = self.asm.tail_masks();
        self.asm.push(Instruction::with2(Code::Mov_r64_rm64, SCRATCH, INDEX))?;
        self.asm.push(Instruction::with2(Code::Sub_r64_rm64, SCRATCH, LENGTH))?;
        self.asm.push(Instruction::with2(Code::Lea_r64_m, MASKS, masks))?;
        let place = MemoryOperand::with_base_index_scale(MASKS, SCRATCH, 4);
        self.asm.push(Instruction::with2(Code::VEX_Vmovups_ymm_ymmm256, mask, place))?;
        let mut selector = Selector { asm: self.asm, pointers };
        body.steps.iter().try_for_each(|step| selector.step(step))?;
        self.asm.bind(end);
        Ok(())
    }

    /// Sets the accumulators to the identities of their reductions.
    fn begin_reductions(&mut self, phase: &PhaseCode) -> Result<(), IcedError> {
        for (number, reduction) in (0..).zip(&phase.reductions) {
            let identity = match reduction.kind {
                RowReduce::Sum => 0.0,
                RowReduce::Max => f32::NEG_INFINITY,
                RowReduce::Min => f32::INFINITY,
            };
            let identity = self.asm.entry([f32::to_bits(identity); 8]);
            let mut load = |n: u8| self.asm.push(Instruction::with2(Code::VEX_Vmovaps_ymm_ymmm256, ymm(n), identity));
            match phase.accumulators {
                Accumulators::Registers { copies } => {
                    (0..copies).try_for_each(|copy| load(accumulator_register(number, copy, copies)))?;
                }
                Accumulators::Slots { first } => {
                    load(0)?;
                    self.write_slot(first + number, 0)?;
                }
            }
        }
        Ok(())
    }

    /// Joins copies and lanes; every lane of the slot gets the result.
    fn end_reductions(&mut self, phase: usize, code: &PhaseCode) -> Result<(), IcedError> {
        for (number, reduction) in (0..).zip(&code.reductions) {
            self.note(format!("phase {phase}: {:?} {number}", reduction.kind));
            let accumulator = match code.accumulators {
                Accumulators::Registers { copies } => {
                    let first = accumulator_register(number, 0, copies);
                    for copy in 1..copies {
                        self.join(reduction, first, accumulator_register(number, copy, copies))?;
                    }
                    first
                }
                Accumulators::Slots { first } => {
                    let from = slot(first + number);
                    self.asm.push(Instruction::with2(Code::VEX_Vmovaps_ymm_ymmm256, ymm(1), from))?;
                    1
                }
            };
            self.join_lanes(reduction, accumulator)?;
            self.write_slot(reduction.slot, accumulator)?;
        }
        Ok(())
    }

    /// Joins the lanes of a register pairwise: halves, pairs, neighbours. Clobbers register 0.
    fn join_lanes(&mut self, reduction: &Reduction, x: u8) -> Result<(), IcedError> {
        let shuffles = [
            (Code::VEX_Vperm2f128_ymm_ymm_ymmm256_imm8, 0x01),
            (Code::VEX_Vshufps_ymm_ymm_ymmm256_imm8, 0x4e),
            (Code::VEX_Vshufps_ymm_ymm_ymmm256_imm8, 0xb1),
        ];
        for (code, immediate) in shuffles {
            self.asm.push(Instruction::with4(code, ymm(0), ymm(x), ymm(x), immediate))?;
            self.join(reduction, x, 0)?;
        }
        Ok(())
    }

    fn join(&mut self, reduction: &Reduction, x: u8, other: u8) -> Result<(), IcedError> {
        let code = match reduction_op(reduction.kind) {
            Lane2::Max => Code::VEX_Vmaxps_ymm_ymm_ymmm256,
            Lane2::Min => Code::VEX_Vminps_ymm_ymm_ymmm256,
            _ => Code::VEX_Vaddps_ymm_ymm_ymmm256,
        };
        self.asm.with_reg_rm(code, ymm(x), ymm(x), Rm::Register(ymm(other)))
    }

    fn write_slot(&mut self, to: u16, from: u8) -> Result<(), IcedError> {
        self.asm.push(Instruction::with2(Code::VEX_Vmovaps_ymmm256_ymm, slot(to), ymm(from)))
    }

    /// Writes the uniform outputs.
    fn results(&mut self, results: &[(u16, u16)]) -> Result<(), IcedError> {
        if !results.is_empty() {
            self.note("uniform outputs".into());
        }
        for &(output, from) in results {
            let target = MemoryOperand::with_base(SCRATCH);
            self.asm.push(Instruction::with2(Code::Mov_r64_rm64, SCRATCH, pointer(Row::Output(output))))?;
            self.asm.push(Instruction::with2(Code::VEX_Vmovss_xmm_m32, xmm(0), slot(from)))?;
            self.asm.push(Instruction::with2(Code::VEX_Vmovss_m32_xmm, target, xmm(0)))?;
        }
        Ok(())
    }
}
