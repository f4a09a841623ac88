//! Bound kernels, each executed by all workers together.
#![allow(unsafe_code)] // Kernels take pointers; binding has checked where they point.

use std::ops::Range;

use castiron_ir::DType;

use super::fft_conv::FftConvKernel;
use super::measure::Part;
use super::operand::{Address, IndexOperand};
use super::recurrence::{LinearAttentionKernel, SelectiveScanKernel};
use super::run::Run;
use super::scan::ScanKernel;
use super::top_k::TopKKernel;
use super::work::{Index, RowWork};
use crate::cpu::attention::{Attention, Elements};
use crate::cpu::isa::Isa;
use crate::cpu::live::Live;
use crate::cpu::matmul::batched::{Batched, Operand};
use crate::cpu::matmul::stacked::Stacked;
use crate::cpu::matmul::{Matmul, Rows, Tile};
use crate::cpu::pool::share;
use crate::cpu::scratch::Scratch;
use crate::cpu::strided::Strided;
use crate::weights::{Encoding, PackedMatrix};

/// Fewest elements that are worth another thread.
const GRAIN: usize = 1024;
/// Parts of rows begin at multiples of this many elements, a cache line.
const CUT: usize = 16;

/// Working memory of a thread.
#[derive(Default)]
pub(crate) struct WorkerMemory {
    /// For the insides of products and attention.
    pub kernel: Scratch,
    /// For operands of row programs.
    pub staging: Scratch,
    /// What is measured, if it is.
    pub(super) parts: Option<Vec<Part>>,
}

/// A kernel that is ready to run.
#[derive(Debug)]
pub(super) enum BoundKernel {
    Rows(RowsKernel),
    Matmul(MatmulKernel),
    Stacked(StackedKernel),
    Product(ProductKernel),
    Attention(Box<AttentionKernel>),
    Scan(ScanKernel),
    LinearAttention(Box<LinearAttentionKernel>),
    SelectiveScan(Box<SelectiveScanKernel>),
    TopK(TopKKernel),
    FftConv(Box<FftConvKernel>),
    Blank(BlankKernel),
}

/// A row program over rows.
#[derive(Debug)]
pub(super) struct RowsKernel {
    pub work: RowWork,
    pub rows: usize,
    /// Elements of a row.
    pub row: usize,
    /// Whether threads may share a row.
    pub can_cut: bool,
    /// Rows of the kernel for each row of the batch, if rows of padding are left out; else 0.
    pub per_live: usize,
}

/// Zeros in rows of padding.
#[derive(Debug)]
pub(super) struct BlankKernel {
    /// The first row.
    pub address: Address,
    /// Bytes of a row.
    pub row: usize,
}

/// A product with a packed weight.
#[derive(Debug)]
pub(super) struct MatmulKernel {
    pub isa: Isa,
    pub weight: Address,
    pub matrix: PackedMatrix,
    /// The encoding in each iteration, if they differ.
    pub encodings: Box<[Encoding]>,
    pub x: Address,
    /// Elements from row to row of `x`.
    pub x_stride: usize,
    pub m: usize,
    /// Whether rows of padding are left out.
    pub is_live: bool,
    pub epilogue: RowWork,
}

/// A product with a stack of packed weights, one for each row.
#[derive(Debug)]
pub(super) struct StackedKernel {
    /// All but the left operand's rows.
    pub product: MatmulKernel,
    /// Number of weights.
    pub count: usize,
    /// Extents of the axes of rows.
    pub outer: Box<[usize]>,
    /// Elements from index to index of `x`.
    pub x_strides: Box<[usize]>,
    /// The weight of each row.
    pub chosen: IndexOperand,
}

/// An operand of a product of activations.
#[derive(Debug)]
pub(super) struct Factor {
    pub address: Address,
    /// Elements from index to index, over batch axes.
    pub batch: Box<[usize]>,
    pub stride: usize,
    pub step: usize,
}

/// A product of activations.
#[derive(Debug)]
pub(super) struct ProductKernel {
    pub isa: Isa,
    /// Extents of the batch axes.
    pub batch: Box<[usize]>,
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub lhs: Factor,
    pub rhs: Factor,
    pub epilogue: RowWork,
}

/// An operand of a kernel that takes pointers with strides.
pub(super) type Span<const N: usize> = (Address, [usize; N]);

/// An operand that is read, in the memory of a run.
pub(super) fn read<T, const N: usize>(run: &Run<'_>, span: &Span<N>) -> Strided<*const T, N> {
    Strided { at: span.0.pointer(run).cast::<T>().cast_const(), strides: span.1 }
}

