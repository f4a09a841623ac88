//! Rules of launches: what they name exists, what must not be written is not, and they execute the
//! kernels that the program's steps execute.

use std::collections::BTreeSet;

use castiron_ir::Dim;

use super::{Fault, bound, unique};
use crate::program::gpu::{Binding, Choice, Dispatch, GpuEntry, GpuProgram, GpuStage, Launch, Resource};
use crate::program::view::Place;
use crate::program::{EntryProgram, Program, Step};

/// Largest number of shaders, and of dispatches of an entry.
const MAX_PARTS: usize = 1 << 14;
/// Largest number of dispatches of a run, all iterations counted.
const MAX_DISPATCHES: u64 = 1 << 20;
/// Largest number of things that one launch, choice or dispatch lists.
const MAX_LISTED: usize = 256;
/// Storage buffers are bound in words.
const WORD: u64 = 4;

/// Launches that break a rule, or that do not fit the program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GpuProgramError {
    /// Another number of entries.
    #[error("there are launches of {found} entries, the program has {expected}")]
    Entries {
        /// How many have launches.
        found: usize,
        /// How many there are.
        expected: usize,
    },
    /// More shaders than the runtime takes.
    #[error("{0}")]
    Shaders(Fault),
    /// An entry is at fault.
    #[error("launches of entry `{entry}`: {fault}")]
    Entry {
        /// Its name.
        entry: String,
        /// What is wrong.
        fault: Fault,
    },
    /// Launches that execute other kernels than the steps of the program, or in another order.
    #[error("launches of entry `{entry}` execute kernels {found:?} where the program's steps execute {expected:?}")]
    Kernels {
        /// The entry.
        entry: String,
        /// Kernels of the first sequence that differs, with the number of iterations.
        found: Option<(u32, Vec<u32>)>,
        /// Those of the program's steps.
        expected: Option<(u32, Vec<u32>)>,
    },
    /// A launch is at fault.
    #[error("launches of entry `{entry}`, kernels {first} to {last}: {fault}")]
    Launch {
        /// The entry.
        entry: String,
        /// First kernel of the launch.
        first: u32,
        /// Last kernel of the launch.
        last: u32,
        /// What is wrong.
        fault: Fault,
    },
}

impl GpuProgram {
    /// Checks every rule that does not depend on the extents of inputs, for a program that is valid.
    /// The text of shaders is checked when pipelines are made.
    ///
    /// # Errors
    /// The first rule that is broken, with its place.
    pub fn validate(&self, program: &Program) -> Result<(), GpuProgramError> {
        if self.shaders.len() > MAX_PARTS {
            return Err(GpuProgramError::Shaders(Fault::TooMany { what: "shaders", most: MAX_PARTS }));
        }
        let (found, expected) = (self.entries.len(), program.entries.len());
        if found != expected {
            return Err(GpuProgramError::Entries { found, expected });
        }
        let mut entries = self.entries.iter().zip(&program.entries);
        entries.try_for_each(|(launches, entry)| self.validate_entry(launches, program, entry))
    }

    fn validate_entry(
        &self,
        launches: &GpuEntry,
        program: &Program,
        entry: &EntryProgram,
    ) -> Result<(), GpuProgramError> {
        let named = |fault| GpuProgramError::Entry { entry: entry.name.clone(), fault };
        let symbols = entry.symbols(program).map_err(named)?;
        unique(launches.symbols.iter()).map_err(named)?;
        if let Some(name) = launches.symbols.iter().find(|name| !symbols.contains(name.as_str())) {
            return Err(named(Fault::Unbound(name.clone())));
        }
        check_counts(launches).map_err(named)?;
        check_kernels(launches, entry)?;
        for stage in &launches.stages {
            for launch in &stage.launches {
                let rules =
                    LaunchRules { shaders: self, program, entry, symbols: &symbols, count: stage.count, launch };
                let (first, last) = (launch.first, launch.last);
                let located = |fault| GpuProgramError::Launch { entry: entry.name.clone(), first, last, fault };
                launch.choices.iter().try_for_each(|choice| rules.choice(choice)).map_err(located)?;
            }
        }
        Ok(())
    }
}

