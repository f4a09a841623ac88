//! Sessions on the CPU: entries bound to the session's memory, executed by the threads of the model.
#![allow(unsafe_code)] // Hands the session's memory to kernels.

use std::sync::{Arc, Mutex, PoisonError};

use super::executor::{BINDINGS, Call, Executor, Results};
use super::extents::Extents;
use super::model::Common;
use super::outputs;
use super::states::States;
use super::{Options, RunError};
use crate::bind::padding::Padding;
use crate::cpu::executor::{Bases, BoundEntry, WorkerMemory, bind};
use crate::cpu::isa::Isa;
use crate::cpu::live::Live;
use crate::cpu::pool::Pool;
use crate::memory::AlignedBytes;
use crate::profile::RunProfile;
use crate::tensor::{Tensor, TensorRef};

/// A model with threads to execute it.
pub(super) struct CpuModel {
    common: Arc<Common>,
    /// What is known about the padding of each entry.
    paddings: Vec<Option<Padding>>,
    isa: Isa,
    threads: usize,
    /// Whether runs are measured.
    profile: bool,
    engine: Mutex<Engine>,
}

/// What a run needs for itself.
struct Engine {
    pool: Pool,
    workers: Vec<Mutex<WorkerMemory>>,
    arena: AlignedBytes,
}

impl CpuModel {
    pub fn new(common: Arc<Common>, options: &Options) -> Result<CpuModel, RunError> {
        let pool = Pool::new(options.threads).map_err(RunError::Threads)?;
        let threads = pool.threads();
        let workers = (0..threads).map(|_| Mutex::default()).collect();
        let engine = Mutex::new(Engine { pool, workers, arena: AlignedBytes::default() });
        let program = common.artifact.program();
        let paddings = program.entries.iter().map(|entry| Padding::of(program, entry)).collect();
        Ok(CpuModel { common, paddings, isa: options.isa, threads, profile: options.profile, engine })
    }

    pub fn threads(&self) -> usize {
        self.threads
    }

    pub fn session(self: Arc<Self>, extents: &Extents) -> Result<CpuSession, RunError> {
        let program = self.common.artifact.program();
        let (states, outputs) = (States::new(program, extents)?, outputs::empty(&program.entries));
        Ok(CpuSession { model: self, states, bindings: Vec::new(), live: Live::default(), outputs, profile: None })
    }

    /// The engine, whose state is whole even if a run panicked.
    fn engine(&self) -> std::sync::MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Binds an entry to the values of its symbols.
pub(super) fn bind_entry(
    common: &Common,
    number: usize,
    values: &[usize],
    with: (Isa, usize),
    padding: Option<&Padding>,
) -> Result<BoundEntry, RunError> {
    let program = common.artifact.program();
    Ok(bind(program, &program.entries[number], (&common.tables[number], values), with, padding)?)
}

/// What outlives the calls of a model's entries.
pub(super) struct CpuSession {
    model: Arc<CpuModel>,
    states: States,
    /// The most recently used first.
    bindings: Vec<Binding>,
    /// Which rows of the present batch are no padding.
    live: Live,
    /// Memory for the outputs of each entry, as large as any run has needed.
    outputs: Vec<Vec<AlignedBytes>>,
    profile: Option<RunProfile>,
}

/// An entry bound to extents.
struct Binding {
    entry: usize,
    values: Vec<usize>,
    /// Whether it leaves rows of padding out.
    is_padded: bool,
    bound: BoundEntry,
    bases: Bases,
}

impl Executor for CpuSession {
    fn reset(&mut self) {
        self.states.reset();
    }

    fn resize(&mut self, extents: &Extents) -> Result<(), RunError> {
        self.states.resize(self.model.common.artifact.program(), extents)?;
        self.bindings.clear();
        Ok(())
    }

    fn select(&mut self, symbol: &str, rows: &[usize]) -> Result<(), RunError> {
        self.states.select(self.model.common.artifact.program(), symbol, rows)
    }

    fn state(&mut self, number: usize, instance: usize) -> Result<Option<TensorRef<'_>>, RunError> {
        Ok(self.states.tensors()[number].get(instance).map(Tensor::view))
    }

    fn set_state(&mut self, number: usize, instance: usize, bytes: &[u8]) -> Result<(), RunError> {
        self.states.tensors_mut()[number][instance].bytes_mut().copy_from_slice(bytes);
        Ok(())
    }