/// An operand that is written, in the memory of a run.
pub(super) fn write<T, const N: usize>(run: &Run<'_>, span: &Span<N>) -> Strided<*mut T, N> {
    Strided { at: span.0.pointer(run).cast::<T>(), strides: span.1 }
}

/// Keys or values of attention.
#[derive(Debug)]
pub(super) struct Keys {
    pub span: Span<4>,
    /// f32, or what is widened as it is read.
    pub dtype: DType,
}

impl Keys {
    fn elements(&self, run: &Run<'_>) -> Strided<Elements, 4> {
        let at = self.span.0.pointer(run).cast_const();
        let at = match self.dtype {
            DType::F16 => Elements::F16(at.cast()),
            DType::I8 => Elements::I8(at.cast()),
            _ => Elements::F32(at.cast()),
        };
        Strided { at, strides: self.span.1 }
    }
}

/// Attention.
#[derive(Debug)]
pub(super) struct AttentionKernel {
    pub isa: Isa,
    pub extents: [usize; 7],
    pub q: Span<5>,
    pub k: Keys,
    pub v: Keys,
    pub scales: Option<[Span<3>; 2]>,
    pub out: Span<5>,
    pub past: Option<Span<1>>,
    pub mask: Option<Span<2>>,
    pub bias: Option<Span<5>>,
    pub sinks: Option<Span<4>>,
    pub scale: f32,
    pub soft_cap: Option<f32>,
    pub causal: bool,
    pub window: Option<usize>,
    /// Whether queries of padding are left out.
    pub is_live: bool,
    /// Memory that the threads share, and its floats.
    pub shared: (Address, usize),
}

impl BoundKernel {
    /// Its archetype and the encoding of its weights, for people.
    pub fn code(&self) -> String {
        match self {
            BoundKernel::Rows(_) => "rows".to_owned(),
            BoundKernel::Matmul(kernel) if !kernel.encodings.is_empty() => "matmul, mixed".to_owned(),
            BoundKernel::Matmul(kernel) => format!("matmul {:?}", kernel.matrix.encoding),
            BoundKernel::Stacked(kernel) if !kernel.product.encodings.is_empty() => "experts, mixed".to_owned(),
            BoundKernel::Stacked(kernel) => format!("experts {:?}", kernel.product.matrix.encoding),
            BoundKernel::Product(_) => "product".to_owned(),
            BoundKernel::Attention(_) => "attention".to_owned(),
            BoundKernel::Scan(_) => "scan".to_owned(),
            BoundKernel::LinearAttention(_) => "linear attention".to_owned(),
            BoundKernel::SelectiveScan(_) => "selective scan".to_owned(),
            BoundKernel::TopK(_) => "top_k".to_owned(),
            BoundKernel::FftConv(kernel) => match &kernel.transform {
                Some(transform) => format!("fft_conv, {transform:?}"),
                None => "fft_conv, direct".to_owned(),
            },
            BoundKernel::Blank(_) => "zeros".to_owned(),
        }
    }

    /// Does this worker's share.
    ///
    /// # Safety
    /// The kernel was bound to the memory of the run, and all workers execute it together.
    pub unsafe fn execute(&self, run: &Run<'_>, memory: &mut WorkerMemory) {
        // SAFETY: the caller's contract.
        unsafe {
            match self {
                BoundKernel::Rows(kernel) => kernel.execute(run, memory),
                BoundKernel::Matmul(kernel) => kernel.execute(run, memory),
                BoundKernel::Stacked(kernel) => kernel.execute(run, memory),
                BoundKernel::Product(kernel) => kernel.execute(run, memory),
                BoundKernel::Attention(kernel) => kernel.execute(run, memory),
                BoundKernel::Scan(kernel) => kernel.execute(run, memory),
                BoundKernel::LinearAttention(kernel) => kernel.execute(run, memory),
                BoundKernel::SelectiveScan(kernel) => kernel.execute(run, memory),
                BoundKernel::TopK(kernel) => kernel.execute(run, memory),
                BoundKernel::FftConv(kernel) => kernel.execute(run, memory),
                BoundKernel::Blank(kernel) => kernel.execute(run),
            }
        }
    }
}

