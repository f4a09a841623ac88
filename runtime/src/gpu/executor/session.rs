//! Sessions on a GPU: entries bound to the session's memory, executed by the device of the model.

use std::sync::Arc;

use wgpu::{Buffer, BufferUsages};

use super::bind::{self, BoundEntry};
use super::device::{WORD, lock};
use super::groups::Ready;
use super::memory::{Kept, Memory};
use super::model::GpuModel;
use super::report;
use super::spans::Span;
use super::staging::Piece;
use super::states::States;
use super::timer::Timing;
use crate::memory::AlignedBytes;
use crate::profile::RunProfile;
use crate::program::EntryProgram;
use crate::session::executor::{BINDINGS, Call, Executor, Results};
use crate::session::extents::Extents;
use crate::session::{RunError, outputs};
use crate::tensor::{Tensor, TensorRef};

/// What outlives the calls of a model's entries.
pub(super) struct GpuSession {
    model: Arc<GpuModel>,
    states: States,
    /// The most recently used first.
    bindings: Vec<Binding>,
    /// Memory of the host for the outputs of each entry, as large as any run has needed.
    outputs: Vec<Vec<AlignedBytes>>,
    /// The state that was last read.
    state: Option<Tensor>,
    /// Where the time of the last run went that came to its end, if it was measured.
    profile: Option<RunProfile>,
}

/// An entry bound to extents.
struct Binding {
    entry: usize,
    values: Vec<usize>,
    bound: BoundEntry,
    /// The values of the symbols, as shaders see them.
    symbols: Buffer,
    /// What is bound, with the generation of the memory that it lies in.
    ready: Option<(u64, Ready)>,
}

impl GpuSession {
    pub fn new(model: Arc<GpuModel>, extents: &Extents) -> Result<GpuSession, RunError> {
        let program = model.common.artifact.program();
        let states = States::new(&model.gpu, program, extents)?;
        let outputs = outputs::empty(&program.entries);
        Ok(GpuSession { model, states, bindings: Vec::new(), outputs, state: None, profile: None })
    }

    /// Brings the binding of an entry to these values to the front.
    fn bind(&mut self, call: &Call<'_>) -> Result<(), RunError> {
        let known = self.bindings.iter().position(|b| b.entry == call.entry && b.values == call.values);
        if let Some(at) = known {
            self.bindings[..=at].rotate_right(1);
            return Ok(());
        }
        let bound = bind::bind(&self.model, call.entry, call.values)?;
        self.model.prepare(call.entry)?;
        // Uniform structures are multiples of 16 bytes.
        let mut words = bound.symbols.clone();
        words.resize(words.len().max(1).next_multiple_of(4), 0);
        let symbols = self.model.gpu.filled("symbols", bytemuck::cast_slice(&words), BufferUsages::UNIFORM)?;
        let binding = Binding { entry: call.entry, values: call.values.to_vec(), bound, symbols, ready: None };
        self.bindings.truncate(BINDINGS - 1);
        self.bindings.insert(0, binding);
        Ok(())
    }

    /// Makes sure that the binding at the front has memory and is connected with it.
    fn connect(&mut self, memory: &mut Memory) -> Result<(), RunError> {
        let needs = self.bindings[0].bound.needs;
        if !memory.suffices(&needs) {
            // What is bound keeps buffers alive that are about to be replaced.
            self.bindings.iter_mut().for_each(|binding| binding.ready = None);
            memory.provide(&self.model.gpu, &needs)?;
        }
        let binding = &mut self.bindings[0];
        if binding.ready.as_ref().is_some_and(|(generation, _)| *generation == memory.generation) {
            return Ok(());
        }
        let Some(kept) = &memory.kept else { return Ok(()) };
        binding.ready = None;
        let ready = Ready::new(&self.model, &binding.bound, kept, &self.states, &binding.symbols)?;
        binding.ready = Some((memory.generation, ready));
        Ok(())
    }

    /// Gives outputs that are asked for memory on the host.
    fn provide_outputs(&mut self, call: &Call<'_>) -> Result<(), RunError> {
        let types = &self.bindings[0].bound.types;
        for ((bytes, ty), is_wanted) in self.outputs[call.entry].iter_mut().zip(types).zip(call.wanted) {
            if *is_wanted {
                outputs::provide(bytes, ty)?;
            }
        }
        Ok(())
    }
}

impl Executor for GpuSession {
    fn reset(&mut self) {
        // A device that is lost says so at the next run.
        let _ = self.states.reset(&self.model.gpu);
    }

    fn resize(&mut self, extents: &Extents) -> Result<(), RunError> {
        self.states.resize(&self.model.gpu, self.model.common.artifact.program(), extents)?;
        self.bindings.clear();
        Ok(())
    }

