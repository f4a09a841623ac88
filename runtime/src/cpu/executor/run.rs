//! A run of a bound entry: its memory, and how it ends early.
#![allow(unsafe_code)] // Threads share the base pointers of a run.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::operand::BadIndex;
use crate::cpu::live::Live;
use crate::cpu::pool::Worker;

/// First bytes of the memories of a bound entry, by slot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bases(pub Vec<*mut u8>);

// SAFETY: pointers are only followed by kernels, whose operands binding has checked, while the
// session that owns the memory is exclusively borrowed.
unsafe impl Send for Bases {}
// SAFETY: as above; kernels write disjoint parts between barriers.
unsafe impl Sync for Bases {}

/// What a worker needs to know.
pub(super) struct Run<'a> {
    pub worker: Worker<'a>,
    pub bases: &'a [*mut u8],
    pub iteration: usize,
    /// Number of kernels executed before, the same for all workers.
    pub time: usize,
    /// Number of the bound kernel.
    pub kernel: usize,
    pub failure: &'a Failure,
    /// The rows that are computed by kernels that may leave rows out.
    pub live: Option<&'a Live>,
}

impl Run<'_> {
    /// Reports an index out of range.
    pub fn fail(&self, operand: usize, bad: BadIndex) {
        let report = Report { kernel: self.kernel, operand, index: bad.index, extent: bad.extent };
        self.failure.report.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(report);
        self.failure.time.fetch_min(self.time, Ordering::AcqRel);
    }
}

/// What went wrong in a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    pub kernel: usize,
    /// Inputs first, then outputs.
    pub operand: usize,
    pub index: i64,
    pub extent: usize,
}

/// The first failure of a run.
pub(super) struct Failure {
    /// The kernel in which it happened, as a number of kernels executed before.
    time: AtomicUsize,
    report: Mutex<Option<Report>>,
}

impl Failure {
    pub fn new() -> Failure {
        Failure { time: AtomicUsize::new(usize::MAX), report: Mutex::new(None) }
    }

    /// Whether a kernel up to `time` has failed. After the barrier that ends the kernel every worker
    /// gets the same answer, since later failures have later times.
    pub fn is_before(&self, time: usize) -> bool {
        self.time.load(Ordering::Acquire) <= time
    }

    pub fn into_report(self) -> Option<Report> {
        self.report.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
