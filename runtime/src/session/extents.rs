//! Extents of states: what their symbols stand for.

use std::collections::BTreeSet;

use super::RunError;
use super::model::names;
use crate::memory::OutOfMemory;
use crate::program::{Program, StateSlot, lone_symbol};

/// The extents that the symbols of a program's states stand for.
#[derive(Clone, Debug)]
pub(crate) struct Extents {
    symbols: Vec<(String, usize)>,
}

impl Extents {
    /// # Errors
    /// A symbol that no state has, or one without extent.
    pub fn new(program: &Program, given: &[(&str, usize)]) -> Result<Extents, RunError> {
        let lone = program.states.iter().flat_map(|s| s.ty.shape.iter().filter_map(lone_symbol));
        let wanted: BTreeSet<&str> = lone.collect();
        let fault = |name: &str, reason| RunError::Symbol {
            name: name.to_owned(),
            reason,
            known: names(wanted.iter().copied()),
        };
        if let Some((name, _)) = given.iter().find(|(name, _)| !wanted.contains(name)) {
            return Err(fault(name, "is unknown"));
        }
        let value = |name: &&str| {
            let value = given.iter().find(|(n, _)| n == name).map_or(0, |&(_, value)| value);
            if value > 0 { Ok(((*name).to_owned(), value)) } else { Err(fault(name, "has no value of at least 1")) }
        };
        Ok(Extents { symbols: wanted.iter().map(value).collect::<Result<_, _>>()? })
    }

    /// All symbols with their extents.
    pub fn symbols(&self) -> &[(String, usize)] {
        &self.symbols
    }

    /// The extent that a symbol stands for.
    pub fn get(&self, name: &str) -> Option<usize> {
        self.symbols.iter().find(|(n, _)| n == name).map(|&(_, value)| value)
    }

    /// The same but for one symbol.
    ///
    /// # Errors
    /// An unknown symbol, or an extent of 0.
    pub fn with(&self, name: &str, value: usize) -> Result<Extents, RunError> {
        let known = || names(self.symbols.iter().map(|(n, _)| n.as_str()));
        let fault = |reason| RunError::Symbol { name: name.to_owned(), reason, known: known() };
        let mut changed = self.clone();
        let symbol = changed.symbols.iter_mut().find(|(n, _)| n == name).ok_or_else(|| fault("is unknown"))?;
        if value == 0 {
            return Err(fault("has no value of at least 1"));
        }
        symbol.1 = value;
        Ok(changed)
    }

    /// The shape of a state.
    ///
    /// # Errors
    /// Extents that are more than memory holds.
    pub fn shape(&self, slot: &StateSlot) -> Result<Vec<usize>, RunError> {
        let value = |dim: &castiron_ir::Dim| dim.evaluate(&|name| self.get(name));
        // An extent without value would take more memory than there is.
        slot.ty.shape.iter().map(|dim| value(dim).map_err(|_| OutOfMemory(usize::MAX).into())).collect()
    }
}

/// The axis of a state that a symbol is the extent of.
pub(crate) fn axis(slot: &StateSlot, symbol: &str) -> Option<usize> {
    slot.ty.shape.iter().position(|dim| lone_symbol(dim) == Some(symbol))
}
