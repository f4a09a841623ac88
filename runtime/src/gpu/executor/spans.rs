//! Parts of buffers: where what dispatches bind lies.

use super::GpuError;
use super::device::{Gpu, WORD};
use super::memory::Needs;
use crate::bind::BindFault;
use crate::bind::view::{Memory, Resolver};
use crate::plan::MemoryPlan;
use crate::program::Program;
use crate::program::gpu::Resource;
use crate::program::view::Place;

/// Bytes of the words in which a launch reports an index.
pub(super) const REPORT: u64 = 16;

/// A part of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// First byte, a multiple of the adapter's alignment.
    pub offset: u64,
    /// Number of bytes: whole words, at least one.
    pub bytes: u64,
}

/// What is bound to a shader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    Input(Span),
    Output(Span),
    Arena(Span),
    Status(Span),
    /// An instance of a state: its number and bytes.
    State(usize, u64),
    /// A part of an instance of a weight.
    Weight(usize, Span),
}

/// Where everything lies that is not a weight or a state.
pub(super) struct Spans {
    pub inputs: Vec<Span>,
    pub outputs: Vec<Span>,
    arena: Vec<Span>,
    pub status: Vec<Span>,
    pub needs: Needs,
}

impl Bound {
    /// Number of bytes that the shader sees.
    pub fn bytes(&self) -> u64 {
        match *self {
            Bound::Input(span) | Bound::Output(span) | Bound::Arena(span) | Bound::Status(span) => span.bytes,
            Bound::State(_, bytes) | Bound::Weight(_, Span { bytes, .. }) => bytes,
        }
    }

    /// Whether it is another one in each iteration.
    pub fn varies(&self, program: &Program) -> bool {
        match *self {
            Bound::State(number, _) => program.states[number].instances > 1,
            Bound::Weight(number, _) => program.weights[number].instances > 1,
            _ => false,
        }
    }
}

/// Spans one after the other.
struct Row {
    alignment: u64,
    end: u64,
}

impl Row {
    fn push(&mut self, bytes: u64) -> Option<Span> {
        let bytes = words(bytes)?;
        let span = Span { offset: self.end, bytes };
        self.end = self.end.checked_add(bytes)?.checked_next_multiple_of(self.alignment)?;
        Some(span)
    }
}

/// Whole words that hold so many bytes, at least one.
fn words(bytes: u64) -> Option<u64> {
    bytes.max(1).checked_next_multiple_of(WORD)
}

impl Spans {
    pub fn new(gpu: &Gpu, resolver: &Resolver<'_>, plan: &MemoryPlan) -> Result<Spans, BindFault> {
        let row = |count: usize, memory: fn(usize) -> Memory, what| -> Result<(Vec<Span>, u64), BindFault> {
            let mut row = Row { alignment: alignment(gpu), end: 0 };
            let mut spans = Vec::new();
            for number in 0..count {
                let bytes = resolver.bytes(memory(number))? as u64;
                spans.push(row.push(bytes).ok_or(BindFault::TooLarge(what))?);
            }
            Ok((spans, row.end))
        };
        let (inputs, of_inputs) = row(resolver.entry.inputs.len(), Memory::Input, "the sum of all inputs")?;
        let (outputs, of_outputs) = row(resolver.entry.outputs.len(), Memory::Output, "the sum of all outputs")?;
        let place =
            |offset: usize, bytes: usize| words(bytes as u64).map(|bytes| Span { offset: offset as u64, bytes });
        let arena: Option<Vec<Span>> = plan.buffers.iter().map(|at| place(at.offset, at.bytes)).collect();
        let arena = arena.ok_or(BindFault::TooLarge("a buffer"))?;
        // A buffer without bytes at the end of the arena is bound as one word all the same.
        let end = arena.iter().filter_map(|span| span.offset.checked_add(span.bytes)).max();
        let needs = Needs { inputs: of_inputs, outputs: of_outputs, arena: end.unwrap_or(0), status: 0 };
        Ok(Spans { inputs, outputs, arena, status: Vec::new(), needs })
    }

    /// Words for the report of a launch.
    pub fn report(&mut self, gpu: &Gpu) -> Span {
        let span = Span { offset: self.needs.status, bytes: REPORT };
        self.needs.status += REPORT.next_multiple_of(alignment(gpu));
        self.status.push(span);
        span
    }

    /// Where a resource lies, for a launch whose temporary buffers begin at a number of the plan, with its
    /// report and the first iteration in which it is executed.
    pub fn bind(
        &self,
        gpu: &Gpu,
        resource: &Resource,
        resolver: &Resolver<'_>,
        (scratch, status, iteration): (usize, Option<Span>, usize),
    ) -> Result<Bound, crate::session::RunError> {
        let named = |fault| crate::bind::BindError::Entry { entry: resolver.entry.name.clone(), fault };
        let size = |memory: Memory| -> Result<u64, BindFault> {
            words(resolver.bytes(memory)? as u64).ok_or(BindFault::TooLarge("a tensor"))
        };
        Ok(match *resource {
            Resource::Place(Place::Buffer(number)) => Bound::Arena(self.arena[number as usize]),
            Resource::Place(Place::Input(number)) => Bound::Input(self.inputs[number as usize]),
            Resource::Place(Place::Output(number)) => Bound::Output(self.outputs[number as usize]),
            Resource::Place(Place::State(number)) => {
                Bound::State(number as usize, size(Memory::State(number as usize)).map_err(named)?)
            }
            Resource::Place(Place::Weight(number)) => {
                let bytes = resolver.program.weights[number as usize].bytes(iteration).and_then(|n| words(n as u64));
                let bytes = bytes.ok_or_else(|| named(BindFault::TooLarge("a weight")))?;
                Bound::Weight(number as usize, Span { offset: 0, bytes })
            }
            Resource::Part { weight, offset, bytes } => {
                let alignment = alignment(gpu);
                if !offset.is_multiple_of(alignment) {
                    let label = resolver.program.weights[weight as usize].label.clone();
                    return Err(GpuError::Alignment { label, offset, alignment }.into());
                }
                Bound::Weight(weight as usize, Span { offset, bytes })
            }
            Resource::Scratch(number) => Bound::Arena(self.arena[scratch + number as usize]),
            // Valid programs bind no numbers; launches with reports have words for them.
            Resource::Status | Resource::Place(Place::Index(_) | Place::Extent(_)) => {
                Bound::Status(status.unwrap_or(Span { offset: 0, bytes: REPORT }))
            }
        })
    }
}

fn alignment(gpu: &Gpu) -> u64 {
    u64::from(gpu.info.min_storage_buffer_offset_alignment).max(WORD)
}