/// What is executed is of a size that can be handled.
fn check_counts(launches: &GpuEntry) -> Result<(), Fault> {
    let dispatches = |stage: &GpuStage| -> usize {
        stage.launches.iter().flat_map(|launch| &launch.choices).map(|choice| choice.dispatches.len()).sum()
    };
    if launches.stages.iter().any(|stage| stage.count == 0) {
        return Err(Fault::Size("the number of iterations"));
    }
    if launches.stages.iter().flat_map(|stage| &stage.launches).any(|launch| launch.choices.is_empty()) {
        return Err(Fault::Size("the number of choices"));
    }
    if launches.stages.iter().map(dispatches).sum::<usize>() > MAX_PARTS {
        return Err(Fault::TooMany { what: "dispatches", most: MAX_PARTS });
    }
    let runs = launches.stages.iter().map(|stage| dispatches(stage) as u64 * u64::from(stage.count));
    if runs.sum::<u64>() > MAX_DISPATCHES {
        return Err(Fault::TooMany { what: "dispatches of a run", most: MAX_DISPATCHES as usize });
    }
    Ok(())
}

/// Sequences of kernels with the number of times that they are executed. Sequences that are executed
/// once are one with those that follow.
#[derive(Default)]
struct Sequences(Vec<(u32, Vec<u32>)>);

impl Sequences {
    fn push(&mut self, count: u32, kernels: impl Iterator<Item = u32>) {
        match self.0.last_mut() {
            Some((1, last)) if count == 1 => last.extend(kernels),
            _ => self.0.push((count, kernels.collect())),
        }
    }
}

fn check_kernels(launches: &GpuEntry, entry: &EntryProgram) -> Result<(), GpuProgramError> {
    let (mut expected, mut found) = (Sequences::default(), Sequences::default());
    let number = |step: &Step| if let Step::Kernel(number) = step { Some(*number) } else { None };
    for step in &entry.steps {
        match step {
            Step::Kernel(number) => expected.push(1, std::iter::once(*number)),
            Step::Repeat { count, body } => expected.push(*count, body.iter().filter_map(number)),
        }
    }
    for stage in &launches.stages {
        for launch in &stage.launches {
            let (first, last) = (launch.first, launch.last);
            if first > last || last as usize >= entry.kernels.len() {
                let fault = Fault::Missing { what: "kernel", number: last as usize, count: entry.kernels.len() };
                return Err(GpuProgramError::Launch { entry: entry.name.clone(), first, last, fault });
            }
        }
        found.push(stage.count, stage.launches.iter().flat_map(|launch| launch.first..=launch.last));
    }
    let differs = |at: &usize| found.0.get(*at) != expected.0.get(*at);
    match (0..found.0.len().max(expected.0.len())).find(differs) {
        None => Ok(()),
        Some(at) => Err(GpuProgramError::Kernels {
            entry: entry.name.clone(),
            found: found.0.get(at).cloned(),
            expected: expected.0.get(at).cloned(),
        }),
    }
}

/// A launch with what it may refer to.
struct LaunchRules<'a> {
    shaders: &'a GpuProgram,
    program: &'a Program,
    entry: &'a EntryProgram,
    symbols: &'a BTreeSet<&'a str>,
    /// How often it is executed.
    count: u32,
    launch: &'a Launch,
}

