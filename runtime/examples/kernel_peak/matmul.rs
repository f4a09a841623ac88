//! Products with packed weights, from one row to many.
#![allow(unsafe_code)] // Kernels take pointers.

use std::hint::black_box;
use std::sync::Mutex;

use castiron_runtime::cpu::matmul::{Matmul, Rows, Tile};
use castiron_runtime::cpu::peaks::Peaks;
use castiron_runtime::cpu::pool::Pool;
use castiron_runtime::cpu::scratch::Scratch;
use castiron_runtime::weights::{Encoding, PackedMatrix, Source};

use crate::support::{median, noise};

/// Columns and contracted extent.
const N: usize = 4096;
const K: usize = 2048;
/// Bytes of weights that take turns, so that they do not stay in the caches.
const COLD: usize = 256 << 20;

pub fn report(pool: &mut Pool, machine: &Peaks) {
    println!("{:<8} {:>5} {:>9} {:>8} {:>7} {:>8} {:>7}", "matmul", "rows", "ms", "GFLOP/s", "peak", "GB/s", "memory");
    for encoding in Encoding::ALL {
        let shape = PackedMatrix { encoding, groups: 1, n: N, k: K };
        let weights = pack(&shape);
        let copies = vec![weights.as_slice(); COLD.div_ceil(weights.len())].concat();
        for m in [1, 16, 128, 512] {
            let seconds = time(pool, machine, &shape, &copies, m);
            let gflops = (2 * m * N * K) as f64 / seconds / 1e9;
            let bandwidth = weights.len() as f64 / seconds / 1e9;
            let (peak, memory) = (100.0 * gflops / machine.gflops, 100.0 * bandwidth / machine.bandwidth);
            let name = format!("{encoding:?}");
            let ms = seconds * 1e3;
            println!("{name:<8} {m:>5} {ms:>9.3} {gflops:>8.1} {peak:>6.0}% {bandwidth:>8.1} {memory:>6.0}%");
        }
    }
}

fn pack(shape: &PackedMatrix) -> Vec<u8> {
    let values = noise(K + N);
    let source = Source::Values(&|column, row: &mut [f32]| row.copy_from_slice(&values[column..][..K]));
    let size = shape.panel_bytes().expect("the matrix fits memory");
    let mut bytes = vec![0; shape.bytes().expect("the matrix fits memory")];
    for (panel, out) in bytes.chunks_exact_mut(size).enumerate() {
        shape.pack_panel(panel, source, out).expect("the panel has its size");
    }
    bytes
}

/// Seconds of one product; the copies of the weight take turns.
fn time(pool: &mut Pool, machine: &Peaks, shape: &PackedMatrix, copies: &[u8], m: usize) -> f64 {
    let x = noise(m * K);
    let scratches: Vec<Mutex<Scratch>> = (0..pool.threads()).map(|_| Mutex::default()).collect();
    let (x, isa, size) = (x.as_slice(), machine.isa, shape.bytes().unwrap_or(0));
    let count = if m <= 16 { copies.len() / size } else { 1 };
    let seconds = median(9, || {
        pool.run(&|worker| {
            let mut scratch = scratches[worker.index].lock().expect("no thread panics");
            scratch.reserve(Matmul::scratch_bytes(shape, m));
            for weights in copies.chunks_exact(size).take(count) {
                let product =
                    Matmul { isa, weights, shape: *shape, x: Rows { at: x.as_ptr(), stride: K }, m, rows: None };
                // SAFETY: x has m rows.
                unsafe { product.run(worker, &mut scratch, &mut |tile: Tile| _ = black_box(tile)) };
                worker.barrier();
            }
        });
    });
    seconds / count as f64
}
