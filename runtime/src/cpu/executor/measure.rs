//! Measuring a run: when each thread began and ended its part of each kernel.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::BoundEntry;
use super::kernels::WorkerMemory;
use crate::profile::{Event, KernelProfile, RunProfile};

/// What a kernel works on, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cost {
    /// Bytes of its operands and results.
    pub bytes: f64,
    /// Elementary operations.
    pub operations: f64,
}

/// Nanoseconds from the start of a run to the start and the end of a thread's part of a kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    start: u64,
    end: u64,
}

impl Part {
    /// Measures some work.
    pub fn of(run: Instant, work: impl FnOnce()) -> Part {
        let since = || run.elapsed().as_nanos() as u64;
        let start = since();
        work();
        Part { start, end: since() }
    }
}

impl BoundEntry {
    /// Number of executions of kernels in a run.
    pub(super) fn executions(&self) -> usize {
        self.stages.iter().map(|stage| stage.count * stage.kernels.len()).sum()
    }

    /// What the threads have measured, if they have.
    pub(super) fn profile(&self, memory: &[Mutex<WorkerMemory>]) -> Option<RunProfile> {
        let parts = |worker: &Mutex<WorkerMemory>| worker.lock().unwrap_or_else(PoisonError::into_inner).parts.clone();
        let workers: Vec<Vec<Part>> = memory.iter().map(parts).collect::<Option<_>>()?;
        let mut profile = RunProfile::default();
        for (number, stage) in self.stages.iter().enumerate() {
            let count = stage.count as u32;
            profile.kernels.extend(self.origins[stage.kernels.clone()].iter().map(|origin| KernelProfile {
                kernels: [origin.number; 2],
                label: origin.label.clone(),
                code: origin.code.clone(),
                stage: number,
                count,
                nanoseconds: 0,
                bytes: u64::from(count) * origin.cost.bytes as u64,
                operations: u64::from(count) * origin.cost.operations as u64,
            }));
        }
        let order = self.stages.iter().flat_map(|stage| (0..stage.count).flat_map(|_| stage.kernels.clone()));
        for (time, kernel) in order.enumerate() {
            let parts = || workers.iter().filter_map(|parts| parts.get(time));
            let start = parts().map(|part| part.start).min().unwrap_or(0);
            let end = parts().map(|part| part.end).max().unwrap_or(start);
            profile.kernels[kernel].nanoseconds += end - start;
            profile.events.extend(parts().enumerate().map(|(worker, &Part { start, end })| Event {
                kernel: kernel as u32,
                worker: worker as u32,
                start,
                end,
            }));
        }
        Some(profile)
    }
}
