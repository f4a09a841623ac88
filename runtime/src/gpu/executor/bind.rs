//! Binding an entry to the values of its symbols: choices are taken, buffers get their places, and
//! every size is checked against the limits of the adapter.

use std::sync::Arc;

use castiron_ir::{DType, Dim};

use super::GpuError;
use super::choice;
use super::device::{Gpu, WORD};
use super::memory::Needs;
use super::model::GpuModel;
use super::pipelines::Key;
use super::spans::{Bound, Span, Spans};
use crate::bind::symbols::Values;
use crate::bind::view::Resolver;
use crate::bind::{BindError, BindFault, reach};
use crate::memory::ALIGNMENT;
use crate::plan::{MemoryPlan, Request, plan};
use crate::program::gpu::{Choice, Dispatch, Launch, MAX_GROUPS_PER_AXIS, Resource};
use crate::session::RunError;

/// An entry whose sizes are numbers.
pub(super) struct BoundEntry {
    /// Dispatches that are executed in order, and that so many times.
    pub stages: Vec<(u32, Vec<BoundDispatch>)>,
    /// Values of the symbols, in the order of the uniform buffer.
    pub symbols: Vec<u32>,
    /// Where inputs and outputs lie.
    pub inputs: Vec<Span>,
    pub outputs: Vec<Span>,
    /// Element type and shape of each output.
    pub types: Vec<(DType, Vec<usize>)>,
    /// The words of launches that check indices.
    pub status: Vec<Span>,
    pub plan: MemoryPlan,
    pub needs: Needs,
}

/// A dispatch whose sizes are numbers.
pub(super) struct BoundDispatch {
    pub key: Key,
    /// First and last kernel of its launch.
    pub kernels: [u32; 2],
    /// Numbers of workgroups along the first two axes.
    pub groups: [u32; 2],
    pub bindings: Vec<Bound>,
    /// Whether weights or states differ from iteration to iteration.
    pub varies: bool,
    /// For each iteration, whether it is executed; in all of them if this is empty.
    pub iterations: Arc<[bool]>,
}

impl BoundDispatch {
    /// Whether it is executed in an iteration.
    pub fn is_in(&self, iteration: usize) -> bool {
        self.iterations.get(iteration).copied().unwrap_or(true)
    }
}

/// Binds an entry; its kernels' addresses are checked too.
///
/// # Errors
/// Sizes that do not fit, limits of the adapter, or launches that nothing suits.
pub(super) fn bind(model: &GpuModel, number: usize, values: &Values) -> Result<BoundEntry, RunError> {
    let program = model.common.artifact.program();
    let (entry, table) = (&program.entries[number], &model.common.tables[number]);
    let resolver = Resolver { program, entry, table, values };
    for (number, kernel) in entry.kernels.iter().enumerate() {
        reach::check(&resolver, kernel, u32::MAX as usize).map_err(|fault| {
            let (entry, label) = (entry.name.clone(), kernel.label.clone());
            BindError::Kernel { entry, number, label, fault }
        })?;
    }
    let taken = take_choices(model, number, &resolver)?;
    let named = |fault| RunError::Bind(BindError::Entry { entry: entry.name.clone(), fault });
    let (plan, scratch) = arrange(&model.gpu, &resolver, &taken).map_err(named)?;
    let spans = Spans::new(&model.gpu, &resolver, &plan).map_err(named)?;
    let mut binder = Binder { model, resolver: &resolver, spans, scratch, launches: 0 };
    let mut stages = Vec::new();
    for (stage, choices) in model.program.entries[number].stages.iter().zip(&taken) {
        let mut dispatches = Vec::new();
        for taken in choices {
            binder.launch(taken, &mut dispatches)?;
        }
        stages.push((stage.count, dispatches));
    }
    let symbols = model.program.entries[number].symbols.iter().map(|name| symbol(&resolver, name));
    let symbols = symbols.collect::<Result<_, BindFault>>().map_err(named)?;
    let shape = |ty: &castiron_ir::Type| Ok((ty.dtype, resolver.dims(&ty.shape)?));
    let types = entry.outputs.iter().map(|(_, ty)| shape(ty)).collect::<Result<_, BindFault>>().map_err(named)?;
    let Spans { inputs, outputs, status, needs, .. } = binder.spans;
    Ok(BoundEntry { stages, symbols, inputs, outputs, types, status, plan, needs })
}

/// A choice that is taken for a launch.
struct Taken<'a> {
    launch: &'a Launch,
    choice: &'a Choice,
    /// For each iteration, whether it is taken; in all of them if this is empty.
    iterations: Arc<[bool]>,
}

