//! Sessions: states, outputs, and entries bound to recent extents.
#![allow(unsafe_code)] // Hands the session's memory to kernels.

use castiron_ir::DType;

use super::RunError;
use super::model::{Engine, Model, names};
use super::states::States;
use crate::bind::symbols::Mismatch;
use crate::cpu::executor::{Bases, BoundEntry};
use crate::memory::AlignedBytes;
use crate::program::EntryProgram;
use crate::tensor::{Tensor, TensorRef, tensor_bytes};

/// How many bindings are kept: a decoding loop needs one, a prompt another.
const BINDINGS: usize = 8;

/// What outlives the calls of a model's entries.
pub struct Session {
    model: Model,
    states: States,
    /// The most recently used first.
    bindings: Vec<Binding>,
    /// Values of the symbols of the entry that is about to run.
    values: Vec<usize>,
    /// Memory for the outputs of each entry, as large as any run has needed.
    outputs: Vec<Vec<AlignedBytes>>,
}

/// An entry bound to extents.
struct Binding {
    entry: usize,
    values: Vec<usize>,
    bound: BoundEntry,
    bases: Bases,
}

/// The results of a run, until the next one.
#[derive(Clone, Copy)]
pub struct Outputs<'a> {
    entry: &'a EntryProgram,
    types: &'a [(DType, Vec<usize>)],
    bytes: &'a [AlignedBytes],
}

impl<'a> Outputs<'a> {
    /// An output by name.
    pub fn get(&self, name: &str) -> Option<TensorRef<'a>> {
        let number = self.entry.outputs.iter().position(|(n, _)| n == name)?;
        self.iter().nth(number).map(|(_, tensor)| tensor)
    }

    /// All outputs with their names.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, TensorRef<'a>)> + use<'a> {
        let named = self.entry.outputs.iter().zip(self.types).zip(self.bytes);
        // The bytes suffice for this type, and are aligned to 64.
        named.filter_map(|(((name, _), (dtype, shape)), bytes)| {
            let bytes = bytes.get(..tensor_bytes(*dtype, shape)?)?;
            Some((name.as_str(), TensorRef::new(*dtype, shape, bytes).ok()?))
        })
    }
}

impl Session {
    pub(super) fn new(model: Model, symbols: &[(&str, usize)]) -> Result<Session, RunError> {
        let states = States::new(model.program(), symbols)?;
        let outputs =
            model.program().entries.iter().map(|entry| (0..entry.outputs.len()).map(|_| AlignedBytes::default()));
        let outputs = outputs.map(Iterator::collect).collect();
        Ok(Session { model, states, bindings: Vec::new(), values: Vec::new(), outputs })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The extent that a symbol of the states stands for.
    pub fn symbol(&self, name: &str) -> Option<usize> {
        self.states.symbol(name)
    }

    /// Sets all states to zero.
    pub fn reset(&mut self) {
        self.states.reset();
    }

    /// Gives a symbol of the states another extent, such as a larger capacity. What fits both extents
    /// is kept, the rest is zero.
    ///
    /// # Errors
    /// An unknown symbol, or no memory; then nothing changes.
    pub fn resize(&mut self, symbol: &str, value: usize) -> Result<(), RunError> {
        if self.states.symbol(symbol) == Some(value) {
            return Ok(());
        }
        self.states.resize(self.model.program(), symbol, value)?;
        self.bindings.clear();
        Ok(())
    }

    /// Replaces row `i` of all states along a symbol's axis by what was row `rows[i]`: a batch whose
    /// sequences continue others, as in beam search.
    ///
    /// # Errors
    /// A row that does not exist, or another number of rows than there are.
    pub fn select(&mut self, symbol: &str, rows: &[usize]) -> Result<(), RunError> {
        self.states.select(self.model.program(), symbol, rows)
    }

    /// An instance of a state.
    ///
    /// # Errors
    /// No such state or instance.
    pub fn state(&self, name: &str, instance: usize) -> Result<TensorRef<'_>, RunError> {
        let number = self.model.program().states.iter().position(|s| s.name == name);
        let tensor = number.and_then(|number| self.states.tensors()[number].get(instance));
        tensor.map(Tensor::view).ok_or_else(|| RunError::UnknownState { name: name.to_owned(), instance })
    }

