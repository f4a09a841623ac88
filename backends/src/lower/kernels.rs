//! The kernels and buffers of an entry.

use castiron_ir::Dim;
use castiron_runtime::program::view::{Place, View};
use castiron_runtime::program::{Buffer, Kernel, KernelBody, Step};

/// Kernels in the order of execution of one iteration of each loop, and the buffers between them.
#[derive(Default)]
pub(super) struct Kernels {
    buffers: Vec<Buffer>,
    kernels: Vec<Kernel>,
}

/// First kernel of a buffer that none has touched.
const UNTOUCHED: u32 = u32::MAX;

impl Kernels {
    /// A buffer that nothing touches yet.
    pub fn add_buffer(&mut self, bytes: Dim) -> u32 {
        self.buffers.push(Buffer { bytes, first: UNTOUCHED, last: 0 });
        self.buffers.len() as u32 - 1
    }

    /// How many kernels there are.
    pub fn count(&self) -> u32 {
        self.kernels.len() as u32
    }

    /// Appends a kernel, which touches the buffers that its views name.
    pub fn push(&mut self, label: String, body: KernelBody) -> Step {
        let number = self.count();
        let (reads, writes) = body.views();
        for view in reads.into_iter().chain(writes) {
            touch(&mut self.buffers, view, number);
        }
        self.kernels.push(Kernel { label, body });
        Step::Kernel(number)
    }

    /// Ends a loop that began before kernel `start`: what comes from outside lives to its end, since
    /// the next iteration reads it again.
    pub fn end_loop(&mut self, start: u32) {
        let Some(end) = self.count().checked_sub(1) else { return };
        for buffer in self.buffers.iter_mut().filter(|b| b.first < start && b.last >= start) {
            buffer.last = end;
        }
    }

    /// The buffers and kernels.
    pub fn finish(mut self) -> (Vec<Buffer>, Vec<Kernel>) {
        self.buffers.iter_mut().filter(|b| b.first == UNTOUCHED).for_each(|b| b.first = 0);
        (self.buffers, self.kernels)
    }
}

fn touch(buffers: &mut [Buffer], view: &View, kernel: u32) {
    if let Place::Buffer(number) = view.place {
        let buffer = &mut buffers[number as usize];
        buffer.first = buffer.first.min(kernel);
        buffer.last = buffer.last.max(kernel);
    }
    if let Some(indirect) = &view.indirect {
        touch(buffers, &indirect.indices, kernel);
    }
}