    fn select(&mut self, symbol: &str, rows: &[usize]) -> Result<(), RunError> {
        self.states.select(&self.model.gpu, self.model.common.artifact.program(), symbol, rows)
    }

    fn state(&mut self, number: usize, instance: usize) -> Result<Option<TensorRef<'_>>, RunError> {
        let staging = &mut lock(&self.model.memory).staging;
        self.state = self.states.tensor(&self.model.gpu, staging, number, instance)?;
        Ok(self.state.as_ref().map(Tensor::view))
    }

    fn set_state(&mut self, number: usize, instance: usize, bytes: &[u8]) -> Result<(), RunError> {
        Ok(self.states.set(&self.model.gpu, number, instance, bytes)?)
    }

    fn run(&mut self, call: &Call<'_>) -> Result<Results<'_>, RunError> {
        let model = self.model.clone();
        model.gpu.check()?;
        self.bind(call)?;
        self.provide_outputs(call)?;
        let mut memory = lock(&model.memory);
        self.connect(&mut memory)?;
        self.execute(&model, call, &mut memory)?;
        Ok(Results { types: &self.bindings[0].bound.types, bytes: &self.outputs[call.entry] })
    }

    fn profile(&self) -> Option<&RunProfile> {
        self.profile.as_ref()
    }
}

impl GpuSession {
    /// Uploads, records, submits, waits, reads back.
    fn execute(&mut self, model: &GpuModel, call: &Call<'_>, memory: &mut Memory) -> Result<(), RunError> {
        let binding = &self.bindings[0];
        let Memory { kept, staging, timer, has_reports, .. } = memory;
        let (Some((_, ready)), Some(kept)) = (&binding.ready, kept) else { return Ok(()) };
        let (gpu, entry) = (&model.gpu, &model.common.artifact.program().entries[call.entry]);
        let timing = timer.provide(gpu, ready.count())?;
        let submissions = gpu.submissions();
        let encoder = gpu.scoped("a run", || {
            upload(model, call, entry, &binding.bound, kept);
            let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            if *has_reports {
                encoder.clear_buffer(&kept.status, 0, None);
            }
            match &timing {
                Some(timing) => timing.record(&mut encoder, ready.executions()),
                None => {
                    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                    ready.executions().for_each(|execution| execution.record(&mut pass));
                }
            }
            encoder
        })?;
        let spans = binding.bound.outputs.iter().zip(self.outputs[call.entry].iter_mut()).zip(call.wanted);
        let wanted = spans.filter(|(_, is_wanted)| **is_wanted).map(|(output, _)| output);
        let (spans, mut targets): (Vec<&Span>, Vec<&mut AlignedBytes>) = wanted.unzip();
        let piece = |buffer, span: &Span| (buffer, span.offset, span.bytes);
        let results = spans.into_iter().map(|span| piece(&kept.outputs, span));
        let reports = binding.bound.status.iter().map(|span| piece(&kept.status, span));
        let times = timing.as_ref().map(Timing::piece);
        let pieces: Vec<Piece<'_>> = results.chain(reports).chain(times).collect();
        let reports = targets.len()..targets.len() + binding.bound.status.len();
        let (mut failure, mut dispatches) = (None, timing.as_ref().map(|_| Vec::new()));
        staging.read(gpu, encoder, &pieces, |number, bytes| match targets.get_mut(number) {
            Some(target) => {
                // What is read is whole words, the output may be less.
                let length = bytes.len().min(target.len());
                target[..length].copy_from_slice(&bytes[..length]);
            }
            None if reports.contains(&number) => failure = failure.take().or_else(|| report::read(bytes, entry)),
            None => {
                dispatches = timing.as_ref().map(|t| t.profile(entry, &model.program.shaders, &binding.bound, bytes))
            }
        })?;
        *has_reports = failure.is_some();
        let submissions = gpu.submissions() - submissions;
        self.profile = dispatches.map(|kernels| RunProfile { submissions, kernels, events: Vec::new() });
        failure.map_or(Ok(()), Err)
    }
}

/// Hands the inputs to the queue, filled up with zeros to whole words.
fn upload(model: &GpuModel, call: &Call<'_>, entry: &EntryProgram, bound: &BoundEntry, kept: &Kept) {
    for ((name, _), span) in entry.inputs.iter().zip(&bound.inputs) {
        let Some(bytes) = call.input(name).map(TensorRef::bytes) else { continue };
        let whole = bytes.len() / WORD as usize * WORD as usize;
        if whole > 0 {
            model.gpu.write(&kept.inputs, span.offset, &bytes[..whole]);
        }
        if whole < bytes.len() {
            let mut word = [0; WORD as usize];
            word[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
            model.gpu.write(&kept.inputs, span.offset + whole as u64, &word);
        }
    }
}
