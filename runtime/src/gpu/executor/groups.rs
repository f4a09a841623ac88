//! What each dispatch binds: made when an entry is bound, then used in every run.

use wgpu::{BindGroup, BindGroupDescriptor, BindGroupEntry, BindingResource, Buffer, BufferBinding, BufferSize};

use super::GpuError;
use super::bind::{BoundDispatch, BoundEntry};
use super::memory::Kept;
use super::model::GpuModel;
use super::pipelines::Pipeline;
use super::spans::{Bound, Span};
use super::states::States;

/// An entry whose dispatches are ready to be recorded.
pub(super) struct Ready {
    stages: Vec<(u32, Vec<ReadyDispatch>)>,
}

/// A dispatch that is ready to be recorded.
struct ReadyDispatch {
    pipeline: wgpu::ComputePipeline,
    /// One for each iteration in which it is executed, or one for all.
    bindings: Vec<Option<BindGroup>>,
    groups: [u32; 2],
}

/// A dispatch in an iteration of its stage.
pub(super) struct Execution<'a> {
    dispatch: &'a ReadyDispatch,
    iteration: usize,
}

impl Ready {
    /// Connects an entry with the memory that it is executed in.
    ///
    /// # Errors
    /// A shader that does not declare what is bound, or no memory.
    pub fn new(
        model: &GpuModel,
        entry: &BoundEntry,
        kept: &Kept,
        states: &States,
        symbols: &Buffer,
    ) -> Result<Ready, GpuError> {
        let mut stages = Vec::new();
        for (count, dispatches) in &entry.stages {
            let mut ready = Vec::new();
            for dispatch in dispatches {
                let missing = || GpuError::Invalid { what: "a dispatch".into(), reason: "it has no pipeline".into() };
                let pipeline = model.pipelines.get(&dispatch.key).ok_or_else(missing)?;
                let memory = Memories { model, kept, states, symbols };
                let iterations = if dispatch.varies { *count as usize } else { 1 };
                let bind =
                    |i| Some(i).filter(|&i| dispatch.is_in(i)).map(|i| memory.bind(&pipeline, dispatch, i)).transpose();
                let bindings = (0..iterations.max(dispatch.iterations.len())).map(bind);
                let bindings = bindings.collect::<Result<_, _>>()?;
                ready.push(ReadyDispatch { pipeline: pipeline.pipeline, bindings, groups: dispatch.groups });
            }
            stages.push((*count, ready));
        }
        Ok(Ready { stages })
    }

    /// All dispatches in the order of their execution.
    pub fn executions(&self) -> impl Iterator<Item = Execution<'_>> {
        self.stages.iter().flat_map(|(count, dispatches)| {
            let of = |iteration| dispatches.iter().map(move |dispatch| Execution { dispatch, iteration });
            (0..*count as usize).flat_map(of).filter(|execution| execution.bindings().is_some())
        })
    }

    /// Number of dispatches.
    pub fn count(&self) -> usize {
        self.executions().count()
    }
}

impl Execution<'_> {
    /// What it binds; nothing if it is not executed in this iteration.
    fn bindings(&self) -> Option<&BindGroup> {
        let bindings = &self.dispatch.bindings;
        bindings[self.iteration % bindings.len()].as_ref()
    }

    /// Records the dispatch.
    pub fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        let ReadyDispatch { pipeline, groups: [x, y], .. } = self.dispatch;
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, self.bindings(), &[]);
        pass.dispatch_workgroups(*x, *y, 1);
    }
}

/// All memory that can be bound.
struct Memories<'a> {
    model: &'a GpuModel,
    kept: &'a Kept,
    states: &'a States,
    symbols: &'a Buffer,
}

impl Memories<'_> {
    fn bind(&self, pipeline: &Pipeline, dispatch: &BoundDispatch, iteration: usize) -> Result<BindGroup, GpuError> {
        let mut entries = vec![BindGroupEntry { binding: 0, resource: self.symbols.as_entire_binding() }];
        for (bound, binding) in dispatch.bindings.iter().zip(1..) {
            let (buffer, Span { offset, bytes }) = self.find(*bound, iteration)?;
            let range = BufferBinding { buffer, offset, size: BufferSize::new(bytes) };
            entries.push(BindGroupEntry { binding, resource: BindingResource::Buffer(range) });
        }
        let name = &self.model.program.shaders[dispatch.key.shader as usize].name;
        let descriptor = BindGroupDescriptor { label: Some(name), layout: &pipeline.layout, entries: &entries };
        self.model
            .gpu
            .scoped(&format!("bindings of shader `{name}`"), || self.model.gpu.device.create_bind_group(&descriptor))
    }

    fn find(&self, bound: Bound, iteration: usize) -> Result<(&Buffer, Span), GpuError> {
        let program = self.model.common.artifact.program();
        let of = |instances: u32| if instances > 1 { iteration } else { 0 };
        let missing = || GpuError::Invalid { what: "a weight".into(), reason: "it was not uploaded".into() };
        Ok(match bound {
            Bound::Input(span) => (&self.kept.inputs, span),
            Bound::Output(span) => (&self.kept.outputs, span),
            Bound::Arena(span) => (&self.kept.arena, span),
            Bound::Status(span) => (&self.kept.status, span),
            Bound::State(number, bytes) => {
                let instance = of(program.states[number].instances);
                (self.states.buffer(number, instance), Span { offset: 0, bytes })
            }
            Bound::Weight(number, span) => {
                let instance = of(program.weights[number].instances);
                (self.model.weights.get(number, instance).ok_or_else(missing)?, span)
            }
        })
    }
}
