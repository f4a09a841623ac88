//! Binding: kernels of a valid program become numbers and addresses.
//!
//! Every operand's addresses are checked here over the whole iteration space, so that kernels need
//! not look again. An operand that a kernel cannot take as it lies is copied by a kernel before it.

mod factors;
mod fft_conv;
mod operands;
mod recurrence;
mod scan;
mod top_k;

use castiron_ir::DType;

use super::kernels::{BlankKernel, BoundKernel, MatmulKernel, RowsKernel, StackedKernel};
use super::operand::{Address, IndexOperand};
use super::{BoundEntry, Cost, Origin, Slots, Stage};
use crate::bind::hazard::{self, Span};
use crate::bind::padding::Padding;
use crate::bind::symbols::{SymbolTable, Values};
use crate::bind::view::{FlatIndex, FlatView, Memory, Resolver};
use crate::bind::{BindError, BindFault};
use crate::cpu::isa::Isa;
use crate::cpu::matmul::Matmul;
use crate::cpu::matmul::stacked::Stacked;
use crate::cpu::scratch::Scratch;
use crate::memory::ALIGNMENT;
use crate::plan::{Request, plan};
use crate::program::row::{Access, RowProgram};
use crate::program::view::View;
use crate::program::{EntryProgram, Kernel, KernelBody, Program, Step};
use crate::program::{Matmul as MatmulBody, Rows as RowsBody};
use crate::tensor::tensor_bytes;
use crate::weights::PackedMatrix;

/// Largest extent of an iteration space.
pub(super) const MAX_EXTENT: usize = 1 << 32;
/// Most bytes of scratch memory for a thread; real programs take some hundred thousand.
const MAX_SCRATCH: usize = 1 << 30;

/// Binds an entry of a valid program to the values of its symbols.
///
/// # Errors
/// Addresses outside their memory, memory that threads would contend for, sizes that do not fit.
pub(crate) fn bind(
    program: &Program,
    entry: &EntryProgram,
    (table, values): (&SymbolTable, &Values),
    (isa, workers): (Isa, usize),
    padding: Option<&Padding>,
) -> Result<BoundEntry, BindError> {
    let named = |fault| BindError::Entry { entry: entry.name.clone(), fault };
    let resolver = Resolver { program, entry, table, values };
    let slots = Slots::new(program, entry);
    let mut binder = Binder {
        resolver,
        isa,
        workers,
        padding,
        slots,
        number: 0,
        kernels: Vec::new(),
        origins: Vec::new(),
        temporaries: Vec::new(),
        scratch: (0, 0),
        cost: Cost::default(),
    };
    let mut stages = Vec::new();
    let mut operations = 0.0;
    for step in &entry.steps {
        let (count, body) = match step {
            Step::Kernel(_) => (1, std::slice::from_ref(step)),
            Step::Repeat { count, body } => (*count as usize, body.as_slice()),
        };
        let start = binder.kernels.len();
        for step in body {
            // A valid program has no loop in a loop.
            let Step::Kernel(number) = *step else { continue };
            binder.kernel(number)?;
        }
        stages.push(Stage { count, kernels: start..binder.kernels.len() });
        let bound = &binder.origins[start..];
        operations += count as f64 * bound.iter().map(|origin| origin.cost.operations).sum::<f64>();
    }
    binder.finish(stages, operations).map_err(named)
}

impl Slots {
    fn new(program: &Program, entry: &EntryProgram) -> Slots {
        let (inputs, outputs) = (entry.inputs.len(), entry.outputs.len());
        let mut next = inputs + outputs;
        let mut take = |instances: u32| {
            let first = next;
            next += instances as usize;
            first
        };
        let states = program.states.iter().map(|s| take(s.instances)).collect();
        let weights = program.weights.iter().map(|w| take(w.instances)).collect();
        Slots { inputs, states, weights, buffers: next, count: next }
    }
}

