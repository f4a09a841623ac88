//! Recurrences that have kernels, bound to memory.
#![allow(unsafe_code)] // Kernels take pointers; binding has checked where they point.

use super::kernels::{Span, WorkerMemory, read, write};
use super::run::Run;
use crate::cpu::isa::Isa;
use crate::cpu::recurrence::{LinearAttention, SelectiveScan};

/// Linear attention.
#[derive(Debug)]
pub(super) struct LinearAttentionKernel {
    pub isa: Isa,
    pub extents: [usize; 6],
    pub state: Span<5>,
    pub query: Span<5>,
    pub key: Span<5>,
    pub value: Span<5>,
    pub decay: Option<Span<5>>,
    pub delta: Option<[Span<5>; 2]>,
    pub before: bool,
    pub out: Span<5>,
}

/// A selective scan.
#[derive(Debug)]
pub(super) struct SelectiveScanKernel {
    pub isa: Isa,
    pub extents: [usize; 4],
    pub state: Span<3>,
    /// `u`, `δ`, `B` and `C`.
    pub sequences: [Span<3>; 4],
    pub a: Span<2>,
    pub out: Span<3>,
}

impl LinearAttentionKernel {
    /// Does this worker's share.
    ///
    /// # Safety
    /// The kernel was bound to the memory of the run, and all workers execute it together.
    pub unsafe fn execute(&self, run: &Run<'_>, memory: &mut WorkerMemory) {
        let kernel = LinearAttention {
            isa: self.isa,
            extents: self.extents,
            state: write(run, &self.state),
            query: read(run, &self.query),
            key: read(run, &self.key),
            value: read(run, &self.value),
            decay: self.decay.as_ref().map(|span| read(run, span)),
            delta: self.delta.as_ref().map(|delta| delta.each_ref().map(|span| read(run, span))),
            before: self.before,
            out: write(run, &self.out),
        };
        // SAFETY: binding has checked every operand over these extents, and that results are apart.
        unsafe { kernel.run(run.worker, &mut memory.kernel) }
    }
}

impl SelectiveScanKernel {
    /// Does this worker's share.
    ///
    /// # Safety
    /// As [`LinearAttentionKernel::execute`].
    pub unsafe fn execute(&self, run: &Run<'_>, memory: &mut WorkerMemory) {
        let [u, delta, b, c] = self.sequences.each_ref().map(|span| read(run, span));
        let (state, out, a) = (write(run, &self.state), write(run, &self.out), read(run, &self.a));
        let kernel = SelectiveScan { isa: self.isa, extents: self.extents, state, u, delta, b, c, a, out };
        // SAFETY: as for linear attention.
        unsafe { kernel.run(run.worker, &mut memory.kernel) }
    }
}
