//! Long convolutions, block by block of rows that lie side by side.
//!
//! Sequences are stored with their channels adjacent, so that a row alone would touch a cache line for each of its
//! elements. A thread takes the rows of a block at once, turns them into rows of its own memory, and back.
#![allow(unsafe_code)] // Rows are pointers into memory that binding has checked.

use super::kernels::WorkerMemory;
use super::operand::{Address, BadIndex};
use super::run::Run;
use crate::cpu::convolution::{Bin, Transform, Work, direct};
use crate::cpu::pool::share;
use crate::cpu::scratch::{Carver, Scratch};

/// Rows of a block, and where they are very long, so that a thread's memory stays within some hundred MB.
const BLOCK: usize = 16;
const LONG_BLOCK: usize = 8;
const LONG: usize = 1 << 17;
/// Elements of a row that are turned at once: a cache line.
const LINE: usize = 16;

/// An operand by rows of f32; all strides in bytes.
#[derive(Debug)]
pub(super) struct Rows {
    pub address: Address,
    /// From one row of a block to the next.
    pub lane: usize,
    /// From one index of the other outer axes to the next.
    pub others: Box<[usize]>,
    /// From one element to the next.
    pub step: usize,
    /// Elements.
    pub count: usize,
}

/// Where the results of a row begin.
#[derive(Debug)]
pub(super) struct Past {
    pub address: Address,
    /// From one index of the first outer axis to the next.
    pub stride: usize,
    /// The first outer axis among the others; `None` if rows of a block lie along it.
    pub axis: Option<usize>,
}

/// A convolution of each row.
#[derive(Debug)]
pub(super) struct FftConvKernel {
    /// Extent of the axis along which rows form blocks.
    pub lanes: usize,
    /// Extents of the other outer axes.
    pub others: Box<[usize]>,
    /// Rows of a block.
    pub block: usize,
    pub u: Rows,
    pub k: Rows,
    pub out: Rows,
    pub past: Option<Past>,
    /// Nothing where sums are cheaper.
    pub transform: Option<Transform>,
}

/// Elements from row to row of a thread's memory: an odd number of cache lines, so that rows do not contend for
/// one place of a cache.
fn pitch(count: usize) -> usize {
    let lines = count.div_ceil(LINE);
    LINE * (lines + usize::from(lines.is_multiple_of(2)))
}

impl Rows {
    fn is_dense(&self) -> bool {
        self.step == size_of::<f32>()
    }

    fn at(&self, run: &Run<'_>, lane: usize, others: &[usize]) -> *mut u8 {
        let distance: usize = self.others.iter().zip(others).map(|(stride, i)| stride * i).sum();
        self.address.pointer(run).wrapping_add(distance + lane * self.lane)
    }

    /// Copies the first elements of rows to `rows`.
    ///
    /// # Safety
    /// The rows lie in the bound iteration space.
    unsafe fn gather(&self, from: *const u8, lanes: usize, count: usize, rows: &mut [f32], pitch: usize) {
        for start in (0..count).step_by(LINE) {
            for lane in 0..lanes {
                let row = &mut rows[lane * pitch + start..][..LINE.min(count - start)];
                for (i, x) in row.iter_mut().enumerate() {
                    // SAFETY: the caller's contract.
                    *x = unsafe { from.add((start + i) * self.step + lane * self.lane).cast::<f32>().read() };
                }
            }
        }
    }

    /// Copies `rows` to where they belong.
    ///
    /// # Safety
    /// As [`Rows::gather`], and nobody else touches these rows.
    unsafe fn scatter(&self, to: *mut u8, lanes: usize, rows: &[f32], pitch: usize) {
        for start in (0..self.count).step_by(LINE) {
            for lane in 0..lanes {
                let row = &rows[lane * pitch + start..][..LINE.min(self.count - start)];
                for (i, &x) in row.iter().enumerate() {
                    // SAFETY: the caller's contract.
                    unsafe { to.add((start + i) * self.step + lane * self.lane).cast::<f32>().write(x) };
                }
            }
        }
    }
}

/// Rows of a block of an operand: where they lie, or in a thread's memory.
struct Block<'m> {
    rows: &'m mut [f32],
    pitch: usize,
    /// Where rows are read in place.
    place: Option<*const u8>,
    lane: usize,
}

