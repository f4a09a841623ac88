//! Just-in-time compiler of row programs for x86-64 with AVX2, FMA and the System V convention.
//!
//! ```text
//! RowProgram ── lower ──► phases of vector ops      eight lanes, composite functions expanded (expand)
//!            ── schedule ► unrolled loops with registers          (unroll, regalloc)
//!            ── emit ────► machine code and constants             (select, assembler)
//!            ── memory ──► executable pages
//! ```

mod assembler;
mod builder;
mod emit;
mod expand;
mod listing;
mod lower;
mod memory;
mod regalloc;
mod schedule;
mod select;
mod stash;
mod unroll;
mod vector;

use std::sync::Arc;

use assembler::Assembler;
use emit::Note;
use iced_x86::IcedError;
use memory::CodeMemory;

use super::CompileError;
use crate::program::row::RowProgram;

/// Code of one or several functions, with their constants.
#[derive(Debug)]
struct Module {
    memory: CodeMemory,
    /// Offset of the code in the image; constants lie before it.
    code: usize,
    notes: Vec<Note>,
    /// Offsets of the functions from `code`, and the end of the last.
    bounds: Vec<usize>,
}

/// A generated function. Clones share the code.
#[derive(Clone, Debug)]
pub(super) struct Function {
    module: Arc<Module>,
    number: usize,
}

/// Compiles valid programs into one mapping.
pub(super) fn compile(programs: &[&RowProgram]) -> Result<Vec<Function>, CompileError> {
    let module = Arc::new(assemble(programs)?);
    Ok((0..programs.len()).map(|number| Function { module: module.clone(), number }).collect())
}

fn assemble(programs: &[&RowProgram]) -> Result<Module, CompileError> {
    let encode = |e: IcedError| CompileError::Encode(e.to_string());
    let mut asm = Assembler::new().map_err(encode)?;
    let (mut notes, mut bounds) = (Vec::new(), Vec::new());
    for program in programs {
        let code = schedule::schedule(lower::lower(program));
        bounds.push(emit::emit(&mut asm, &code, &mut notes).map_err(encode)?);
    }
    bounds.push((asm.position() - assembler::BASE) as usize);
    let image = asm.finish();
    Ok(Module { memory: CodeMemory::new(&image.bytes)?, code: image.code, notes, bounds })
}

/// Equality of identity.
impl PartialEq for Function {
    fn eq(&self, other: &Function) -> bool {
        Arc::ptr_eq(&self.module, &other.module) && self.number == other.number
    }
}

impl Function {
    /// Executes the function.
    ///
    /// # Safety
    /// As for [`super::RowFunction::call`], for the program that this was compiled from.
    #[allow(unsafe_code)] // Passes the caller's promise on.
    pub(super) unsafe fn call(&self, inputs: &[*const f32], outputs: &[*mut f32], n: usize) {
        let entry = self.module.code + self.module.bounds[self.number];
        // SAFETY: a function was emitted at this offset; the rest is the caller's promise.
        unsafe { self.module.memory.call(entry, inputs, outputs, n) }
    }

    /// The code as text.
    pub(super) fn disassemble(&self) -> String {
        let bounds = self.module.bounds[self.number]..self.module.bounds[self.number + 1];
        listing::listing(self.module.memory.bytes(), self.module.code, bounds, &self.module.notes)
    }
}
