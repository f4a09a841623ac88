//! Assembler: iced's encoder with a constant table and forward jumps.
//!
//! The table grows downwards from the address of the first instruction, so that an entry's address
//! is known when it is first used. The image is the table, then the code.

use std::collections::HashMap;

use iced_x86::{Code, Encoder, IcedError, Instruction, MemoryOperand, Register};

/// Address of the first instruction while encoding; code is position independent.
pub(super) const BASE: u64 = 0x1000_0000;

/// Eight lanes of the constant table.
pub(super) type Entry = [u32; 8];

/// Last operand of many instructions: register or memory.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rm {
    /// A vector register.
    Register(Register),
    /// Memory.
    Memory(MemoryOperand),
}

/// A place in the code that jumps name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

/// Instructions and constants under construction.
pub(super) struct Assembler {
    encoder: Encoder,
    at: u64,
    table: Vec<Entry>,
    entries: HashMap<Entry, u64>,
    /// Address of each label once bound.
    labels: Vec<Option<u64>>,
    /// Ends of the jumps to labels that were not bound yet.
    jumps: Vec<(u64, Label)>,
}

/// Machine code with its constants before it.
#[derive(Debug)]
pub(super) struct Image {
    /// Table and code.
    pub(super) bytes: Vec<u8>,
    /// Offset of the first instruction.
    pub(super) code: usize,
}

impl Assembler {
    /// An empty image, whose table begins with the lanes of [`Assembler::tail_masks`].
    pub(super) fn new() -> Result<Assembler, IcedError> {
        let mut assembler = Assembler {
            encoder: Encoder::try_with_capacity(64, 4096)?,
            at: BASE,
            table: Vec::new(),
            entries: HashMap::new(),
            labels: Vec::new(),
            jumps: Vec::new(),
        };
        assembler.entry([0; 8]);
        assembler.entry([u32::MAX; 8]);
        Ok(assembler)
    }

    /// Address of the next instruction.
    pub(super) fn position(&self) -> u64 {
        self.at
    }

    /// Appends an instruction.
    pub(super) fn push(&mut self, instruction: Result<Instruction, IcedError>) -> Result<(), IcedError> {
        self.at += self.encoder.encode(&instruction?, self.at)? as u64;
        Ok(())
    }

    /// Appends an instruction whose last operand may be memory.
    pub(super) fn with_rm(&mut self, code: Code, dst: Register, rm: Rm) -> Result<(), IcedError> {
        self.push(match rm {
            Rm::Register(r) => Instruction::with2(code, dst, r),
            Rm::Memory(m) => Instruction::with2(code, dst, m),
        })
    }

    /// Appends a three-operand instruction whose last operand may be memory.
    pub(super) fn with_reg_rm(&mut self, code: Code, dst: Register, a: Register, rm: Rm) -> Result<(), IcedError> {
        self.push(match rm {
            Rm::Register(r) => Instruction::with3(code, dst, a, r),
            Rm::Memory(m) => Instruction::with3(code, dst, a, m),
        })
    }

    /// A label to be bound later.
    pub(super) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Binds a label to the next instruction.
    pub(super) fn bind(&mut self, label: Label) {
        self.labels[label.0] = Some(self.at);
    }

    /// Appends a jump with a 32-bit displacement.
    pub(super) fn jump(&mut self, code: Code, label: Label) -> Result<(), IcedError> {
        let target = self.labels[label.0];
        self.push(Instruction::with_branch(code, target.unwrap_or(self.at)))?;
        if target.is_none() {
            self.jumps.push((self.at, label));
        }
        Ok(())
    }

    /// Appends no-operations up to a multiple of `alignment`.
    pub(super) fn align(&mut self, alignment: u64) -> Result<(), IcedError> {
        let mut gap = self.at.next_multiple_of(alignment) - self.at;
        while gap > 0 {
            // Up to eight bytes; their address is never used.
            let (code, displacement) = match gap {
                1 => (Code::Nopd, None),
                2 => (Code::Nopw, None),
                3 => (Code::Nop_rm32, Some(0)),
                4..=6 => (Code::Nop_rm32, Some(1)),
                _ => (Code::Nop_rm32, Some(8)),
            };
            let before = self.at;
            self.push(match displacement {
                None => Ok(Instruction::with(code)),
                Some(size) => {
                    let place = MemoryOperand::with_base_displ_size(Register::RAX, 0, size);
                    Instruction::with1(code, place)
                }
            })?;
            gap -= self.at - before;
        }
        Ok(())
    }

    /// The table entry with the lanes.
    pub(super) fn entry(&mut self, lanes: Entry) -> MemoryOperand {
        let table = &mut self.table;
        let address = *self.entries.entry(lanes).or_insert_with(|| {
            table.push(lanes);
            BASE - size_of::<Entry>() as u64 * table.len() as u64
        });
        MemoryOperand::with_base_displ(Register::RIP, address as i64)
    }

    /// Memory such that the entry `4·n` bytes before it has its first `n` lanes set.
    pub(super) fn tail_masks(&self) -> MemoryOperand {
        MemoryOperand::with_base_displ(Register::RIP, BASE as i64 - size_of::<Entry>() as i64)
    }

    /// The image, with all jumps resolved.
    pub(super) fn finish(mut self) -> Image {
        let mut bytes: Vec<u8> = self.table.iter().rev().flatten().flat_map(|lane| lane.to_le_bytes()).collect();
        let code = bytes.len();
        bytes.extend(self.encoder.take_buffer());
        for (end, label) in self.jumps {
            let target = self.labels[label.0].expect("labels are bound before the end");
            let place = code + (end - BASE) as usize;
            bytes[place - 4..place].copy_from_slice(&(target.wrapping_sub(end) as i32).to_le_bytes());
        }
        Image { bytes, code }
    }
}