impl<'m> Block<'m> {
    fn new(operand: &Rows, count: usize, block: usize, in_place: bool, carver: &mut Carver<'m>) -> Block<'m> {
        let pitch = pitch(count);
        let rows = carver.take(if in_place { 0 } else { block * pitch });
        Block { rows, pitch, place: None, lane: operand.lane }
    }

    /// The first elements of a row.
    ///
    /// # Safety
    /// The block was filled from rows that nobody writes meanwhile.
    unsafe fn row(&self, lane: usize, count: usize) -> &[f32] {
        match self.place {
            // SAFETY: rows that are read in place are dense.
            Some(place) => unsafe { std::slice::from_raw_parts(place.add(lane * self.lane).cast(), count) },
            None => &self.rows[lane * self.pitch..][..count],
        }
    }
}

impl FftConvKernel {
    /// Rows of a block of so many in all, for so many threads.
    pub fn block(rows: usize, lanes: usize, count: usize, workers: usize) -> usize {
        let most = if count > LONG { LONG_BLOCK } else { BLOCK };
        lanes.min(most).min(rows.div_ceil(workers)).max(1)
    }

    /// Whether rows are read where they lie.
    fn reads_in_place(&self, operand: &Rows) -> bool {
        self.transform.is_none() && operand.is_dense()
    }

    /// Taps that are used.
    fn taps(&self) -> usize {
        self.k.count.min(self.u.count)
    }

    /// Bytes of a thread's memory.
    pub fn scratch_bytes(&self) -> usize {
        let rows = |operand: &Rows| match self.reads_in_place(operand) {
            true => 0,
            false => Scratch::bytes_of::<f32>(self.block * pitch(operand.count.min(self.u.count))),
        };
        match &self.transform {
            Some(transform) => {
                let spectra = Scratch::bytes_of::<Bin>(self.block * transform.bins());
                rows(&self.u).max(rows(&self.k)) + spectra + transform.work_bytes()
            }
            None => rows(&self.u) + rows(&self.k) + Scratch::bytes_of::<f32>(self.block * pitch(self.out.count)),
        }
    }

    /// Does this worker's share of the blocks.
    ///
    /// # Safety
    /// The kernel was bound to the memory of the run, and all workers execute it together.
    pub unsafe fn execute(&self, run: &Run<'_>, memory: &mut WorkerMemory) {
        let mut carver = memory.kernel.carve();
        // SAFETY: the caller's contract.
        unsafe {
            match &self.transform {
                Some(transform) => self.by_transform(run, transform, &mut carver),
                None => self.directly(run, &mut carver),
            }
        }
    }

    /// Calls `visit` with the first row and the number of rows of each block of this worker, the index of the other
    /// axes, and whether the kernel's rows differ from those of the block before.
    fn blocks(&self, run: &Run<'_>, mut visit: impl FnMut(usize, usize, &[usize], bool)) {
        let others: usize = self.others.iter().product();
        let units = self.lanes.div_ceil(self.block) * others;
        let is_shared = self.k.others.iter().zip(&self.others).all(|(&stride, &extent)| stride == 0 || extent == 1);
        let mut last = usize::MAX;
        let mut index = [0; crate::program::MAX_RANK];
        let index = &mut index[..self.others.len()];
        for unit in share(units, 1, run.worker.index, run.worker.count) {
            let (first, mut other) = (unit / others * self.block, unit % others);
            for (at, extent) in index.iter_mut().zip(&self.others).rev() {
                (*at, other) = (other % extent, other / extent);
            }
            visit(first, self.block.min(self.lanes - first), index, !is_shared || first != last);
            last = first;
        }
    }

    /// Where the results of a row begin; nothing, and a report, if that is out of range.
    ///
    /// # Safety
    /// As [`FftConvKernel::execute`].
    unsafe fn begin(&self, run: &Run<'_>, lane: usize, others: &[usize]) -> Option<usize> {
        let Some(past) = &self.past else { return Some(0) };
        let at = past.axis.map_or(lane, |axis| others[axis]);
        // SAFETY: the caller's contract.
        let index = unsafe { past.address.pointer(run).add(at * past.stride).cast::<i32>().read() };
        let (index, extent) = (i64::from(index), self.u.count - self.out.count + 1);
        match usize::try_from(index) {
            Ok(begin) if begin < extent => Some(begin),
            _ => {
                run.fail(PAST, BadIndex { index, extent });
                None
            }
        }
    }

