//! Execution of kernel programs on the CPU.
//!
//! ```text
//!  mod.rs      a bound entry, and how it runs       bind/     kernels become numbers and addresses
//!  kernels.rs  bound kernels, executed by workers   nest.rs   long rows, few outer axes
//!  work.rs     a row program on part of a row       parts.rs  row programs that ask where they are
//!  operand.rs  addresses                            convert.rs element types
//!  run.rs      what workers know                    measure.rs where time goes
//!  scan.rs     a row program at each step of time
//!  top_k.rs    the largest elements of rows         fft_conv.rs long convolutions
//! ```
//!
//! An entry runs inside one parallel region. Every worker walks the same list of kernels, does its
//! share of each, and waits for the others at a barrier. Nothing is allocated on the way.
#![allow(unsafe_code)] // Hands memory to kernels that were bound to it.

mod bind;
mod convert;
mod fft_conv;
mod kernels;
mod measure;
mod nest;
mod operand;
mod parts;
mod recurrence;
mod run;
mod scan;
mod top_k;
mod work;

use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use castiron_ir::DType;

use super::live::Live;
use super::pool::{Pool, Worker};
use crate::plan::MemoryPlan;
use crate::profile::RunProfile;
pub(crate) use bind::bind;
use kernels::BoundKernel;
pub(crate) use kernels::WorkerMemory;
use measure::{Cost, Part};
pub(crate) use run::Bases;
use run::{Failure, Run};

/// An entry whose sizes are numbers, ready to run.
#[derive(Debug)]
pub(crate) struct BoundEntry {
    kernels: Vec<BoundKernel>,
    /// For each bound kernel, the number of the kernel that it is part of, and its operands' names.
    origins: Vec<Origin>,
    stages: Vec<Stage>,
    slots: Slots,
    plan: MemoryPlan,
    /// Element type and shape of each output.
    outputs: Vec<(DType, Vec<usize>)>,
    /// Scratch memory of each worker: bytes for kernels, floats for operands.
    scratch: (usize, usize),
    /// Estimate of the elementary operations of a run.
    operations: f64,
}

/// Where a bound kernel comes from.
#[derive(Debug)]
struct Origin {
    /// Number of the kernel.
    number: u32,
    label: String,
    /// Its archetype, and the encoding of its weights.
    code: String,
    cost: Cost,
    /// For each operand of its row program, what its index is read from; empty if it has none.
    indices: Vec<String>,
}

/// Kernels that are executed in sequence, and that again.
#[derive(Clone, Debug)]
struct Stage {
    count: usize,
    kernels: Range<usize>,
}

/// Numbers of the memories of an entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slots {
    /// Number of inputs, which come first; outputs come next.
    pub inputs: usize,
    /// First slot of each state; each instance takes one.
    pub states: Vec<usize>,
    /// First slot of each weight; each instance takes one.
    pub weights: Vec<usize>,
    /// First slot of the buffers.
    pub buffers: usize,
    /// Number of slots.
    pub count: usize,
}

/// An index from memory that was out of range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexFailure {
    pub kernel: String,
    /// What the index was read from.
    pub source: String,
    pub index: i64,
    pub extent: usize,
}

impl BoundEntry {
    /// Where buffers lie.
    pub fn plan(&self) -> &MemoryPlan {
        &self.plan
    }

    /// Numbers of the memories.
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// Element type and shape of each output.
    pub fn outputs(&self) -> &[(DType, Vec<usize>)] {
        &self.outputs
    }

    /// Estimate of the elementary operations of a run.
    pub fn operations(&self) -> f64 {
        self.operations
    }

    /// Makes sure that workers have the scratch memory that the kernels need, and room for what is measured if
    /// it is.
    pub fn reserve(&self, memory: &mut [Mutex<WorkerMemory>], is_measured: bool) {
        for worker in memory {
            let worker = worker.get_mut().unwrap_or_else(PoisonError::into_inner);
            worker.kernel.reserve(self.scratch.0);
            worker.staging.reserve(crate::cpu::scratch::Scratch::bytes_of::<f32>(self.scratch.1));
            worker.parts = is_measured.then(|| Vec::with_capacity(self.executions()));
        }
    }

    /// Executes the entry; gives where the time went if memory was reserved for that.
    ///
    /// # Errors
    /// An index from memory that is out of range; what the entry writes is then unspecified.
    ///
    /// # Safety
    /// For each slot there is the first byte of memory of the size that the program and the symbols
    /// say, aligned to 64, or for inputs to their elements; nobody else writes any of it, or reads
    /// what the entry writes; scratch memory was reserved. `live` is of the mask and the batch that the entry
    /// was bound to, and is there only if it was bound with its padding.
    pub unsafe fn run(
        &self,
        pool: &mut Pool,
        memory: &[Mutex<WorkerMemory>],
        (bases, live): (&Bases, Option<&Live>),
    ) -> Result<Option<RunProfile>, Box<IndexFailure>> {
        let (failure, start) = (Failure::new(), Instant::now());
        assert!(bases.0.len() == self.slots.count && memory.len() >= pool.threads(), "memory of a run");
        pool.run(&|worker| {
            let mut memory = memory[worker.index].lock().unwrap_or_else(PoisonError::into_inner);
            // SAFETY: the caller's contract.
            unsafe { self.walk(worker, (bases, live, start), &failure, &mut memory) };
        });
        match failure.into_report() {
            None => Ok(self.profile(memory)),
            Some(report) => {
                let origin = &self.origins[report.kernel];
                let source = origin.indices.get(report.operand).cloned().unwrap_or_default();
                let (index, extent) = (report.index, report.extent);
                Err(Box::new(IndexFailure { kernel: origin.label.clone(), source, index, extent }))
            }
        }
    }

    /// A worker's way through the kernels.
    ///
    /// # Safety
    /// As [`BoundEntry::run`].
    unsafe fn walk(
        &self,
        worker: Worker<'_>,
        (bases, live, start): (&Bases, Option<&Live>, Instant),
        failure: &Failure,
        memory: &mut WorkerMemory,
    ) {
        let is_measured = memory.parts.is_some();
        let mut run = Run { worker, bases: &bases.0, iteration: 0, time: 0, kernel: 0, failure, live };
        for stage in &self.stages {
            for iteration in 0..stage.count {
                run.iteration = iteration;
                for number in stage.kernels.clone() {
                    run.kernel = number;
                    // SAFETY: the caller's contract; all workers walk the same way.
                    let mut execute = || unsafe { self.kernels[number].execute(&run, memory) };
                    if is_measured {
                        let part = Part::of(start, execute);
                        memory.parts.as_mut().into_iter().for_each(|parts| parts.push(part));
                    } else {
                        execute();
                    }
                    worker.barrier();
                    if failure.is_before(run.time) {
                        return;
                    }
                    run.time += 1;
                }
            }
        }
    }
}
