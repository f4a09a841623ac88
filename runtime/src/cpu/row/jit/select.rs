//! Instruction selection: allocated steps become AVX2 and FMA instructions.

use iced_x86::{Code, IcedError, Instruction, MemoryOperand, Register};

use super::assembler::{Assembler, Rm};
use super::regalloc::{Address, Location, Step};
use super::vector::{Fused, Lane1, Lane2, Predicate, Row, VectorOp};

/// Array of input pointers.
pub(super) const INPUTS: Register = Register::RDI;
/// Array of output pointers.
pub(super) const OUTPUTS: Register = Register::RSI;
/// Number of elements.
pub(super) const LENGTH: Register = Register::RDX;
/// Index of the first element of the iteration.
pub(super) const INDEX: Register = Register::RCX;
/// Clobbered by any step.
pub(super) const SCRATCH: Register = Register::RAX;

/// Vector register number `n`.
pub(super) fn ymm(n: u8) -> Register {
    Register::YMM0 + u32::from(n)
}

/// The low half of vector register number `n`.
pub(super) fn xmm(n: u8) -> Register {
    Register::XMM0 + u32::from(n)
}

/// A slot of the frame.
pub(super) fn slot(slot: u16) -> MemoryOperand {
    MemoryOperand::with_base_displ(Register::RSP, 32 * i64::from(slot))
}

/// The pointer of an operand, in its array.
pub(super) fn pointer(row: Row) -> MemoryOperand {
    match row {
        Row::Input(i) => MemoryOperand::with_base_displ(INPUTS, 8 * i64::from(i)),
        Row::Output(o) => MemoryOperand::with_base_displ(OUTPUTS, 8 * i64::from(o)),
    }
}

/// Writes the steps of a block, given the rows whose pointers are in registers.
pub(super) struct Selector<'a> {
    /// Where the instructions go.
    pub(super) asm: &'a mut Assembler,
    /// Rows with pointers in registers; others are loaded at each access.
    pub(super) pointers: &'a [(Row, Register)],
}