/// A worker's share of rows, or of each row if threads may share them; `elements` is all the work.
pub(super) fn part(
    run: &Run<'_>,
    elements: usize,
    (rows, row): (usize, usize),
    can_cut: bool,
) -> Option<(Range<usize>, Range<usize>)> {
    let index = run.worker.index;
    let workers = (elements / GRAIN).clamp(1, run.worker.count);
    if index >= workers {
        return None;
    }
    let is_cut = can_cut && rows < 4 * workers && row >= CUT * workers;
    Some(match is_cut && workers > 1 {
        true => (0..rows, share(row, CUT, index, workers)),
        false => (share(rows, 1, index, workers), 0..row),
    })
}

impl RowsKernel {
    unsafe fn execute(&self, run: &Run<'_>, memory: &mut WorkerMemory) {
        if let Some(live) = run.live.filter(|_| self.per_live > 0) {
            // SAFETY: the caller's contract.
            return unsafe { self.execute_live(run, live, memory) };
        }
        let total = self.rows.saturating_mul(self.row);
        let Some((rows, columns)) = part(run, total, (self.rows, self.row), self.can_cut) else { return };
        let mut carver = memory.staging.carve();
        let staging = carver.take::<f32>(self.work.staging);
        let mut at = self.work.index(rows.start);
        for _ in rows {
            // SAFETY: the index lies in the space; workers have disjoint shares of it.
            unsafe { self.work.call(run, &at, &[], columns.clone(), staging) };
            self.work.advance(&mut at);
        }
    }
}

impl RowsKernel {
    /// As [`RowsKernel::execute`], for rows that are not padding.
    unsafe fn execute_live(&self, run: &Run<'_>, live: &Live, memory: &mut WorkerMemory) {
        let (count, row) = (live.rows().len(), self.per_live * self.row);
        let Some((part, _)) = part(run, count * row, (count, row), false) else { return };
        let mut carver = memory.staging.carve();
        let staging = carver.take::<f32>(self.work.staging);
        for &row in &live.rows()[part] {
            let first = row as usize * self.per_live;
            for row in first..first + self.per_live {
                // SAFETY: binding made as many rows as the batch has, times this; workers have disjoint shares.
                unsafe { self.work.call(run, &self.work.index(row), &[], 0..self.row, staging) };
            }
        }
    }
}

impl BlankKernel {
    unsafe fn execute(&self, run: &Run<'_>) {
        let padding = run.live.map_or(&[][..], Live::padding);
        for rows in &padding[share(padding.len(), 1, run.worker.index, run.worker.count)] {
            let at = self.address.pointer(run).wrapping_add(rows.start * self.row);
            // SAFETY: the memory has a row for each of the batch, of which these are the worker's.
            unsafe { at.write_bytes(0, rows.len() * self.row) };
        }
    }
}

/// Applies an epilogue to a tile of a product with `m` rows for each index of its batch.
///
/// # Safety
/// The tile lies in the space that the epilogue was bound to, and no other thread has it.
unsafe fn finish(epilogue: &RowWork, run: &Run<'_>, m: usize, tile: &Tile, staging: &mut [f32]) {
    let at = epilogue.index(tile.batch * m + tile.row);
    let (accumulators, columns) = (&tile.accumulators[..epilogue.given], tile.column..tile.column + tile.columns);
    // SAFETY: the caller's contract.
    unsafe { epilogue.call(run, &at, accumulators, columns, staging) };
}

impl MatmulKernel {
    /// The weight in an iteration.
    fn shape(&self, run: &Run<'_>) -> PackedMatrix {
        let encoding = self.encodings.get(run.iteration).copied().unwrap_or(self.matrix.encoding);
        PackedMatrix { encoding, ..self.matrix }
    }

    unsafe fn execute(&self, run: &Run<'_>, memory: &mut WorkerMemory) {
        let WorkerMemory { kernel, staging, .. } = memory;
        let mut carver = staging.carve();
        let staging = carver.take::<f32>(self.epilogue.staging);
        let shape = self.shape(run);
        let size = shape.bytes().unwrap_or(0);
        // SAFETY: the weight's bytes are mapped, and nobody writes them; `x` was bound with all its
        // rows within memory that this kernel does not write; tiles are those of the bound space.
        unsafe {
            let weights = std::slice::from_raw_parts(self.weight.pointer(run), size);
            let rows = run.live.filter(|_| self.is_live).map(Live::rows);
            let x = Rows { at: self.x.pointer(run).cast(), stride: self.x_stride };
            let matmul = Matmul { isa: self.isa, weights, shape, x, m: self.m, rows };
            matmul.run(run.worker, kernel, &mut |tile| finish(&self.epilogue, run, self.m, &tile, staging));
        }
    }
}

