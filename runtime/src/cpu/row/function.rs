//! A row program ready to run.
#![allow(unsafe_code)] // Callers vouch for the pointers of a row.

use std::sync::Arc;

#[cfg(all(target_arch = "x86_64", unix))]
use super::jit;
use super::portable::Portable;
use crate::cpu::isa::Isa;
use crate::program::row::{RowProgram, RowProgramError};

/// Why a row program has no function.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The program breaks a rule.
    #[error(transparent)]
    Program(#[from] RowProgramError),
    /// The operating system gave no executable memory.
    #[error("no memory for generated code: {0}")]
    Memory(#[from] std::io::Error),
    /// An instruction could not be encoded; a bug of the code generator.
    #[error("generated code does not encode: {0}")]
    Encode(String),
}

/// A row program compiled for this machine. Clones share the code; calls from several threads at
/// once are independent.
#[derive(Clone, Debug)]
pub struct RowFunction {
    inputs: usize,
    outputs: usize,
    code: Code,
}

#[derive(Clone, Debug)]
enum Code {
    Portable(Arc<Portable>),
    #[cfg(all(target_arch = "x86_64", unix))]
    Generated(jit::Function),
}

impl RowFunction {
    /// Compiles one program.
    ///
    /// # Errors
    /// If the program is not valid, or code memory is refused.
    pub fn compile(program: &RowProgram, isa: Isa) -> Result<RowFunction, CompileError> {
        let mut functions = RowFunction::compile_all(&[program], isa)?;
        Ok(functions.remove(0))
    }

    /// Compiles several programs, whose code shares one mapping and one table of constants.
    ///
    /// # Errors
    /// If a program is not valid, or code memory is refused.
    pub fn compile_all(programs: &[&RowProgram], isa: Isa) -> Result<Vec<RowFunction>, CompileError> {
        programs.iter().try_for_each(|program| program.validate())?;
        let code = Code::compile(programs, isa)?;
        let function = |(program, code): (&&RowProgram, Code)| RowFunction {
            inputs: program.inputs.len(),
            outputs: program.stores.len(),
            code,
        };
        Ok(programs.iter().zip(code).map(function).collect())
    }

    /// Evaluates the program on one row of `n` elements.
    ///
    /// # Panics
    /// If the number of pointers is not that of the program.
    ///
    /// # Safety
    /// Each pointer is valid for its extent of f32, aligned or not: an element input or an output
    /// that varies has `n`, a uniform one has 1. Outputs are valid for writes and disjoint from one
    /// another; an output is either disjoint from an input or starts at the same address and has
    /// the same extent. Other threads do not write the inputs or touch the outputs meanwhile.
    #[inline]
    pub unsafe fn call(&self, inputs: &[*const f32], outputs: &[*mut f32], n: usize) {
        assert!(inputs.len() == self.inputs && outputs.len() == self.outputs, "a row program has its own operands");
        // SAFETY: the numbers of operands are checked; the caller promises the rest.
        unsafe {
            match &self.code {
                Code::Portable(code) => code.call(inputs, outputs, n),
                #[cfg(all(target_arch = "x86_64", unix))]
                Code::Generated(code) => code.call(inputs, outputs, n),
            }
        }
    }

    /// Whether two functions execute the same code.
    pub fn shares_code_with(&self, other: &RowFunction) -> bool {
        match (&self.code, &other.code) {
            (Code::Portable(a), Code::Portable(b)) => Arc::ptr_eq(a, b),
            #[cfg(all(target_arch = "x86_64", unix))]
            (Code::Generated(a), Code::Generated(b)) => a == b,
            #[cfg(all(target_arch = "x86_64", unix))]
            _ => false,
        }
    }

    /// The generated code in Intel syntax, or a remark that there is none.
    pub fn disassemble(&self) -> String {
        match &self.code {
            Code::Portable(code) => format!("; portable, no generated code\n{code:#?}\n"),
            #[cfg(all(target_arch = "x86_64", unix))]
            Code::Generated(code) => code.disassemble(),
        }
    }
}

impl Code {
    fn compile(programs: &[&RowProgram], isa: Isa) -> Result<Vec<Code>, CompileError> {
        match isa {
            #[cfg(all(target_arch = "x86_64", unix))]
            Isa::Avx2 | Isa::Avx512 if isa.has_avx2() => {
                Ok(jit::compile(programs)?.into_iter().map(Code::Generated).collect())
            }
            _ => Ok(programs.iter().map(|program| Code::Portable(Arc::new(Portable::new(program)))).collect()),
        }
    }
}
