//! Where the time of a run went.

use serde::Serialize;

/// Where the time of a run went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RunProfile {
    /// How often commands were submitted to a GPU; 0 on the CPU.
    pub submissions: u64,
    /// What was executed, in order of the first executions.
    pub kernels: Vec<KernelProfile>,
    /// Every execution, in order, on the CPU; nothing on GPUs.
    pub events: Vec<Event>,
}

/// A kernel with all of its executions in a run; on a GPU, a dispatch of a launch, which may be several kernels or
/// a part of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KernelProfile {
    /// Numbers of the first and of the last kernel that it executes.
    pub kernels: [u32; 2],
    /// Labels of these kernels.
    pub label: String,
    /// Name of the shader that was taken, or of the kernel's archetype and the encoding of its weights.
    pub code: String,
    /// Number of the stage; the kernels of a loop have the same one.
    pub stage: usize,
    /// How often it was executed.
    pub count: u32,
    /// Nanoseconds from the first thread's start to the last one's end, or on the device.
    pub nanoseconds: u64,
    /// Bytes of operands and results. On the CPU each element that is touched counts once, and a cache with all
    /// of its capacity; on a GPU each binding as a whole.
    pub bytes: u64,
    /// Elementary operations, where they are counted: a product-sum is two.
    pub operations: u64,
}

/// A thread's part of an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Place in [`RunProfile::kernels`].
    pub kernel: u32,
    /// Number of the thread.
    pub worker: u32,
    /// Nanoseconds from the start of the run to that of the execution.
    pub start: u64,
    /// To its end.
    pub end: u64,
}

impl RunProfile {
    /// Number of executions.
    pub fn count(&self) -> u64 {
        self.kernels.iter().map(|kernel| u64::from(kernel.count)).sum()
    }

    /// Nanoseconds of all executions.
    pub fn nanoseconds(&self) -> u64 {
        self.kernels.iter().map(|kernel| kernel.nanoseconds).sum()
    }

    /// Bytes of all executions.
    pub fn bytes(&self) -> u64 {
        self.kernels.iter().map(|kernel| kernel.bytes).sum()
    }

    /// Number of executions of an iteration of the loop that has most of them; 0 if nothing repeats.
    pub fn per_iteration(&self) -> usize {
        let of_loop = |stage| self.kernels.iter().filter(|k| k.stage == stage && k.count > 1).count();
        self.kernels.iter().map(|kernel| of_loop(kernel.stage)).max().unwrap_or(0)
    }
}
