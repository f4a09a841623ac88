//! Measuring dispatches: a timestamp before and after each, read back with the results.
//!
//! Devices that cannot take timestamps inside of passes give each dispatch a pass of its own.

use wgpu::{
    Buffer, BufferUsages, CommandEncoder, ComputePassDescriptor, ComputePassTimestampWrites, QUERY_SET_MAX_QUERIES,
    QUERY_SIZE, QuerySet, QuerySetDescriptor, QueryType,
};

use super::GpuError;
use super::bind::BoundEntry;
use super::device::Gpu;
use super::groups::Execution;
use super::staging::Piece;
use crate::profile::KernelProfile;
use crate::program::EntryProgram;
use crate::program::gpu::Shader;

/// Dispatches that a set of queries measures.
const PER_SET: usize = QUERY_SET_MAX_QUERIES as usize / 2;
/// Bytes of the two timestamps of a dispatch.
const PAIR: usize = 2 * QUERY_SIZE as usize;

/// How a device measures.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// Nanoseconds of a tick.
    period: f64,
    inside_passes: bool,
}

/// Room for timestamps, kept from one run to the next.
#[derive(Default)]
pub(super) struct Timer {
    sets: Vec<QuerySet>,
    resolved: Option<Buffer>,
}

/// A run that is measured.
pub(super) struct Timing<'a> {
    clock: Clock,
    sets: &'a [QuerySet],
    resolved: &'a Buffer,
    /// Number of dispatches.
    count: usize,
}

impl Clock {
    pub fn new(queue: &wgpu::Queue, features: wgpu::Features) -> Clock {
        let inside_passes = features.contains(wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES);
        Clock { period: f64::from(queue.get_timestamp_period()), inside_passes }
    }
}

impl Timer {
    /// Room for a run of so many dispatches; nothing if the device does not measure.
    ///
    /// # Errors
    /// No memory, or the loss of the device.
    pub fn provide(&mut self, gpu: &Gpu, count: usize) -> Result<Option<Timing<'_>>, GpuError> {
        let Some(clock) = gpu.clock else { return Ok(None) };
        while self.sets.len() * PER_SET < count.max(1) {
            self.resolved = None;
            let descriptor = QuerySetDescriptor { label: None, ty: QueryType::Timestamp, count: QUERY_SET_MAX_QUERIES };
            self.sets.push(gpu.scoped("timestamps", || gpu.device.create_query_set(&descriptor))?);
        }
        let resolved = match self.resolved.take() {
            Some(buffer) => buffer,
            None => {
                let bytes = (self.sets.len() * PER_SET * PAIR) as u64;
                gpu.buffer("timestamps", bytes, BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC)?
            }
        };
        Ok(Some(Timing { clock, sets: &self.sets, resolved: self.resolved.insert(resolved), count }))
    }
}

impl Timing<'_> {
    /// Records dispatches in order, and what brings their timestamps to the buffer.
    pub fn record<'a>(&self, encoder: &mut CommandEncoder, executions: impl Iterator<Item = Execution<'a>>) {
        let places = (0..self.count).map(|number| (&self.sets[number / PER_SET], 2 * (number % PER_SET) as u32));
        if self.clock.inside_passes {
            let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor::default());
            for (execution, (set, query)) in executions.zip(places) {
                pass.write_timestamp(set, query);
                execution.record(&mut pass);
                pass.write_timestamp(set, query + 1);
            }
        } else {
            for (execution, (query_set, query)) in executions.zip(places) {
                let (begin, end) = (Some(query), Some(query + 1));
                let timestamp_writes = Some(ComputePassTimestampWrites {
                    query_set,
                    beginning_of_pass_write_index: begin,
                    end_of_pass_write_index: end,
                });
                let descriptor = ComputePassDescriptor { label: None, timestamp_writes };
                execution.record(&mut encoder.begin_compute_pass(&descriptor));
            }
        }
        for (number, set) in self.sets.iter().enumerate() {
            let count = self.count.saturating_sub(number * PER_SET).min(PER_SET);
            if count > 0 {
                encoder.resolve_query_set(set, 0..2 * count as u32, self.resolved, (number * PER_SET * PAIR) as u64);
            }
        }
    }

    /// Where the timestamps are.
    pub fn piece(&self) -> Piece<'_> {
        (self.resolved, 0, (self.count * PAIR) as u64)
    }

    /// What the timestamps say of an entry.
    pub fn profile(
        &self,
        entry: &EntryProgram,
        shaders: &[Shader],
        bound: &BoundEntry,
        bytes: &[u8],
    ) -> Vec<KernelProfile> {
        let mut times = bytes.chunks_exact(PAIR).map(|pair| {
            let tick = |at: usize| pair[at..].first_chunk().copied().map_or(0, u64::from_le_bytes);
            // Clocks of few bits begin anew; what was measured then says nothing.
            (tick(QUERY_SIZE as usize).saturating_sub(tick(0)) as f64 * self.clock.period) as u64
        });
        let mut profiles = Vec::new();
        for (stage, (count, dispatches)) in bound.stages.iter().enumerate() {
            let first = profiles.len();
            profiles.extend(dispatches.iter().map(|dispatch| {
                let [from, to] = dispatch.kernels;
                let kernels = &entry.kernels[from as usize..=to as usize];
                let label = kernels.iter().map(|kernel| kernel.label.as_str()).collect::<Vec<_>>().join(", ");
                let code = shaders[dispatch.key.shader as usize].name.clone();
                let count = (0..*count as usize).filter(|&iteration| dispatch.is_in(iteration)).count() as u32;
                let bytes = u64::from(count) * dispatch.bindings.iter().map(|bound| bound.bytes()).sum::<u64>();
                KernelProfile { kernels: [from, to], label, code, stage, count, nanoseconds: 0, bytes, operations: 0 }
            }));
            for iteration in 0..*count as usize {
                let executed = profiles[first..].iter_mut().zip(dispatches).filter(|(_, d)| d.is_in(iteration));
                executed.zip(&mut times).for_each(|((p, _), time)| p.nanoseconds += time);
            }
        }
        profiles
    }
}