    /// # Safety
    /// As [`FftConvKernel::execute`].
    unsafe fn by_transform(&self, run: &Run<'_>, transform: &Transform, carver: &mut Carver<'_>) {
        let pitch = pitch(self.u.count);
        let rows = carver.take::<f32>(self.block * pitch);
        let spectra = carver.take::<Bin>(self.block * transform.bins());
        let mut work = transform.work(carver);
        self.blocks(run, |first, lanes, others, is_other_kernel| {
            // SAFETY: binding has checked every row; threads have different blocks.
            unsafe {
                if is_other_kernel {
                    self.spectra((transform, &mut work), self.k.at(run, first, others), lanes, rows, spectra);
                }
                self.u.gather(self.u.at(run, first, others), lanes, self.u.count, rows, pitch);
                for lane in 0..lanes {
                    let Some(begin) = self.begin(run, first + lane, others) else { return };
                    let row = &mut rows[lane * pitch..][..self.u.count];
                    // What a cache holds beyond may be of another text.
                    let read = if self.past.is_some() { begin + self.out.count } else { self.u.count };
                    let spectrum = &spectra[lane * transform.bins()..][..transform.bins()];
                    let results = transform.convolve(&row[..read], spectrum, &mut work);
                    row[..self.out.count].copy_from_slice(&results[begin..][..self.out.count]);
                }
                self.out.scatter(self.out.at(run, first, others), lanes, rows, pitch);
            }
        });
    }

    /// The spectra of a block's taps.
    ///
    /// # Safety
    /// As [`FftConvKernel::execute`].
    unsafe fn spectra(
        &self,
        (transform, work): (&Transform, &mut Work<'_>),
        from: *const u8,
        lanes: usize,
        rows: &mut [f32],
        spectra: &mut [Bin],
    ) {
        let pitch = pitch(self.taps());
        // SAFETY: the caller's contract.
        unsafe { self.k.gather(from, lanes, self.taps(), rows, pitch) };
        for (lane, spectrum) in spectra.chunks_exact_mut(transform.bins()).take(lanes).enumerate() {
            transform.spectrum(&rows[lane * pitch..][..self.taps()], work, spectrum);
        }
    }

    /// # Safety
    /// As [`FftConvKernel::execute`].
    unsafe fn directly(&self, run: &Run<'_>, carver: &mut Carver<'_>) {
        let mut u = Block::new(&self.u, self.u.count, self.block, self.reads_in_place(&self.u), carver);
        let mut k = Block::new(&self.k, self.taps(), self.block, self.reads_in_place(&self.k), carver);
        let pitch = pitch(self.out.count);
        let results = carver.take::<f32>(self.block * pitch);
        self.blocks(run, |first, lanes, others, is_other_kernel| {
            // SAFETY: binding has checked every row; threads have different blocks, and nobody writes operands.
            unsafe {
                if is_other_kernel {
                    self.fill(&mut k, &self.k, self.k.at(run, first, others), lanes, self.taps());
                }
                self.fill(&mut u, &self.u, self.u.at(run, first, others), lanes, self.u.count);
                for lane in 0..lanes {
                    let Some(begin) = self.begin(run, first + lane, others) else { return };
                    let (row, taps) = (u.row(lane, self.u.count), k.row(lane, self.taps()));
                    for (i, result) in results[lane * pitch..][..self.out.count].iter_mut().enumerate() {
                        *result = direct(row, taps, begin + i);
                    }
                }
                self.out.scatter(self.out.at(run, first, others), lanes, results, pitch);
            }
        });
    }

    /// # Safety
    /// As [`Rows::gather`].
    unsafe fn fill(&self, block: &mut Block<'_>, operand: &Rows, from: *const u8, lanes: usize, count: usize) {
        if self.reads_in_place(operand) {
            block.place = Some(from);
        } else {
            // SAFETY: the caller's contract.
            unsafe { operand.gather(from, lanes, count, block.rows, block.pitch) };
        }
    }
}

/// Number of the operand that says where results begin.
pub(super) const PAST: usize = 2;