/// A kernel being bound, with what has been bound.
pub(super) struct Binder<'a> {
    pub resolver: Resolver<'a>,
    pub isa: Isa,
    pub workers: usize,
    /// What may leave rows of padding out, if rows shall be.
    padding: Option<&'a Padding>,
    slots: Slots,
    /// Number of the kernel.
    number: u32,
    kernels: Vec<BoundKernel>,
    origins: Vec<Origin>,
    temporaries: Vec<Request>,
    scratch: (usize, usize),
    /// What the kernel being bound costs.
    cost: Cost,
}

/// A row program with views in numbers.
pub(super) struct FlatOperands {
    pub inputs: Vec<FlatView>,
    pub outputs: Vec<FlatView>,
    /// For each input and output, the extents over which it is used.
    pub extents: Vec<Vec<usize>>,
}

impl Binder<'_> {
    fn kernel(&mut self, number: u32) -> Result<(), BindError> {
        self.number = number;
        let kernel = &self.resolver.entry.kernels[number as usize];
        let named = |fault| BindError::Kernel {
            entry: self.resolver.entry.name.clone(),
            number: number as usize,
            label: kernel.label.clone(),
            fault,
        };
        self.body(kernel).map_err(named)?;
        let padding = self.padding.into_iter().flat_map(|padding| &padding.zeroed);
        for (_, place, row) in padding.filter(|(kernel, ..)| *kernel == number as usize) {
            let memory = self.resolver.memory(place).map_err(named)?;
            let blank = BlankKernel { address: self.address(memory), row: *row };
            let origin = self.origin_of(&kernel.label, Vec::new());
            self.push(BoundKernel::Blank(blank), origin);
        }
        Ok(())
    }

    /// Whether the kernel being bound leaves rows of padding out.
    pub(super) fn is_live(&self) -> bool {
        self.padding.is_some_and(|padding| padding.leaves_out[self.number as usize])
    }

    fn body(&mut self, kernel: &Kernel) -> Result<(), BindFault> {
        match &kernel.body {
            KernelBody::Rows(rows) => self.rows(rows, &kernel.label),
            KernelBody::Matmul(matmul) => self.matmul(matmul, &kernel.label),
            KernelBody::Product(product) => self.product(product, &kernel.label),
            KernelBody::Attention(attention) => self.attention(attention, &kernel.label),
            KernelBody::Scan(scan) => self.scan(scan, &kernel.label),
            KernelBody::TopK(top) => self.top_k(top, &kernel.label),
            KernelBody::FftConv(convolution) => self.fft_conv(convolution, &kernel.label),
        }
    }

    /// An iteration space; nothing if it is empty.
    fn space(&self, space: &[castiron_ir::Dim]) -> Result<Option<Vec<usize>>, BindFault> {
        let extents = self.resolver.dims(space)?;
        let grow = |size: usize, &extent: &usize| size.checked_mul(extent).filter(|_| extent <= MAX_EXTENT);
        let size = extents.iter().try_fold(1_usize, grow).ok_or(BindFault::TooLarge("the iteration space"))?;
        Ok((size > 0).then_some(extents))
    }

    fn rows(&mut self, rows: &RowsBody, label: &str) -> Result<(), BindFault> {
        let Some(extents) = self.space(&rows.space)? else { return Ok(()) };
        let flat = self.operands(&rows.operands, 0, &extents)?;
        check_hazards(&flat, &[])?;
        // A kernel that leaves rows out is over batch and length first.
        let batch = if self.is_live() { extents[..2].iter().product() } else { 0 };
        self.push_rows((&rows.operands.program, flat), extents, batch, label)
    }

    /// Appends a kernel of rows; those of padding are left out if a batch has so many in all.
    fn push_rows(
        &mut self,
        (program, flat): (&RowProgram, FlatOperands),
        extents: Vec<usize>,
        batch: usize,
        label: &str,
    ) -> Result<(), BindFault> {
        let origin = self.origin(label, &flat);
        let mut nest = self.nest(program, 0, flat, extents);
        nest.simplify_outer();
        if batch == 0 {
            nest.simplify_row();
        }
        let (rows, row, is_divisible) = (nest.rows(), nest.row(), nest.is_divisible());
        self.count(rows, row, program.nodes.len());
        let work = self.work(nest, false)?;
        let (can_cut, per_live) = (is_divisible && work.can_cut(), rows.checked_div(batch).unwrap_or(0));
        self.push(BoundKernel::Rows(RowsKernel { work, rows, row, can_cut, per_live }), origin);
        Ok(())
    }

    fn matmul(&mut self, matmul: &MatmulBody, label: &str) -> Result<(), BindFault> {
        let Some(extents) = self.space(&matmul.space)? else { return Ok(()) };
        let (_, outer) = extents.split_last().unwrap_or((&1, &[]));
        let m = outer.iter().product();
        let (count, matrix) = self.resolver.matrices(matmul.weight)?;
        if extents.last() != Some(&matrix.n) {
            let (needed, available) = (extents.last().copied().unwrap_or(0), matrix.n);
            return Err(BindFault::Bounds { operand: "the columns of the product".into(), needed, available });
        }
        let x_extents: Vec<usize> = outer.iter().copied().chain([matrix.k]).collect();
        let x = self.resolver.view("the left operand", &matmul.x, &x_extents)?;
        self.touch(&x, &x_extents);
        let chosen = matmul.chosen.as_ref().map(|view| self.choice(view, outer)).transpose()?;
        // Rows that take different weights read at most as many as there are.
        self.cost.bytes +=
            matrix.bytes().unwrap_or(0) as f64 * if chosen.is_some() { count.min(m) as f64 } else { 1.0 };
        let flat = self.operands(&matmul.epilogue, matrix.groups, &extents)?;
        let mut others = vec![("the left operand", &x, &*x_extents)];
        others.extend(chosen.as_ref().map(|(view, over)| ("the choice of a weight", view, &**over)));
        check_hazards(&flat, &others)?;
        let outer = outer.to_vec();
        let mut origin = self.origin(label, &flat);
        let encodings = &self.resolver.program.weights[matmul.weight as usize].encodings;
        for encoding in encodings.iter().copied().chain([matrix.encoding]) {
            let shape = PackedMatrix { encoding, ..matrix };
            let scratch = match chosen {
                Some(_) => Stacked::scratch_bytes(&shape, count, m),
                None => Matmul::scratch_bytes(&shape, m),
            };
            self.scratch.0 = self.scratch.0.max(scratch);
        }
        self.count(m, matrix.n, matrix.k.saturating_mul(2 * matrix.groups));
        let (isa, is_live) = (self.isa, self.is_live());
        let weight = self.address(Memory::Weight(matmul.weight as usize));
        let encodings: Box<[_]> = encodings.as_slice().into();
        let Some((choice, _)) = chosen else {
            let (x, x_stride) = self.rows_of_x(x, &x_extents, label)?;
            let epilogue = self.epilogue(&matmul.epilogue, matrix.groups, flat, extents)?;
            let kernel = MatmulKernel { isa, weight, matrix, encodings, x, x_stride, m, is_live, epilogue };
            self.push(BoundKernel::Matmul(kernel), origin);
            return Ok(());
        };
        let is_row = x.is_plain(DType::F32) && (matrix.k == 1 || x.strides[outer.len()] == 1);
        let x = if is_row { x } else { self.copied(x, &x_extents, label)? };
        let epilogue = self.epilogue(&matmul.epilogue, matrix.groups, flat, extents)?;
        origin.indices.push(self.source(choice.memory));
        let index = FlatIndex::of(choice, count);
        let chosen = IndexOperand::new(&index, self.address(index.memory), outer.len(), 1);
        let x_strides = x.strides[..outer.len()].into();
        let x = self.element(&x);
        let product = MatmulKernel { isa, weight, matrix, encodings, x, x_stride: 0, m, is_live, epilogue };
        self.push(
            BoundKernel::Stacked(StackedKernel { product, count, outer: outer.into(), x_strides, chosen }),
            origin,
        );
        Ok(())
    }

    /// Where the weights of rows are chosen.
    fn choice(&mut self, view: &View, outer: &[usize]) -> Result<(FlatView, Vec<usize>), BindFault> {
        let over: Vec<usize> = outer.iter().copied().chain([1]).collect();
        let flat = self.resolver.view("the choice of a weight", view, &over)?;
        self.touch(&flat, &over);
        Ok((flat, over))
    }

    /// The left operand as rows of a constant stride, copied if it is not.
    fn rows_of_x(&mut self, x: FlatView, extents: &[usize], label: &str) -> Result<(Address, usize), BindFault> {
        let k = extents[extents.len() - 1];
        if x.is_plain(DType::F32) && (k == 1 || x.strides[x.strides.len() - 1] == 1) {
            let mut moving = x.strides.iter().zip(extents).take(extents.len() - 1).filter(|(_, n)| **n > 1).rev();
            let Some((&stride, &extent)) = moving.next() else { return Ok((self.element(&x), k)) };
            let mut next = stride.checked_mul(extent);
            let is_even = moving.all(|(&outer, &extent)| {
                let continues = next == Some(outer);
                next = outer.checked_mul(extent);
                continues
            });
            if is_even {
                return Ok((self.element(&x), stride));
            }
        }
        let copy = self.copied(x, extents, label)?;
        Ok((self.element(&copy), k))
    }

    /// Copies an operand to a row-major temporary buffer of f32, by a kernel before this one.
    pub(super) fn copied(&mut self, view: FlatView, extents: &[usize], label: &str) -> Result<FlatView, BindFault> {
        let copy = self.temporary(DType::F32, extents)?;
        let flat = FlatOperands {
            inputs: vec![view],
            outputs: vec![copy.clone()],
            extents: vec![extents.to_vec(), extents.to_vec()],
        };
        let program = operands::copy_program(Access::Element);
        self.push_rows((&program, flat), extents.to_vec(), 0, label)?;
        Ok(copy)
    }

    /// A row-major buffer that lives as long as the kernel.
    pub(super) fn temporary(&mut self, dtype: DType, extents: &[usize]) -> Result<FlatView, BindFault> {
        let bytes = tensor_bytes(dtype, extents).ok_or(BindFault::TooLarge("a temporary buffer"))?;
        self.temporaries.push(Request { bytes, first: self.number, last: self.number });
        let number = self.resolver.entry.buffers.len() + self.temporaries.len() - 1;
        Ok(FlatView::row_major(Memory::Buffer(number), dtype, extents))
    }

    /// Where a memory begins.
    pub(super) fn address(&self, memory: Memory) -> Address {
        let (program, slots) = (self.resolver.program, &self.slots);
        let per = |instances: u32| usize::from(instances > 1);
        let (slot, per_iteration) = match memory {
            Memory::Input(number) => (number, 0),
            Memory::Output(number) => (slots.inputs + number, 0),
            Memory::State(number) => (slots.states[number], per(program.states[number].instances)),
            Memory::Weight(number) | Memory::Packed(number, _) => {
                (slots.weights[number], per(program.weights[number].instances))
            }
            Memory::Buffer(number) => (slots.buffers + number, 0),
            Memory::Index(_) | Memory::Value(_) => (0, 0),
        };
        Address { slot, per_iteration, offset: 0 }
    }

    /// Where the first element of a view lies.
    pub(super) fn element(&self, view: &FlatView) -> Address {
        Address { offset: view.offset * view.dtype.size(), ..self.address(view.memory) }
    }

    fn origin(&self, label: &str, flat: &FlatOperands) -> Origin {
        let source = |view: &FlatView| view.index.as_ref().map(|index| self.source(index.memory)).unwrap_or_default();
        let indices = flat.inputs.iter().chain(&flat.outputs).map(source).collect();
        self.origin_of(label, indices)
    }

    /// What an index is read from, for people.
    fn source(&self, memory: Memory) -> String {
        match memory {
            Memory::Input(number) => format!("input `{}`", self.resolver.entry.inputs[number].0),
            _ => "an intermediate result".to_owned(),
        }
    }

    /// An origin that is known but for what [`Binder::push`] adds.
    fn origin_of(&self, label: &str, indices: Vec<String>) -> Origin {
        Origin { number: self.number, label: label.to_owned(), code: String::new(), cost: Cost::default(), indices }
    }

    /// Appends a kernel, with the costs that were counted since the last one.
    fn push(&mut self, kernel: BoundKernel, origin: Origin) {
        let cost = std::mem::take(&mut self.cost);
        self.origins.push(Origin { code: kernel.code(), cost, ..origin });
        self.kernels.push(kernel);
    }

    /// Adds to the operations of the kernel.
    fn count(&mut self, rows: usize, columns: usize, each: usize) {
        self.cost.operations += rows as f64 * columns as f64 * each as f64;
    }

    /// Adds the elements that a view touches to the bytes of the kernel.
    fn touch(&mut self, view: &FlatView, extents: &[usize]) {
        if matches!(view.memory, Memory::Index(_) | Memory::Value(_)) {
            return;
        }
        let moves =
            |axis: usize| view.strides[axis] > 0 || view.index.as_ref().is_some_and(|index| index.strides[axis] > 0);
        let moving = extents.iter().enumerate().filter(|&(axis, _)| moves(axis));
        self.cost.bytes += moving.map(|(_, &n)| n as f64).product::<f64>() * view.dtype.size() as f64;
    }

    fn finish(mut self, stages: Vec<Stage>, operations: f64) -> Result<BoundEntry, BindFault> {
        let entry = self.resolver.entry;
        let mut requests = Vec::new();
        for buffer in &entry.buffers {
            let bytes = self.resolver.dim(&buffer.bytes)?;
            requests.push(Request { bytes, first: buffer.first, last: buffer.last });
        }
        requests.append(&mut self.temporaries);
        let mut plan = plan(&requests, ALIGNMENT).ok_or(BindFault::TooLarge("the sum of all buffers"))?;
        plan.temporaries = requests.len() - entry.buffers.len();
        let mut slots = self.slots;
        slots.count = slots.buffers + requests.len();
        let mut outputs = Vec::new();
        for (_, ty) in &entry.outputs {
            outputs.push((ty.dtype, self.resolver.dims(&ty.shape)?));
        }
        if self.scratch.0.max(Scratch::bytes_of::<f32>(self.scratch.1)) > MAX_SCRATCH {
            return Err(BindFault::TooLarge("the scratch memory"));
        }
        let (kernels, origins, scratch) = (self.kernels, self.origins, self.scratch);
        Ok(BoundEntry { kernels, origins, stages, slots, plan, outputs, scratch, operations })
    }
}

/// Checks the hazards of a row program's operands and of what else its kernel reads.
pub(super) fn check_hazards(flat: &FlatOperands, others: &[(&str, &FlatView, &[usize])]) -> Result<(), BindFault> {
    let inputs = (0..flat.inputs.len()).map(|i| format!("input {i}"));
    let names: Vec<String> = inputs.chain((0..flat.outputs.len()).map(|i| format!("output {i}"))).collect();
    let views = flat.inputs.iter().chain(&flat.outputs).zip(&flat.extents).zip(&names);
    let mut reads: Vec<Span<'_>> =
        views.map(|((view, extents), name)| Span { name, view, extents, in_place: true }).collect();
    let mut writes = reads.split_off(flat.inputs.len());
    writes.iter_mut().for_each(|write| write.in_place = false);
    reads.extend(others.iter().map(|(name, view, extents)| Span { name, view, extents, in_place: false }));
    hazard::check(&reads, &writes)
}