    fn run(&mut self, call: &Call<'_>) -> Result<Results<'_>, RunError> {
        let is_padded = self.find_padding(call);
        self.bind(call, is_padded)?;
        self.provide_outputs(call.entry)?;
        let entry = &self.model.common.artifact.program().entries[call.entry];
        let binding = &mut self.bindings[0];
        let mut engine = self.model.engine();
        let Engine { pool, workers, arena } = &mut *engine;
        let slots = binding.bound.slots();
        let bases = &mut binding.bases.0;
        for ((name, _), base) in entry.inputs.iter().zip(bases.iter_mut()) {
            if let Some(tensor) = call.input(name) {
                *base = tensor.bytes().as_ptr().cast_mut();
            }
        }
        if arena.len() < binding.bound.plan().peak_bytes {
            *arena = AlignedBytes::zeroed(binding.bound.plan().peak_bytes)?;
        }
        for (base, buffer) in bases[slots.buffers..].iter_mut().zip(&binding.bound.plan().buffers) {
            *base = arena.pointer().wrapping_add(buffer.offset);
        }
        binding.bound.reserve(workers, self.model.profile);
        // SAFETY: inputs were checked against the types of the entry, and validation lets no kernel
        // write them; the mask is one of these inputs; outputs and states were allocated for these extents, and are borrowed with the
        // session; weights are mapped, of checked sizes, and not written; the arena holds the plan.
        let done = unsafe { binding.bound.run(pool, workers, (&binding.bases, is_padded.then_some(&self.live))) };
        drop(engine);
        self.profile = done.map_err(|failure| RunError::Index {
            kernel: failure.kernel,
            source_name: failure.source,
            index: failure.index,
            extent: failure.extent,
        })?;
        Ok(Results { types: self.bindings[0].bound.outputs(), bytes: &self.outputs[call.entry] })
    }

    fn profile(&self) -> Option<&RunProfile> {
        self.profile.as_ref()
    }
}

impl CpuSession {
    /// Looks for rows of padding that may be left out; gives whether there are any.
    fn find_padding(&mut self, call: &Call<'_>) -> bool {
        let Some(padding) = &self.model.paddings[call.entry] else { return false };
        let (name, _) = &self.model.common.artifact.program().entries[call.entry].inputs[padding.mask];
        let Some(mask) = call.input(name) else { return false };
        let (Ok(elements), Some(&length)) = (mask.as_i32(), mask.shape().last()) else { return false };
        self.live.fill(elements, length, padding.keeps_first)
    }

    /// Brings the binding of an entry to these values, with or without rows of padding, to the front.
    fn bind(&mut self, call: &Call<'_>, is_padded: bool) -> Result<(), RunError> {
        let is_it = |b: &Binding| b.entry == call.entry && b.values == call.values && b.is_padded == is_padded;
        let known = self.bindings.iter().position(is_it);
        if let Some(at) = known {
            self.bindings[..=at].rotate_right(1);
            return Ok(());
        }
        let with = (self.model.isa, self.model.threads);
        let padding = self.model.paddings[call.entry].as_ref().filter(|_| is_padded);
        let bound = bind_entry(&self.model.common, call.entry, call.values, with, padding)?;
        let values = call.values.to_vec();
        let mut binding = Binding { entry: call.entry, values, is_padded, bound, bases: Bases::default() };
        self.connect(&mut binding);
        self.bindings.truncate(BINDINGS - 1);
        self.bindings.insert(0, binding);
        Ok(())
    }

    /// Makes sure that the outputs of the binding at the front have memory, and tells it where.
    fn provide_outputs(&mut self, number: usize) -> Result<(), RunError> {
        let binding = &mut self.bindings[0];
        let bases = &mut binding.bases.0[binding.bound.slots().inputs..];
        for (ty, (bytes, base)) in binding.bound.outputs().iter().zip(self.outputs[number].iter_mut().zip(bases)) {
            outputs::provide(bytes, ty)?;
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
        let artifact = &self.model.common.artifact;
        for (number, &first) in slots.weights.iter().enumerate() {
            for instance in 0..artifact.program().weights[number].instances as usize {
                bases[first + instance] = artifact.weight(number, instance).as_ptr().cast_mut();
            }
        }
    }
}
