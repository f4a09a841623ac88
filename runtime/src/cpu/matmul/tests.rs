//! Products against sums in f64, for every encoding, instruction set and number of threads.

use std::sync::Mutex;

use super::batched::{Batched, Operand};
use super::*;
use crate::cpu::pool::Pool;
use crate::weights::{BLOCK, Encoding, Source};

/// Numbers in -1 ..= 1 that follow from a seed and an index.
fn noise(seed: usize, i: usize) -> f32 {
    let hash = (i as u64 ^ (seed as u64) << 32).wrapping_add(0x9e37_79b9).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((hash >> 40) as f32 / (1 << 23) as f32) - 1.0
}

fn noises(seed: usize, count: usize) -> Vec<f32> {
    (0..count).map(|i| noise(seed, i)).collect()
}

/// A packed matrix of noise.
fn packed(shape: PackedMatrix) -> Vec<u8> {
    let mut bytes = vec![0; shape.bytes().unwrap()];
    for (i, out) in bytes.chunks_exact_mut(shape.panel_bytes().unwrap().max(1)).enumerate() {
        let (panel, group) = (i / shape.groups, i % shape.groups);
        let fill = |column: usize, row: &mut [f32]| row.copy_from_slice(&noises(group * 1000 + column, shape.k));
        shape.pack_panel(panel, Source::Values(&fill), out).unwrap();
    }
    bytes
}

/// `x` as the kernel sees it: rounded to bytes in blocks, for quantised weights.
fn seen(x: &[f32], quantised: bool) -> Vec<f64> {
    if !quantised {
        return x.iter().map(|&x| x.into()).collect();
    }
    let block = |x: &[f32]| {
        let largest = x.iter().fold(0.0_f32, |a, x| a.max(x.abs()));
        let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        let scale = f64::from(largest / 127.0);
        x.iter().map(|x| scale * f64::from((x * inverse).round_ties_even())).collect::<Vec<_>>()
    };
    x.chunks(BLOCK).flat_map(block).collect()
}

/// The result `[group][row][column]`, filled by the epilogue; every element exactly once.
struct Collected {
    values: Vec<f32>,
    written: Vec<u8>,
}

impl Collected {
    fn new(count: usize) -> Mutex<Collected> {
        Mutex::new(Collected { values: vec![f32::NAN; count], written: vec![0; count] })
    }

    fn put(&mut self, at: usize, accumulators: *const f32, columns: usize) {
        // SAFETY: the tile has that many columns.
        let sums = unsafe { std::slice::from_raw_parts(accumulators, columns) };
        self.values[at..at + columns].copy_from_slice(sums);
        self.written[at..at + columns].iter_mut().for_each(|w| *w += 1);
    }
}

/// Runs a product on a pool and compares it with the sum in f64.
fn check(pool: &mut Pool, isa: Isa, shape: PackedMatrix, m: usize) {
    let PackedMatrix { encoding, groups, n, k } = shape;
    let (stride, bytes) = (k + 3, packed(shape));
    let x = noises(99, m * stride);
    let at = x.as_ptr() as usize;
    let out = Collected::new(groups * m * n);
    pool.run(&|worker| {
        let matmul = Matmul { isa, weights: &bytes, shape, x: Rows { at: at as *const f32, stride }, m, rows: None };
        let mut scratch = Scratch::default();
        scratch.reserve(Matmul::scratch_bytes(&shape, m));
        let mut epilogue = |tile: Tile| {
            for group in 0..groups {
                let place = (group * m + tile.row) * n + tile.column;
                out.lock().unwrap().put(place, tile.accumulators[group], tile.columns);
            }
        };
        // SAFETY: x holds m rows.
        unsafe { matmul.run(worker, &mut scratch, &mut epilogue) };
    });
    let out = out.into_inner().unwrap();
    assert!(out.written.iter().all(|&w| w == 1), "{isa:?} {shape:?} m={m}: each element is written once");
    let mut w = vec![0.0; k];
    for (group, column) in (0..groups).flat_map(|g| (0..n).map(move |c| (g, c))) {
        shape.unpack_row(&bytes, group, column, &mut w);
        for row in 0..m {
            let x = seen(&x[row * stride..][..k], encoding.is_quantised());
            let exact: f64 = x.iter().zip(&w).map(|(x, &w)| x * f64::from(w)).sum();
            let magnitude: f64 = x.iter().zip(&w).map(|(x, &w)| (x * f64::from(w)).abs()).sum();
            let found = f64::from(out.values[(group * m + row) * n + column]);
            let error = (found - exact).abs();
            assert!(
                error <= 2e-6 * magnitude + 1e-9,
                "{isa:?} {shape:?} m={m}: [{group}][{row}][{column}] = {found}, not {exact}"
            );
        }
    }
}

