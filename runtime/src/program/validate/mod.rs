//! Rules of a kernel program that do not depend on the extents of its inputs.
//!
//! A program that keeps them can be bound; binding then checks every address against the memory that
//! it falls in. Together the two make a program safe to execute, wherever it came from.

mod gpu;
mod kernels;

use std::collections::BTreeSet;

use castiron_ir::{DType, Dim, Type};

use super::row::RowProgramError;
use super::{EntryProgram, Program, StateSlot, Step, Weight, WeightForm};
use crate::cpu::matmul::MAX_GROUPS;
pub use gpu::GpuProgramError;
use kernels::KernelRules;

/// Largest number of axes of an iteration space or tensor.
pub const MAX_RANK: usize = 12;
/// Largest number of kernels or buffers of an entry.
const MAX_PARTS: usize = 1 << 14;
/// Largest number of instances of all weights and states.
const MAX_INSTANCES: u64 = 1 << 20;

/// A program that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// A weight is at fault.
    #[error("weight {number} `{label}`: {fault}")]
    Weight {
        /// Its number.
        number: usize,
        /// What it is made from.
        label: String,
        /// What is wrong.
        fault: Fault,
    },
    /// A state is at fault.
    #[error("state `{name}`: {fault}")]
    State {
        /// Its name.
        name: String,
        /// What is wrong.
        fault: Fault,
    },
    /// An entry is at fault.
    #[error("entry `{entry}`: {fault}")]
    Entry {
        /// Its name.
        entry: String,
        /// What is wrong.
        fault: Fault,
    },
    /// A kernel is at fault.
    #[error("entry `{entry}`, kernel {number} `{label}`: {fault}")]
    Kernel {
        /// The entry.
        entry: String,
        /// Number of the kernel.
        number: usize,
        /// Its label.
        label: String,
        /// What is wrong.
        fault: Fault,
    },
}