impl Taken<'_> {
    /// The first iteration in which it is taken.
    fn first(&self) -> usize {
        self.iterations.iter().position(|&is_taken| is_taken).unwrap_or(0)
    }
}

/// For each stage, the choices that are taken for its launches.
fn take_choices<'a>(
    model: &'a GpuModel,
    number: usize,
    resolver: &Resolver<'_>,
) -> Result<Vec<Vec<Taken<'a>>>, RunError> {
    let mut stages = Vec::new();
    for stage in &model.program.entries[number].stages {
        let mut taken = Vec::new();
        for launch in &stage.launches {
            take(model, resolver, launch, stage.count as usize, &mut taken)?;
        }
        stages.push(taken);
    }
    Ok(stages)
}

/// Takes the first choice that suits, for each iteration if weights are stored in several ways.
fn take<'a>(
    model: &GpuModel,
    resolver: &Resolver<'_>,
    launch: &'a Launch,
    count: usize,
    taken: &mut Vec<Taken<'a>>,
) -> Result<(), RunError> {
    let name = || resolver.entry.name.clone();
    let named = |fault| BindError::Entry { entry: name(), fault };
    let mut open = Vec::new();
    for choice in &launch.choices {
        if choice::is_eligible(&model.gpu, &model.program, choice) && fits(resolver, choice).map_err(named)? {
            open.push(choice);
        }
    }
    let is_stored = |choice: &Choice, iteration: usize| match choice.condition.stored {
        Some((weight, encoding)) => {
            resolver.program.weights[weight as usize].encodings.get(iteration) == Some(&encoding)
        }
        None => true,
    };
    let mut firsts = Vec::new();
    for iteration in 0..count {
        let first = open.iter().position(|choice| is_stored(choice, iteration));
        let missing = || GpuError::NoChoice { entry: name(), first: launch.first, last: launch.last };
        firsts.push(first.ok_or_else(missing)?);
    }
    for (number, choice) in open.into_iter().enumerate() {
        let iterations: Arc<[bool]> = firsts.iter().map(|&first| first == number).collect();
        if iterations.iter().all(|&is_taken| is_taken) {
            taken.push(Taken { launch, choice, iterations: Arc::default() });
        } else if iterations.contains(&true) {
            taken.push(Taken { launch, choice, iterations });
        }
    }
    Ok(())
}

/// Whether the extents are those that a choice is for.
fn fits(resolver: &Resolver<'_>, choice: &Choice) -> Result<bool, BindFault> {
    match &choice.condition.at_most {
        Some((dim, most)) => Ok(resolver.dim(dim)? <= *most as usize),
        None => Ok(true),
    }
}

/// Gives buffers and temporary buffers their places, the latter with the first number of each launch.
///
/// All kernels of a launch are executed at the same time, so what lives in one of them lives in all.
fn arrange(
    gpu: &Gpu,
    resolver: &Resolver<'_>,
    taken: &[Vec<Taken<'_>>],
) -> Result<(MemoryPlan, Vec<usize>), BindFault> {
    let mut requests = Vec::new();
    for buffer in &resolver.entry.buffers {
        requests.push(Request { bytes: resolver.dim(&buffer.bytes)?, first: buffer.first, last: buffer.last });
    }
    let buffers = requests.len();
    let mut scratch = Vec::new();
    for Taken { launch, choice, .. } in taken.iter().flatten() {
        let during = launch.first..=launch.last;
        for request in &mut requests[..buffers] {
            request.first = if during.contains(&request.first) { launch.first } else { request.first };
            request.last = if during.contains(&request.last) { launch.last } else { request.last };
        }
        scratch.push(requests.len());
        for bytes in &choice.scratch {
            requests.push(Request { bytes: resolver.dim(bytes)?, first: launch.first, last: launch.last });
        }
    }
    let alignment = ALIGNMENT.max(gpu.info.min_storage_buffer_offset_alignment as usize);
    let mut plan = plan(&requests, alignment).ok_or(BindFault::TooLarge("the sum of all buffers"))?;
    plan.temporaries = requests.len() - buffers;
    Ok((plan, scratch))
}

fn symbol(resolver: &Resolver<'_>, name: &str) -> Result<u32, BindFault> {
    let value = resolver.dim(&Dim::symbol(name))?;
    u32::try_from(value).map_err(|_| BindFault::TooLarge("the value of a symbol"))
}

/// Dispatches being bound.
struct Binder<'a> {
    model: &'a GpuModel,
    resolver: &'a Resolver<'a>,
    spans: Spans,
    /// For each choice taken, where its temporary buffers begin in the plan.
    scratch: Vec<usize>,
    /// How many have been bound.
    launches: usize,
}

