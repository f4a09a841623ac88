//! A cache of row functions: equal programs are compiled once.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use super::function::{CompileError, RowFunction};
use crate::cpu::isa::Isa;
use crate::program::row::RowProgram;

/// Compiled functions by instruction set and program.
#[derive(Debug, Default)]
pub struct RowCache {
    functions: Mutex<HashMap<Isa, HashMap<RowProgram, RowFunction>>>,
}

impl RowCache {
    /// The cache of the process.
    pub fn global() -> &'static RowCache {
        static CACHE: LazyLock<RowCache> = LazyLock::new(RowCache::default);
        &CACHE
    }

    /// The function of a program.
    ///
    /// # Errors
    /// Those of [`RowFunction::compile`].
    pub fn get(&self, program: &RowProgram, isa: Isa) -> Result<RowFunction, CompileError> {
        Ok(self.get_all(&[program], isa)?.remove(0))
    }

    /// The functions of programs; those that are missing are compiled into one mapping.
    ///
    /// # Errors
    /// Those of [`RowFunction::compile_all`].
    pub fn get_all(&self, programs: &[&RowProgram], isa: Isa) -> Result<Vec<RowFunction>, CompileError> {
        // A panic while the lock is held leaves at worst some functions out.
        let mut sets = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        let functions = sets.entry(isa).or_default();
        let mut missing: Vec<&RowProgram> = Vec::new();
        for &program in programs {
            if !functions.contains_key(program) && !missing.contains(&program) {
                missing.push(program);
            }
        }
        if !missing.is_empty() {
            let compiled = RowFunction::compile_all(&missing, isa)?;
            functions.extend(missing.into_iter().cloned().zip(compiled));
        }
        Ok(programs.iter().map(|&program| functions[program].clone()).collect())
    }
}