impl Selector<'_> {
    /// Writes one step.
    pub(super) fn step(&mut self, step: &Step) -> Result<(), IcedError> {
        match *step {
            Step::Load { dst, from } => {
                let from = self.address(from)?;
                self.asm.push(Instruction::with2(Code::VEX_Vmovups_ymm_ymmm256, ymm(dst), from))
            }
            Step::Move { dst, src } => {
                self.asm.push(Instruction::with2(Code::VEX_Vmovaps_ymm_ymmm256, ymm(dst), ymm(src)))
            }
            Step::Spill { slot: to, src } => self.write(slot(to), src),
            Step::Op { op, dst, args } => self.op(op, dst, args),
        }
    }

    fn write(&mut self, to: MemoryOperand, src: u8) -> Result<(), IcedError> {
        self.asm.push(Instruction::with2(Code::VEX_Vmovups_ymmm256_ymm, to, ymm(src)))
    }

    fn address(&mut self, address: Address) -> Result<MemoryOperand, IcedError> {
        match address {
            Address::Constant(bits) => Ok(self.asm.entry([bits; 8])),
            Address::Slot(n) => Ok(slot(n)),
            Address::Row(row, copy) => self.row(row, copy),
        }
    }

    fn row(&mut self, row: Row, copy: u8) -> Result<MemoryOperand, IcedError> {
        let base = match self.pointers.iter().find(|(r, _)| *r == row) {
            Some((_, register)) => *register,
            None => {
                self.asm.push(Instruction::with2(Code::Mov_r64_rm64, SCRATCH, pointer(row)))?;
                SCRATCH
            }
        };
        Ok(MemoryOperand::with_base_index_scale_displ_size(base, INDEX, 4, 32 * i64::from(copy), 1))
    }

    fn rm(&mut self, location: Location) -> Result<Rm, IcedError> {
        Ok(match location {
            Location::Register(n) => Rm::Register(ymm(n)),
            Location::Memory(address) => Rm::Memory(self.address(address)?),
        })
    }

    fn op(&mut self, op: VectorOp, dst: u8, args: [Location; 3]) -> Result<(), IcedError> {
        match op {
            VectorOp::Uniform(input) => self.uniform(dst, input),
            VectorOp::Length => self.length(dst),
            VectorOp::Position { copy } => self.position(dst, copy),
            VectorOp::Load { row, copy } => {
                let from = self.row(row, copy)?;
                self.asm.push(Instruction::with2(Code::VEX_Vmovups_ymm_ymmm256, ymm(dst), from))
            }
            VectorOp::MaskedLoad { row, .. } => {
                let from = self.row(row, 0)?;
                let mask = register(args[0]);
                self.asm.push(Instruction::with3(Code::VEX_Vmaskmovps_ymm_ymm_m256, ymm(dst), mask, from))
            }
            VectorOp::One(op, _) => self.one(op, dst, args[0]),
            VectorOp::Two(op, ..) => self.two(op, dst, args),
            VectorOp::Fma(op, ..) => self.fma(op, dst, args),
            VectorOp::Blend { .. } => self.blend(dst, args),
            VectorOp::Keep { slot: to, .. } => self.write(slot(to), number(args[0])),
            VectorOp::Store { row, copy, .. } => {
                let to = self.row(row, copy)?;
                self.write(to, number(args[0]))
            }
            VectorOp::MaskedStore { row, .. } => {
                let to = self.row(row, 0)?;
                let (mask, value) = (register(args[0]), register(args[1]));
                self.asm.push(Instruction::with3(Code::VEX_Vmaskmovps_m256_ymm_ymm, to, mask, value))
            }
            VectorOp::Constant(_)
            | VectorOp::Kept(_)
            | VectorOp::TailMask
            | VectorOp::Accumulator { .. }
            | VectorOp::Accumulate { .. } => unreachable!("the allocator leaves no step for {op:?}"),
        }
    }

    fn uniform(&mut self, dst: u8, input: u16) -> Result<(), IcedError> {
        self.asm.push(Instruction::with2(Code::Mov_r64_rm64, SCRATCH, pointer(Row::Input(input))))?;
        let value = MemoryOperand::with_base(SCRATCH);
        self.asm.push(Instruction::with2(Code::VEX_Vbroadcastss_ymm_m32, ymm(dst), value))
    }

    fn length(&mut self, dst: u8) -> Result<(), IcedError> {
        self.asm.push(Instruction::with3(Code::VEX_Vxorps_xmm_xmm_xmmm128, xmm(dst), xmm(dst), xmm(dst)))?;
        self.asm.push(Instruction::with3(Code::VEX_Vcvtsi2ss_xmm_xmm_rm64, xmm(dst), xmm(dst), LENGTH))?;
        self.asm.push(Instruction::with2(Code::VEX_Vbroadcastss_ymm_xmm, ymm(dst), xmm(dst)))
    }

    fn position(&mut self, dst: u8, copy: u8) -> Result<(), IcedError> {
        let lanes = self.asm.entry(std::array::from_fn(|lane| 8 * u32::from(copy) + lane as u32));
        self.asm.push(Instruction::with2(Code::VEX_Vmovd_xmm_rm32, xmm(dst), Register::ECX))?;
        self.asm.push(Instruction::with2(Code::VEX_Vpbroadcastd_ymm_xmmm32, ymm(dst), xmm(dst)))?;
        self.asm.push(Instruction::with3(Code::VEX_Vpaddd_ymm_ymm_ymmm256, ymm(dst), ymm(dst), lanes))?;
        self.asm.push(Instruction::with2(Code::VEX_Vcvtdq2ps_ymm_ymmm256, ymm(dst), ymm(dst)))
    }

    fn one(&mut self, op: Lane1, dst: u8, x: Location) -> Result<(), IcedError> {
        const DOWN: i32 = 9; // Towards -∞, without the inexact flag.
        const NEAREST: i32 = 8;
        match op {
            Lane1::Sqrt => {
                let x = self.rm(x)?;
                self.asm.with_rm(Code::VEX_Vsqrtps_ymm_ymmm256, ymm(dst), x)
            }
            Lane1::ToFloat => {
                let x = self.rm(x)?;
                self.asm.with_rm(Code::VEX_Vcvtdq2ps_ymm_ymmm256, ymm(dst), x)
            }
            Lane1::Floor => self.round(dst, x, DOWN),
            Lane1::RoundEven => self.round(dst, x, NEAREST),
            Lane1::ShiftLeft(bits) => self.shift(Code::VEX_Vpslld_ymm_ymm_imm8, dst, x, bits),
            Lane1::ShiftRight(bits) => self.shift(Code::VEX_Vpsrad_ymm_ymm_imm8, dst, x, bits),
        }
    }

    fn round(&mut self, dst: u8, x: Location, mode: i32) -> Result<(), IcedError> {
        const CODE: Code = Code::VEX_Vroundps_ymm_ymmm256_imm8;
        let x = self.rm(x)?;
        self.asm.push(match x {
            Rm::Register(x) => Instruction::with3(CODE, ymm(dst), x, mode),
            Rm::Memory(x) => Instruction::with3(CODE, ymm(dst), x, mode),
        })
    }

    fn shift(&mut self, code: Code, dst: u8, x: Location, bits: u8) -> Result<(), IcedError> {
        self.asm.push(Instruction::with3(code, ymm(dst), register(x), i32::from(bits)))
    }

    fn two(&mut self, op: Lane2, dst: u8, args: [Location; 3]) -> Result<(), IcedError> {
        let code = match op {
            Lane2::Add => Code::VEX_Vaddps_ymm_ymm_ymmm256,
            Lane2::Sub => Code::VEX_Vsubps_ymm_ymm_ymmm256,
            Lane2::Mul => Code::VEX_Vmulps_ymm_ymm_ymmm256,
            Lane2::Div => Code::VEX_Vdivps_ymm_ymm_ymmm256,
            Lane2::Max => Code::VEX_Vmaxps_ymm_ymm_ymmm256,
            Lane2::Min => Code::VEX_Vminps_ymm_ymm_ymmm256,
            Lane2::And => Code::VEX_Vandps_ymm_ymm_ymmm256,
            Lane2::Or => Code::VEX_Vorps_ymm_ymm_ymmm256,
            Lane2::Xor => Code::VEX_Vxorps_ymm_ymm_ymmm256,
            Lane2::AddInt => Code::VEX_Vpaddd_ymm_ymm_ymmm256,
            Lane2::SubInt => Code::VEX_Vpsubd_ymm_ymm_ymmm256,
            Lane2::Compare(predicate) => return self.compare(predicate, dst, args),
        };
        let b = self.rm(args[1])?;
        self.asm.with_reg_rm(code, ymm(dst), register(args[0]), b)
    }

    fn compare(&mut self, predicate: Predicate, dst: u8, args: [Location; 3]) -> Result<(), IcedError> {
        const CODE: Code = Code::VEX_Vcmpps_ymm_ymm_ymmm256_imm8;
        // Quiet forms: a NaN raises no flag.
        let immediate = match predicate {
            Predicate::Equal => 0x00,
            Predicate::Less => 0x11,
            Predicate::LessEqual => 0x12,
            Predicate::Unordered => 0x03,
            Predicate::NotEqual => 0x04,
            Predicate::NotGreaterEqual => 0x19,
            Predicate::GreaterEqual => 0x1d,
            Predicate::Greater => 0x1e,
        };
        let (a, b) = (register(args[0]), self.rm(args[1])?);
        self.asm.push(match b {
            Rm::Register(b) => Instruction::with4(CODE, ymm(dst), a, b, immediate),
            Rm::Memory(b) => Instruction::with4(CODE, ymm(dst), a, b, immediate),
        })
    }

    /// The destination is one of the factors or the term; the form follows from which.
    fn fma(&mut self, op: Fused, dst: u8, [a, b, c]: [Location; 3]) -> Result<(), IcedError> {
        let (onto_factor, onto_factor_with_memory, onto_term) = match op {
            Fused::MulAdd => (
                Code::VEX_Vfmadd213ps_ymm_ymm_ymmm256,
                Code::VEX_Vfmadd132ps_ymm_ymm_ymmm256,
                Code::VEX_Vfmadd231ps_ymm_ymm_ymmm256,
            ),
            Fused::MulSub => (
                Code::VEX_Vfmsub213ps_ymm_ymm_ymmm256,
                Code::VEX_Vfmsub132ps_ymm_ymm_ymmm256,
                Code::VEX_Vfmsub231ps_ymm_ymm_ymmm256,
            ),
            Fused::NegMulAdd => (
                Code::VEX_Vfnmadd213ps_ymm_ymm_ymmm256,
                Code::VEX_Vfnmadd132ps_ymm_ymm_ymmm256,
                Code::VEX_Vfnmadd231ps_ymm_ymm_ymmm256,
            ),
        };
        let tied = Location::Register(dst);
        if c == tied {
            let (a, b) = if matches!(a, Location::Memory(_)) { (b, a) } else { (a, b) };
            let b = self.rm(b)?;
            return self.asm.with_reg_rm(onto_term, ymm(dst), register(a), b);
        }
        let other = if a == tied { b } else { a };
        match other {
            Location::Register(other) => {
                let c = self.rm(c)?;
                self.asm.with_reg_rm(onto_factor, ymm(dst), ymm(other), c)
            }
            Location::Memory(_) => {
                let other = self.rm(other)?;
                self.asm.with_reg_rm(onto_factor_with_memory, ymm(dst), register(c), other)
            }
        }
    }

    fn blend(&mut self, dst: u8, [no, yes, mask]: [Location; 3]) -> Result<(), IcedError> {
        const CODE: Code = Code::VEX_Vblendvps_ymm_ymm_ymmm256_ymm;
        let (no, mask) = (register(no), register(mask));
        let yes = self.rm(yes)?;
        self.asm.push(match yes {
            Rm::Register(yes) => Instruction::with4(CODE, ymm(dst), no, yes, mask),
            Rm::Memory(yes) => Instruction::with4(CODE, ymm(dst), no, yes, mask),
        })
    }
}

fn number(location: Location) -> u8 {
    match location {
        Location::Register(n) => n,
        Location::Memory(_) => unreachable!("the allocator reads memory only where instructions can"),
    }
}

fn register(location: Location) -> Register {
    ymm(number(location))
}