/// Rules that a program can break.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A number without a thing.
    #[error("{what} {number} of {count} does not exist")]
    Missing {
        /// Kind of thing.
        what: &'static str,
        /// Number asked for.
        number: usize,
        /// How many there are.
        count: usize,
    },
    /// Two things have one name.
    #[error("the name `{0}` is given twice")]
    Duplicate(String),
    /// More than the runtime takes.
    #[error("{what} are more than {most}")]
    TooMany {
        /// Kind of thing.
        what: &'static str,
        /// How many are accepted.
        most: usize,
    },
    /// A size that is 0 or does not fit.
    #[error("{0} is 0 or too large")]
    Size(&'static str),
    /// A symbol that no input and no state gives a value.
    #[error("no input and no state that is used binds symbol `{0}`")]
    Unbound(String),
    /// A view with another number of strides than the iteration space has axes.
    #[error("{operand} has {found} strides over {expected} axes")]
    Rank {
        /// The operand.
        operand: String,
        /// Its strides.
        found: usize,
        /// Axes.
        expected: usize,
    },
    /// An element type that does not fit the place or the kernel.
    #[error("{operand} cannot be {found}")]
    DType {
        /// The operand.
        operand: String,
        /// Its type.
        found: DType,
    },
    /// A place or a form of weight that the operand cannot be.
    #[error("{operand} cannot be {what}")]
    Place {
        /// The operand.
        operand: String,
        /// What it is.
        what: &'static str,
    },
    /// A row program that is not well formed.
    #[error("row program: {0}")]
    Row(#[from] RowProgramError),
    /// Operands that do not fit the row program.
    #[error("the row program has {program} {what}, the kernel {kernel}")]
    Operands {
        /// Inputs or outputs.
        what: &'static str,
        /// How many the program has.
        program: usize,
        /// How many the kernel gives.
        kernel: usize,
    },
    /// A reduction in the epilogue of a product, which sees parts of rows only.
    #[error("an epilogue cannot reduce rows")]
    Epilogue,
    /// An accumulator that is read as one value for a row.
    #[error("accumulators vary along the row")]
    Accumulators,
    /// Steps whose kernels are not in ascending order.
    #[error("kernel {0} is executed out of order")]
    Order(u32),
    /// A loop in a loop.
    #[error("a repeat stands inside a repeat")]
    Nested,
    /// A loop that outruns the instances of what it uses.
    #[error("{what} {number} has {instances} instances for {count} iterations")]
    Instances {
        /// Weight or state.
        what: &'static str,
        /// Its number.
        number: u32,
        /// How many it has.
        instances: u32,
        /// How many are asked for; 1 outside loops.
        count: u32,
    },
    /// A buffer that is touched when it does not exist.
    #[error("buffer {buffer} lives from kernel {first} to {last}, but is touched by kernel {kernel}")]
    Lifetime {
        /// Its number.
        buffer: u32,
        /// Its first kernel.
        first: u32,
        /// Its last kernel.
        last: u32,
        /// Who touches it.
        kernel: u32,
    },
}

impl Program {
    /// Checks every rule that does not depend on the extents of inputs.
    ///
    /// # Errors
    /// The first rule that is broken, with its place.
    pub fn validate(&self) -> Result<(), ProgramError> {
        for (number, weight) in self.weights.iter().enumerate() {
            check_weight(weight).map_err(|fault| {
                let label = weight.label.clone();
                ProgramError::Weight { number, label, fault }
            })?;
        }
        for state in &self.states {
            let named = |fault| ProgramError::State { name: state.name.clone(), fault };
            check_state(state).map_err(named)?;
        }
        let instances = self.weights.iter().map(|w| w.instances).chain(self.states.iter().map(|s| s.instances));
        if instances.map(u64::from).sum::<u64>() > MAX_INSTANCES {
            let fault = Fault::TooMany { what: "instances", most: MAX_INSTANCES as usize };
            return Err(ProgramError::State { name: String::new(), fault });
        }
        unique(self.states.iter().map(|s| &s.name))
            .map_err(|fault| ProgramError::State { name: String::new(), fault })?;
        unique(self.entries.iter().map(|e| &e.name))
            .map_err(|fault| ProgramError::Entry { entry: String::new(), fault })?;
        self.entries.iter().try_for_each(|entry| self.validate_entry(entry))
    }

    fn validate_entry(&self, entry: &EntryProgram) -> Result<(), ProgramError> {
        let named = |fault| ProgramError::Entry { entry: entry.name.clone(), fault };
        check_signature(entry).map_err(named)?;
        let symbols = entry.symbols(self).map_err(named)?;
        let known = |dim: &Dim| bound(dim, &symbols);
        let shapes = entry.inputs.iter().chain(&entry.outputs).flat_map(|(_, ty)| &ty.shape);
        shapes.chain(entry.buffers.iter().map(|b| &b.bytes)).try_for_each(known).map_err(named)?;
        let mut order = Order { next: 0 };
        for step in &entry.steps {
            match step {
                Step::Kernel(number) => self.validate_kernel(entry, &symbols, &mut order, *number, 1)?,
                Step::Repeat { count, body } => {
                    if *count == 0 {
                        return Err(named(Fault::Size("the number of iterations")));
                    }
                    for step in body {
                        let Step::Kernel(number) = step else { return Err(named(Fault::Nested)) };
                        self.validate_kernel(entry, &symbols, &mut order, *number, *count)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// A kernel as it is executed `count` times.
    fn validate_kernel(
        &self,
        entry: &EntryProgram,
        symbols: &BTreeSet<&str>,
        order: &mut Order,
        number: u32,
        count: u32,
    ) -> Result<(), ProgramError> {
        let named = |fault| ProgramError::Entry { entry: entry.name.clone(), fault };
        let at = number as usize;
        let missing = Fault::Missing { what: "kernel", number: at, count: entry.kernels.len() };
        let kernel = entry.kernels.get(at).ok_or(missing).map_err(named)?;
        order.take(number).map_err(named)?;
        let rules = KernelRules { program: self, entry, symbols, number, count };
        rules.check(&kernel.body).map_err(|fault| {
            let (entry, label) = (entry.name.clone(), kernel.label.clone());
            ProgramError::Kernel { entry, number: at, label, fault }
        })
    }
}

/// Kernels are executed in ascending order, so that their numbers are points in time.
struct Order {
    next: u32,
}

impl Order {
    fn take(&mut self, number: u32) -> Result<(), Fault> {
        if number < self.next {
            return Err(Fault::Order(number));
        }
        self.next = number + 1;
        Ok(())
    }
}

impl EntryProgram {
    /// The symbols that inputs and the states that kernels use give values.
    ///
    /// # Errors
    /// A kernel that names a state that does not exist.
    pub fn symbols<'a>(&'a self, program: &'a Program) -> Result<BTreeSet<&'a str>, Fault> {
        let types = self.inputs.iter().map(|(_, ty)| ty);
        let states = self.states(program)?.into_iter().map(|number| &program.states[number].ty);
        Ok(types.chain(states).flat_map(|ty| ty.shape.iter().filter_map(lone_symbol)).collect())
    }

    /// Numbers of the states that kernels use.
    ///
    /// # Errors
    /// A kernel that names a state that does not exist.
    pub(crate) fn states(&self, program: &Program) -> Result<BTreeSet<usize>, Fault> {
        let mut states = BTreeSet::new();
        for kernel in &self.kernels {
            kernels::for_each_place(&kernel.body, &mut |place| {
                if let super::view::Place::State(number) = *place {
                    states.insert(number as usize);
                }
            });
        }
        let count = program.states.len();
        match states.last() {
            Some(&number) if number >= count => Err(Fault::Missing { what: "state", number, count }),
            _ => Ok(states),
        }
    }
}

/// The symbol that a dim consists of.
pub(crate) fn lone_symbol(dim: &Dim) -> Option<&str> {
    match dim.symbols()[..] {
        [name] if *dim == Dim::symbol(name) => Some(name),
        _ => None,
    }
}

fn bound(dim: &Dim, symbols: &BTreeSet<&str>) -> Result<(), Fault> {
    match dim.symbols().into_iter().find(|name| !symbols.contains(name)) {
        Some(name) => Err(Fault::Unbound(name.to_owned())),
        None => Ok(()),
    }
}

fn unique<'a>(names: impl Iterator<Item = &'a String>) -> Result<(), Fault> {
    let mut seen = BTreeSet::new();
    let mut names = names;
    match names.find(|name| !seen.insert(name.as_str())) {
        Some(name) => Err(Fault::Duplicate(name.clone())),
        None => Ok(()),
    }
}

fn check_weight(weight: &Weight) -> Result<(), Fault> {
    let extents = match &weight.form {
        WeightForm::Dense { shape, .. } if shape.len() > MAX_RANK => {
            return Err(Fault::TooMany { what: "axes", most: MAX_RANK });
        }
        WeightForm::Dense { .. } => [1; 3],
        WeightForm::Packed(matrix) | WeightForm::Stack { matrix, .. } if matrix.groups > MAX_GROUPS => {
            return Err(Fault::TooMany { what: "groups", most: MAX_GROUPS });
        }
        WeightForm::Packed(matrix) | WeightForm::Stack { matrix, .. } => [matrix.groups, matrix.n, matrix.k],
    };
    let sizes = 0..weight.encodings.len().max(1);
    let is_whole = sizes.into_iter().all(|i| weight.bytes(i).is_some_and(|bytes| bytes > 0));
    if !is_whole || extents.contains(&0) {
        return Err(Fault::Size("its extent"));
    }
    let is_packed = !matches!(weight.form, WeightForm::Dense { .. });
    let is_mixed = is_packed && weight.encodings.len() == weight.instances as usize;
    if !weight.encodings.is_empty() && !is_mixed {
        return Err(Fault::Size("the number of encodings"));
    }
    if weight.instances == 0 { Err(Fault::Size("the number of instances")) } else { Ok(()) }
}

fn check_state(state: &StateSlot) -> Result<(), Fault> {
    if state.instances == 0 {
        return Err(Fault::Size("the number of instances"));
    }
    let symbols: BTreeSet<&str> = state.ty.shape.iter().filter_map(lone_symbol).collect();
    check_type(&state.ty)?;
    state.ty.shape.iter().try_for_each(|dim| bound(dim, &symbols))
}

fn check_type(ty: &Type) -> Result<(), Fault> {
    if ty.rank() > MAX_RANK { Err(Fault::TooMany { what: "axes", most: MAX_RANK }) } else { Ok(()) }
}

fn check_signature(entry: &EntryProgram) -> Result<(), Fault> {
    unique(entry.inputs.iter().map(|(name, _)| name))?;
    unique(entry.outputs.iter().map(|(name, _)| name))?;
    entry.inputs.iter().chain(&entry.outputs).try_for_each(|(_, ty)| check_type(ty))?;
    if entry.kernels.len() > MAX_PARTS || entry.buffers.len() > MAX_PARTS {
        return Err(Fault::TooMany { what: "kernels or buffers", most: MAX_PARTS });
    }
    Ok(())
}