impl StackedKernel {
    unsafe fn execute(&self, run: &Run<'_>, memory: &mut WorkerMemory) {
        let WorkerMemory { kernel, staging, .. } = memory;
        let MatmulKernel { isa, m, ref epilogue, .. } = self.product;
        let at = |row: usize| Index::of(row, &self.outer);
        let axes = self.outer.len();
        // SAFETY: binding has checked the addresses of the indices.
        let choice = |row: usize| unsafe { self.chosen.index(run, &at(row).0[..axes]) };
        if let Some(bad) = (0..m).find_map(|row| choice(row).err()) {
            return run.fail(epilogue.operands(), bad);
        }
        let mut carver = staging.carve();
        let staging = carver.take::<f32>(epilogue.staging);
        let shape = self.product.shape(run);
        let size = shape.bytes().unwrap_or(0) * self.count;
        let first: *const f32 = self.product.x.pointer(run).cast();
        let x = |row: usize| {
            let offset: usize = self.x_strides.iter().zip(&at(row).0).map(|(stride, i)| stride * i).sum();
            first.wrapping_add(offset)
        };
        let chosen = |row: usize| choice(row).unwrap_or(0);
        // SAFETY: the weights' bytes are mapped, and nobody writes them; `x` was bound with all its
        // rows within memory that this kernel does not write; tiles are those of the bound space.
        unsafe {
            let weights = std::slice::from_raw_parts(self.product.weight.pointer(run), size);
            let stacked = Stacked { isa, weights, count: self.count, shape, x: &x, chosen: &chosen, m };
            stacked.run(run.worker, kernel, &mut |tile| finish(epilogue, run, m, &tile, staging));
        }
    }
}

impl ProductKernel {
    unsafe fn execute(&self, run: &Run<'_>, memory: &mut WorkerMemory) {
        let WorkerMemory { kernel, staging, .. } = memory;
        let mut carver = staging.carve();
        let staging = carver.take::<f32>(self.epilogue.staging);
        let at = |factor: &Factor, batch: usize| -> *const f32 {
            let start: *const f32 = factor.address.pointer(run).cast();
            start.wrapping_add(self.batch_offset(factor, batch))
        };
        let (lhs, rhs) = (|batch: usize| at(&self.lhs, batch), |batch: usize| at(&self.rhs, batch));
        let batched = Batched {
            isa: self.isa,
            batch: self.batch.iter().product(),
            m: self.m,
            n: self.n,
            k: self.k,
            lhs: Operand { at: &lhs, stride: self.lhs.stride, step: self.lhs.step },
            rhs: Operand { at: &rhs, stride: self.rhs.stride, step: self.rhs.step },
        };
        // SAFETY: both operands were bound within memory that this kernel does not write; tiles are
        // those of the bound space.
        unsafe { batched.run(run.worker, kernel, &mut |tile| finish(&self.epilogue, run, self.m, &tile, staging)) }
    }

    fn batch_offset(&self, factor: &Factor, mut batch: usize) -> usize {
        let mut offset = 0;
        for (extent, stride) in self.batch.iter().zip(&factor.batch).rev() {
            offset += batch % extent * stride;
            batch /= extent;
        }
        offset
    }
}

impl AttentionKernel {
    unsafe fn execute(&self, run: &Run<'_>, memory: &mut WorkerMemory) {
        let attention = Attention {
            isa: self.isa,
            extents: self.extents,
            q: read(run, &self.q),
            k: self.k.elements(run),
            v: self.v.elements(run),
            scales: self.scales.as_ref().map(|scales| scales.each_ref().map(|span| read(run, span))),
            out: write(run, &self.out),
            past: self.past.as_ref().map(|span| read(run, span)),
            mask: self.mask.as_ref().map(|span| read(run, span)),
            bias: self.bias.as_ref().map(|span| read(run, span)),
            sinks: self.sinks.as_ref().map(|span| read(run, span)),
            scale: self.scale,
            soft_cap: self.soft_cap,
            causal: self.causal,
            window: self.window,
            live: run.live.filter(|_| self.is_live),
        };
        let (address, floats) = self.shared;
        let shared = std::ptr::slice_from_raw_parts_mut(address.pointer(run).cast::<f32>(), floats);
        // SAFETY: binding has checked every operand over these extents, the result's addresses are
        // apart, and the shared memory is a buffer of this kernel alone.
        unsafe { attention.run(run.worker, &mut memory.kernel, shared) }
    }
}