    /// Executes an entry. Extents follow from the shapes of the inputs and from the states.
    ///
    /// # Errors
    /// Inputs that do not fit the entry or one another, no memory, or an index from memory that is
    /// out of range; after the last, outputs and states are unspecified.
    pub fn run(&mut self, entry: &str, inputs: &[(&str, TensorRef<'_>)]) -> Result<Outputs<'_>, RunError> {
        let number = self.model.shared.entry(entry)?;
        self.infer(number, inputs)?;
        self.bind(number)?;
        self.provide_outputs(number)?;
        let binding = &mut self.bindings[0];
        let mut engine = self.model.shared.engine();
        let Engine { pool, workers, arena } = &mut *engine;
        let slots = binding.bound.slots();
        let bases = &mut binding.bases.0;
        for (name, tensor) in inputs {
            let inputs = &self.model.program().entries[number].inputs;
            if let Some(at) = inputs.iter().position(|(n, _)| n == name) {
                bases[at] = tensor.bytes().as_ptr().cast_mut();
            }
        }
        if arena.len() < binding.bound.plan().peak_bytes {
            *arena = AlignedBytes::zeroed(binding.bound.plan().peak_bytes)?;
        }
        for (base, buffer) in bases[slots.buffers..].iter_mut().zip(&binding.bound.plan().buffers) {
            *base = arena.pointer().wrapping_add(buffer.offset);
        }
        binding.bound.reserve(workers);
        // SAFETY: inputs were checked against the types of the entry, and validation lets no kernel
        // write them; outputs and states were allocated for these extents, and are borrowed with the
        // session; weights are mapped, of checked sizes, and not written; the arena holds the plan.
        let done = unsafe { binding.bound.run(pool, workers, &binding.bases) };
        drop(engine);
        done.map_err(|failure| RunError::Index {
            kernel: failure.kernel,
            source_name: failure.source,
            index: failure.index,
            extent: failure.extent,
        })?;
        let entry = &self.model.program().entries[number];
        Ok(Outputs { entry, types: self.bindings[0].bound.outputs(), bytes: &self.outputs[number] })
    }

    /// Finds the values of the entry's symbols.
    fn infer(&mut self, number: usize, inputs: &[(&str, TensorRef<'_>)]) -> Result<(), RunError> {
        let (entry, table) = (&self.model.program().entries[number], &self.model.shared.tables[number]);
        self.values.clear();
        self.values.resize(table.names().len(), 0);
        for (symbol, name) in table.of_states() {
            self.values[symbol] = self.states.symbol(name).unwrap_or(0);
        }
        for (i, (name, tensor)) in inputs.iter().enumerate() {
            let at = entry.inputs.iter().position(|(n, _)| n == name);
            let is_repeated = inputs[..i].iter().any(|(other, _)| other == name);
            let Some(at) = at.filter(|_| !is_repeated) else { return Err(unknown_input(entry, name)) };
            let expected = entry.inputs[at].1.dtype;
            if tensor.dtype() != expected {
                return Err(RunError::InputType { name: (*name).to_owned(), found: tensor.dtype(), expected });
            }
            let fit = table.infer(at, tensor.shape(), &mut self.values);
            fit.map_err(|mismatch| misshapen(entry, at, tensor.shape(), mismatch))?;
        }
        for (at, (name, _)) in entry.inputs.iter().enumerate() {
            let given = inputs.iter().find(|(n, _)| n == name);
            let Some((_, tensor)) = given else {
                return Err(RunError::MissingInput { entry: entry.name.clone(), name: name.clone() });
            };
            let fit = table.check(at, tensor.shape(), &self.values);
            fit.map_err(|mismatch| misshapen(entry, at, tensor.shape(), mismatch))?;
        }
        Ok(())
    }

    /// Brings the binding of an entry to these values to the front.
    fn bind(&mut self, number: usize) -> Result<(), RunError> {
        let known = self.bindings.iter().position(|b| b.entry == number && b.values == self.values);
        if let Some(at) = known {
            self.bindings[..=at].rotate_right(1);
            return Ok(());
        }
        let bound = self.model.shared.bind(number, &self.values)?;
        let mut binding = Binding { entry: number, values: self.values.clone(), bound, bases: Bases::default() };
        self.connect(&mut binding);
        self.bindings.truncate(BINDINGS - 1);
        self.bindings.insert(0, binding);
        Ok(())
    }

    /// Makes sure that the outputs of the binding at the front have memory, and tells it where.
    fn provide_outputs(&mut self, number: usize) -> Result<(), RunError> {
        let binding = &mut self.bindings[0];
        let bases = &mut binding.bases.0[binding.bound.slots().inputs..];
        for ((dtype, shape), (bytes, base)) in
            binding.bound.outputs().iter().zip(self.outputs[number].iter_mut().zip(bases))
        {
            let size = tensor_bytes(*dtype, shape).unwrap_or(usize::MAX);
            if bytes.len() < size {
                *bytes = AlignedBytes::zeroed(size)?;
            }
            *base = bytes.pointer();
        }
        Ok(())
    }

    /// Fills in the memories that stay where they are: states and weights.
    fn connect(&mut self, binding: &mut Binding) {
        let slots = binding.bound.slots();
        let bases = &mut binding.bases.0;
        bases.resize(slots.count, std::ptr::null_mut());
        for (&first, instances) in slots.states.iter().zip(self.states.tensors_mut()) {
            bases[first..].iter_mut().zip(instances).for_each(|(base, tensor)| *base = tensor.pointer());
        }
        let artifact = self.model.artifact();
        for (number, &first) in slots.weights.iter().enumerate() {
            for instance in 0..artifact.program().weights[number].instances as usize {
                bases[first + instance] = artifact.weight(number, instance).as_ptr().cast_mut();
            }
        }
    }
}

fn unknown_input(entry: &EntryProgram, name: &str) -> RunError {
    let known = names(entry.inputs.iter().map(|(n, _)| n.as_str()));
    RunError::UnknownInput { entry: entry.name.clone(), name: name.to_owned(), known }
}

fn misshapen(entry: &EntryProgram, at: usize, shape: &[usize], mismatch: Mismatch) -> RunError {
    let (name, ty) = &entry.inputs[at];
    let reason = match mismatch {
        Mismatch::Rank(rank) => format!("it should have {rank} axes"),
        Mismatch::Empty(axis) => format!("axis {axis} is empty"),
        Mismatch::Extent(axis, expected) => {
            format!("axis {axis}, {}, should be {expected}", ty.shape[axis])
        }
    };
    RunError::InputShape { name: name.clone(), found: shape.to_vec(), expected: ty.to_string(), reason }
}
