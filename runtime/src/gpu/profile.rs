//! Where the time of a run went.

use serde::Serialize;

/// Where the time of a run went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RunProfile {
    /// How often commands were submitted to the device.
    pub submissions: u64,
    /// What was dispatched, in order of the first executions.
    pub dispatches: Vec<DispatchProfile>,
}

/// A dispatch of a launch, with all of its executions in a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DispatchProfile {
    /// Numbers of the first and of the last kernel that its launch executes.
    pub kernels: [u32; 2],
    /// Labels of these kernels.
    pub label: String,
    /// Name of the shader that was taken.
    pub shader: String,
    /// Number of the stage; the dispatches of a loop have the same one.
    pub stage: usize,
    /// How often it was executed.
    pub count: u32,
    /// Nanoseconds on the device.
    pub nanoseconds: u64,
    /// Bytes that were bound, each binding as a whole: what is gathered from a table counts as the
    /// table, and what is both read and written counts once.
    pub bytes: u64,
}

impl RunProfile {
    /// Number of dispatches.
    pub fn count(&self) -> u64 {
        self.dispatches.iter().map(|dispatch| u64::from(dispatch.count)).sum()
    }

    /// Nanoseconds of all dispatches.
    pub fn nanoseconds(&self) -> u64 {
        self.dispatches.iter().map(|dispatch| dispatch.nanoseconds).sum()
    }

    /// Bytes bound by all dispatches.
    pub fn bytes(&self) -> u64 {
        self.dispatches.iter().map(|dispatch| dispatch.bytes).sum()
    }

    /// Number of dispatches of an iteration of the loop that has most of them; 0 if nothing repeats.
    pub fn per_iteration(&self) -> usize {
        let of_loop = |stage| self.dispatches.iter().filter(|d| d.stage == stage && d.count > 1).count();
        self.dispatches.iter().map(|dispatch| of_loop(dispatch.stage)).max().unwrap_or(0)
    }
}