impl LaunchRules<'_> {
    fn choice(&self, choice: &Choice) -> Result<(), Fault> {
        listed("choices", self.launch.choices.len())?;
        listed("temporary buffers", choice.scratch.len())?;
        let of_condition = choice.condition.at_most.iter().map(|(dim, _)| dim);
        choice.scratch.iter().chain(of_condition).try_for_each(|dim| self.dim(dim))?;
        if let Some((weight, _)) = choice.condition.stored {
            self.weight(choice, weight)?;
        }
        choice.dispatches.iter().try_for_each(|dispatch| self.dispatch(choice, dispatch))
    }

    fn dispatch(&self, choice: &Choice, dispatch: &Dispatch) -> Result<(), Fault> {
        found("shader", dispatch.shader, self.shaders.shaders.len())?;
        listed("bindings", dispatch.bindings.len())?;
        listed("grids", dispatch.grids.len())?;
        for (dim, tile) in dispatch.grids.iter().flatten() {
            self.dim(dim)?;
            if *tile == 0 {
                return Err(Fault::Size("a tile"));
            }
        }
        dispatch.grids.iter().try_for_each(|grid| listed("axes of a grid", grid.len()))?;
        for (number, binding) in dispatch.bindings.iter().enumerate() {
            self.binding(choice, &format!("binding {}", number + 1), binding)?;
            if dispatch.bindings[..number].iter().any(|other| other.resource == binding.resource) {
                return Err(Fault::Duplicate(format!("binding {}", number + 1)));
            }
        }
        Ok(())
    }

    fn dim(&self, dim: &Dim) -> Result<(), Fault> {
        bound(dim, self.symbols)
    }

    /// What exists and is bound for writing just if it may be written: memory that is read by one
    /// binding and written by another may be the same buffer, which devices do not allow.
    fn binding(&self, choice: &Choice, name: &str, binding: &Binding) -> Result<(), Fault> {
        let misplaced = |what| Err(Fault::Place { operand: name.to_owned(), what });
        let is_constant = self.resource(choice, name, &binding.resource)?;
        match (is_constant, binding.read_write) {
            (true, true) => misplaced("a weight or an input that is written"),
            (false, false) => misplaced("read-only unless it is a weight or an input"),
            _ => Ok(()),
        }
    }

    /// Checks that a resource exists; gives whether it never changes.
    fn resource(&self, choice: &Choice, name: &str, resource: &Resource) -> Result<bool, Fault> {
        let Launch { first, last, .. } = *self.launch;
        match *resource {
            Resource::Place(Place::Buffer(buffer)) => {
                found("buffer", buffer, self.entry.buffers.len())?;
                let lifetime = &self.entry.buffers[buffer as usize];
                let is_alive = lifetime.first <= last && first <= lifetime.last;
                let fault = Fault::Lifetime { buffer, first: lifetime.first, last: lifetime.last, kernel: first };
                if is_alive { Ok(false) } else { Err(fault) }
            }
            Resource::Place(Place::Input(number)) => {
                found("input", number, self.entry.inputs.len())?;
                Ok(true)
            }
            Resource::Place(Place::Output(number)) => {
                found("output", number, self.entry.outputs.len())?;
                Ok(false)
            }
            Resource::Place(Place::State(number)) => {
                found("state", number, self.program.states.len())?;
                self.instances("state", number, self.program.states[number as usize].instances)?;
                Ok(false)
            }
            Resource::Place(Place::Weight(number)) => self.weight(choice, number).map(|_| true),
            Resource::Place(Place::Index(_) | Place::Extent(_)) => {
                Err(Fault::Place { operand: name.to_owned(), what: "a number without memory" })
            }
            Resource::Part { weight, offset, bytes } => {
                let whole = self.weight(choice, weight)?.next_multiple_of(WORD);
                let end = offset.checked_add(bytes).filter(|&end| end <= whole && bytes > 0);
                let is_part = end.is_some() && offset.is_multiple_of(WORD) && bytes.is_multiple_of(WORD);
                if is_part { Ok(true) } else { Err(Fault::Size("a part of a weight")) }
            }
            Resource::Scratch(number) => {
                found("temporary buffer", number, choice.scratch.len())?;
                Ok(false)
            }
            Resource::Status => Ok(false),
        }
    }

    /// Bytes of a weight, of the fewest instances that a choice may bind.
    fn weight(&self, choice: &Choice, number: u32) -> Result<u64, Fault> {
        found("weight", number, self.program.weights.len())?;
        let weight = &self.program.weights[number as usize];
        self.instances("weight", number, weight.instances)?;
        let is_bound = |i: &usize| match (choice.condition.stored, weight.encodings.get(*i)) {
            (Some((stored, encoding)), Some(found)) if stored == number => *found == encoding,
            _ => true,
        };
        let instances = (0..weight.encodings.len().max(1)).filter(is_bound);
        let fewest = instances.filter_map(|i| weight.bytes(i)).min();
        fewest.map(|bytes| bytes as u64).ok_or(Fault::Size("a weight"))
    }

    /// One instance serves every iteration; several serve one each.
    fn instances(&self, what: &'static str, number: u32, instances: u32) -> Result<(), Fault> {
        let (count, is_enough) = (self.count, instances == 1 || self.count > 1 && self.count <= instances);
        if is_enough { Ok(()) } else { Err(Fault::Instances { what, number, instances, count }) }
    }
}

fn found(what: &'static str, number: u32, count: usize) -> Result<(), Fault> {
    let number = number as usize;
    if number < count { Ok(()) } else { Err(Fault::Missing { what, number, count }) }
}

fn listed(what: &'static str, count: usize) -> Result<(), Fault> {
    if count <= MAX_LISTED { Ok(()) } else { Err(Fault::TooMany { what, most: MAX_LISTED }) }
}