impl Binder<'_> {
    fn launch(&mut self, taken: &Taken<'_>, dispatches: &mut Vec<BoundDispatch>) -> Result<(), RunError> {
        let Taken { launch, choice, .. } = taken;
        let scratch = self.scratch[self.launches];
        self.launches += 1;
        let entry = self.resolver.entry;
        let reports = choice.dispatches.iter().flat_map(|d| &d.bindings).any(|b| b.resource == Resource::Status);
        let status = reports.then(|| self.spans.report(&self.model.gpu));
        for dispatch in &choice.dispatches {
            let groups = self.groups(dispatch).map_err(|fault| {
                let (number, label) = (launch.first as usize, entry.kernels[launch.first as usize].label.clone());
                BindError::Kernel { entry: entry.name.clone(), number, label, fault }
            })?;
            let mut bindings = Vec::new();
            for binding in &dispatch.bindings {
                let name = || format!("{} of entry `{}`", describe(&binding.resource, self.resolver), entry.name);
                let bound = self.spans.bind(
                    &self.model.gpu,
                    &binding.resource,
                    self.resolver,
                    (scratch, status, taken.first()),
                )?;
                check_size(&self.model.gpu, bound.bytes(), name)?;
                bindings.push(bound);
            }
            let Some(groups) = groups else { continue };
            self.check_count(dispatch)?;
            let varies = bindings.iter().any(|bound| bound.varies(self.resolver.program));
            let kernels = [launch.first, launch.last];
            let (key, iterations) = (Key::of(dispatch), taken.iterations.clone());
            dispatches.push(BoundDispatch { key, kernels, groups, bindings, varies, iterations });
        }
        Ok(())
    }

    /// Workgroups along two axes; nothing if there are none.
    fn groups(&self, dispatch: &Dispatch) -> Result<Option<[u32; 2]>, BindFault> {
        let most = u64::from(MAX_GROUPS_PER_AXIS);
        let mut total = 0_u64;
        for grid in &dispatch.grids {
            let mut size = 1_u64;
            for (dim, tile) in grid {
                let count = (self.resolver.dim(dim)? as u64).div_ceil(u64::from(*tile));
                size = size.checked_mul(count).ok_or(BindFault::TooLarge("the number of workgroups"))?;
            }
            total = total.checked_add(size).ok_or(BindFault::TooLarge("the number of workgroups"))?;
        }
        match total {
            0 => Ok(None),
            _ if total > most * most => Err(BindFault::TooLarge("the number of workgroups")),
            _ => Ok(Some([total.min(most) as u32, total.div_ceil(most) as u32])),
        }
    }

    fn check_count(&self, dispatch: &Dispatch) -> Result<(), GpuError> {
        let most = u64::from(self.model.gpu.info.max_storage_buffers_per_shader_stage);
        let needed = dispatch.bindings.len() as u64;
        if needed <= most {
            return Ok(());
        }
        let what = format!("shader `{}`", self.model.program.shaders[dispatch.shader as usize].name);
        let (unit, limit) = ("storage buffers", "max_storage_buffers_per_shader_stage");
        Err(GpuError::Limit { what, needed, unit, limit, most })
    }
}

fn check_size(gpu: &Gpu, needed: u64, name: impl Fn() -> String) -> Result<(), GpuError> {
    let (most, limit) = (gpu.info.max_storage_buffer_binding_size / WORD * WORD, "max_storage_buffer_binding_size");
    if needed <= most { Ok(()) } else { Err(GpuError::TooLarge { what: name(), needed, limit, most }) }
}

/// What is bound, by name.
fn describe(resource: &Resource, resolver: &Resolver<'_>) -> String {
    use crate::program::view::Place;
    let (entry, program) = (resolver.entry, resolver.program);
    match resource {
        Resource::Place(Place::Input(number)) => format!("input `{}`", entry.inputs[*number as usize].0),
        Resource::Place(Place::Output(number)) => format!("output `{}`", entry.outputs[*number as usize].0),
        Resource::Place(Place::State(number)) => format!("state `{}`", program.states[*number as usize].name),
        Resource::Place(Place::Weight(number)) => format!("weight `{}`", program.weights[*number as usize].label),
        Resource::Part { weight, .. } => format!("a part of weight `{}`", program.weights[*weight as usize].label),
        Resource::Place(Place::Buffer(number)) => format!("buffer {number}"),
        Resource::Place(Place::Index(_) | Place::Extent(_)) => "a number".to_owned(),
        Resource::Scratch(number) => format!("temporary buffer {number}"),
        Resource::Status => "the report".to_owned(),
    }
}
