//! The largest elements of rows, in order.
//!
//! An element and its index are one key of 64 bits, and the largest elements are the smallest keys: above is
//! the element's place in the total order, turned upside down, below its index. A few are kept in order
//! while a row is walked, where most elements are told apart from them by one comparison of many at once;
//! for more the keys of the whole row are partitioned and sorted.
#![allow(unsafe_code)] // Rows are pointers into memory that binding has checked.

use castiron_ir::DType;

use super::convert::store;
use super::kernels::WorkerMemory;
use super::operand::Address;
use super::run::Run;
use crate::cpu::pool::share;
use crate::cpu::scratch::Scratch;

/// Most elements that are kept in order.
const MOST_KEPT: usize = 64;
/// Elements that are compared at once.
const BLOCK: usize = 32;

/// An operand by rows; all strides in bytes.
#[derive(Debug)]
pub(super) struct Row {
    pub address: Address,
    /// From one index of an outer axis to the next.
    pub strides: Box<[usize]>,
    /// From one element to the next.
    pub step: usize,
    pub dtype: DType,
}

/// What is written.
#[derive(Debug)]
pub(super) struct Results {
    pub values: Option<Row>,
    pub indices: Option<Row>,
}

/// The `k` largest of `n` contiguous f32, for each index of the outer axes.
#[derive(Debug)]
pub(super) struct TopKKernel {
    pub outer: Box<[usize]>,
    pub n: usize,
    pub k: usize,
    pub x: Row,
    pub results: Results,
}

/// Bytes of scratch memory of a thread.
pub(super) fn scratch_bytes(n: usize, k: usize) -> usize {
    Scratch::bytes_of::<u64>(keys(n, k))
}

/// How many keys are worked on.
fn keys(n: usize, k: usize) -> usize {
    if k <= MOST_KEPT { k } else { n }
}

/// The place of a number in the total order of IEEE 754.
fn order(x: f32) -> i32 {
    let bits = x.to_bits() as i32;
    bits ^ ((bits >> 31) as u32 >> 1) as i32
}

fn key(x: f32, index: usize) -> u64 {
    let above = !(order(x) as u32 ^ 0x8000_0000);
    u64::from(above) << 32 | index as u64
}

/// The `k` smallest keys of a row, in order, as the first of `keys`.
fn select<'k>(row: &[f32], k: usize, keys: &'k mut [u64]) -> &'k [u64] {
    if k <= MOST_KEPT {
        let kept = &mut keys[..k];
        keep(row, kept);
        return kept;
    }
    for (index, (key_of, &x)) in keys.iter_mut().zip(row).enumerate() {
        *key_of = key(x, index);
    }
    if k < keys.len() {
        keys.select_nth_unstable(k - 1);
    }
    keys[..k].sort_unstable();
    &keys[..k]
}

/// Keeps the smallest keys of a row in order.
fn keep(row: &[f32], kept: &mut [u64]) {
    let k = kept.len();
    for (index, &x) in row[..k].iter().enumerate() {
        insert(&mut kept[..=index], key(x, index));
    }
    let mut index = k;
    for block in row[k..].chunks(BLOCK) {
        // An element that equals the last one kept comes after it.
        let last = order_of(kept[k - 1]);
        if block.iter().fold(false, |any, &x| any | (order(x) > last)) {
            for (i, &x) in block.iter().enumerate() {
                let key = key(x, index + i);
                if key < kept[k - 1] {
                    insert(kept, key);
                }
            }
        }
        index += block.len();
    }
}

fn order_of(key: u64) -> i32 {
    (!((key >> 32) as u32) ^ 0x8000_0000) as i32
}

/// Inserts a key before the larger ones; the last one goes.
fn insert(kept: &mut [u64], key: u64) {
    let mut at = kept.len() - 1;
    while at > 0 && kept[at - 1] > key {
        kept[at] = kept[at - 1];
        at -= 1;
    }
    kept[at] = key;
}

impl TopKKernel {
    /// Does this worker's share of the rows.
    ///
    /// # Safety
    /// The kernel was bound to the memory of the run, and all workers execute it together.
    pub unsafe fn execute(&self, run: &Run<'_>, memory: &mut WorkerMemory) {
        let rows: usize = self.outer.iter().product();
        let mut carver = memory.kernel.carve();
        let keys = carver.take::<u64>(keys(self.n, self.k));
        for row in share(rows, 1, run.worker.index, run.worker.count) {
            // SAFETY: binding has checked every row; nobody writes the operand, and rows of results are
            // apart.
            unsafe {
                let x = std::slice::from_raw_parts(self.at(&self.x, run, row).cast::<f32>(), self.n);
                let best = select(x, self.k, keys);
                for (place, index) in best.iter().map(|&key| key as u32).enumerate() {
                    if let Some(values) = &self.results.values {
                        let to = self.at(values, run, row).add(place * values.step);
                        store(values.dtype, &[x[index as usize]], to, values.step);
                    }
                    if let Some(indices) = &self.results.indices {
                        let to = self.at(indices, run, row).add(place * indices.step);
                        to.cast::<i32>().write_unaligned(index as i32);
                    }
                }
            }
        }
    }

    /// The first byte of a row.
    fn at(&self, operand: &Row, run: &Run<'_>, mut row: usize) -> *mut u8 {
        let mut distance = 0;
        for (extent, stride) in self.outer.iter().zip(&operand.strides).rev() {
            distance += row % extent * stride;
            row /= extent;
        }
        operand.address.pointer(run).wrapping_add(distance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(row: &[f32]) -> Vec<u32> {
        let mut order: Vec<u32> = (0..row.len() as u32).collect();
        order.sort_by(|&a, &b| row[b as usize].total_cmp(&row[a as usize]).then(a.cmp(&b)));
        order
    }

    #[test]
    fn ties_signs_of_zero_and_nans_are_ordered() {
        let mut state = 1_u32;
        let special = [f32::NAN, -f32::NAN, 0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, 1e-40];
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            match state >> 28 {
                0..4 => special[(state >> 8) as usize % special.len()],
                4..8 => ((state >> 8) % 5) as f32 - 2.0,
                _ => state as i32 as f32,
            }
        };
        for n in [1, 2, 7, 31, 64, 65, 300, 1000] {
            let row: Vec<f32> = (0..n).map(|_| next()).collect();
            let expected = sorted(&row);
            for k in [1, 2, n / 2, 63, 64, 65, n].into_iter().filter(|&k| (1..=n).contains(&k)) {
                let mut room = vec![0; keys(n, k)];
                let found: Vec<u32> = select(&row, k, &mut room).iter().map(|&key| key as u32).collect();
                assert_eq!(found, expected[..k], "{k} of {n}");
            }
        }
    }
}