#[test]
fn products_agree_with_exact_sums() {
    for threads in [1, 2] {
        let mut pool = Pool::new(threads).unwrap();
        for isa in Isa::available() {
            for encoding in Encoding::ALL {
                for (groups, n, k) in [(1, 16, 32), (2, 17, 33), (1, 5, 1), (3, 40, 70), (1, 131, 64)] {
                    for m in [1, 2, 3, 4, 5, 6, 7, 11, 16, 40] {
                        check(&mut pool, isa, PackedMatrix { encoding, groups, n, k }, m);
                    }
                }
            }
        }
    }
}

#[test]
fn blocks_of_rows_columns_and_k_join() {
    let mut pool = Pool::new(2).unwrap();
    for isa in Isa::available() {
        for encoding in Encoding::ALL {
            check(&mut pool, isa, PackedMatrix { encoding, groups: 1, n: 300, k: 600 }, 1);
            check(&mut pool, isa, PackedMatrix { encoding, groups: 2, n: 150, k: 530 }, 200);
        }
    }
}

#[test]
fn empty_extents_give_zeros_or_nothing() {
    let mut pool = Pool::new(2).unwrap();
    for isa in Isa::available() {
        for encoding in Encoding::ALL {
            check(&mut pool, isa, PackedMatrix { encoding, groups: 1, n: 20, k: 0 }, 3);
            check(&mut pool, isa, PackedMatrix { encoding, groups: 1, n: 20, k: 8 }, 0);
            check(&mut pool, isa, PackedMatrix { encoding, groups: 1, n: 0, k: 8 }, 3);
        }
    }
}

#[test]
fn batched_products_take_any_strides() {
    let [batch, m, n, k] = [3, 103, 37, 300];
    // Element strides of [row or column, k] of each operand, and whether the batch is shared.
    let lhs_layouts = [([k, 1], false), ([1, m], false), ([2 * k, 2], false), ([k, 1], true)];
    let rhs_layouts = [([1, n], false), ([k, 1], false), ([3 * k, 3], true)];
    for (isa, threads) in Isa::available().flat_map(|isa| [(isa, 1), (isa, 2)]) {
        let mut pool = Pool::new(threads).unwrap();
        for ((l, l_shared), (r, r_shared)) in lhs_layouts.iter().flat_map(|&l| rhs_layouts.map(|r| (l, r))) {
            let (l_size, r_size) = (m * k * 2, n * k * 3);
            let (lhs, rhs) = (noises(1, batch * l_size), noises(2, batch * r_size));
            let l_start = |b: usize| if l_shared { 0 } else { b * l_size };
            let r_start = |b: usize| if r_shared { 0 } else { b * r_size };
            let out = Collected::new(batch * m * n);
            pool.run(&|worker| {
                let lhs = Operand { at: &|b| lhs[l_start(b)..].as_ptr(), stride: l[0], step: l[1] };
                let rhs = Operand { at: &|b| rhs[r_start(b)..].as_ptr(), stride: r[0], step: r[1] };
                let product = Batched { isa, batch, m, n, k, lhs, rhs };
                let mut scratch = Scratch::default();
                scratch.reserve(Batched::scratch_bytes(m, n, k));
                let mut epilogue = |tile: Tile| {
                    let place = (tile.batch * m + tile.row) * n + tile.column;
                    out.lock().unwrap().put(place, tile.accumulators[0], tile.columns);
                };
                // SAFETY: the operands hold every element that the strides reach.
                unsafe { product.run(worker, &mut scratch, &mut epilogue) };
            });
            let out = out.into_inner().unwrap();
            assert!(out.written.iter().all(|&w| w == 1));
            for (b, row, column) in (0..batch).flat_map(|b| (0..m).flat_map(move |r| [(b, r, r % n), (b, r, 36)])) {
                let term = |i: usize| {
                    let a = lhs[l_start(b) + row * l[0] + i * l[1]];
                    f64::from(a) * f64::from(rhs[r_start(b) + column * r[0] + i * r[1]])
                };
                let exact: f64 = (0..k).map(term).sum();
                let found = f64::from(out.values[(b * m + row) * n + column]);
                assert!((found - exact).abs() < 1e-4, "{isa:?} {l:?} {r:?}: [{b}][{row}][{column}] {found} {exact}");
            }
        }
    }
}

#[test]
fn shares_form_a_grid_without_gaps() {
    for count in [1, 2, 3, 4, 6, 8] {
        for extents in [[1, 1, 100], [1, 512, 1], [7, 3, 5], [1, 40, 3], [1, 0, 4]] {
            let mut seen = vec![0; extents.iter().product()];
            for index in 0..count {
                let [batches, rows, panels] = split([index, count], extents, 6);
                for (b, r) in batches.flat_map(|b| rows.clone().map(move |r| (b, r))) {
                    panels.clone().for_each(|p| seen[(b * extents[1] + r) * extents[2] + p] += 1);
                }
            }
            assert!(seen.iter().all(|&s| s == 1), "{count} {extents:?}");
        }
    }
}
