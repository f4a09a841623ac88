//! What the machine can do, and how time is taken.
#![allow(unsafe_code)] // Vectors are loaded from slices.

use std::hint::black_box;
use std::time::Instant;

use castiron_runtime::cpu::isa::Isa;
use castiron_runtime::cpu::pool::Pool;
use castiron_runtime::cpu::simd::{Kernel, Simd};

/// Peaks of all threads of a pool together.
pub struct Machine {
    pub isa: Isa,
    /// Floating-point operations per second, in thousand millions.
    pub gflops: f64,
    /// Bytes read from memory per second, in thousand millions.
    pub bandwidth: f64,
}

impl Machine {
    /// Measures the peaks.
    pub fn measure(pool: &mut Pool, isa: Isa) -> Machine {
        let threads = pool.threads() as f64;
        let lanes = isa.run(Sums);
        let seconds = fastest(31, || {
            pool.run(&|_| {
                black_box(isa.run(Sums));
            })
        });
        let gflops = threads * (TURNS * CHAINS * lanes * 2) as f64 / seconds / 1e9;
        let memory = vec![1.0_f32; 64 << 20];
        let seconds = fastest(11, || {
            pool.run(&|worker| isa.run(Read { memory: &memory[worker.range(memory.len(), 1024)] }));
        });
        let bandwidth = (memory.len() * size_of::<f32>()) as f64 / seconds / 1e9;
        println!("{isa:?}, {threads} threads: {gflops:.0} GFLOP/s f32, {bandwidth:.1} GB/s");
        Machine { isa, gflops, bandwidth }
    }
}

const TURNS: usize = 1_000_000;
const CHAINS: usize = 12;

/// Independent chains of product-sums; gives the lanes of a vector.
struct Sums;

impl Kernel for Sums {
    type Output = usize;

    #[inline(always)]
    fn call<S: Simd>(self, s: S) -> usize {
        let mut sums = [s.splat(black_box(1.0)); CHAINS];
        let (x, y) = (s.splat(black_box(0.999)), s.splat(black_box(0.001)));
        for _ in 0..TURNS {
            for sum in &mut sums {
                *sum = s.mul_add(*sum, x, y);
            }
        }
        let mut total = 0.0;
        for sum in sums {
            total += s.sum(sum);
        }
        black_box(total);
        S::LANES
    }
}

/// Reads memory once.
struct Read<'a> {
    memory: &'a [f32],
}

impl Kernel for Read<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        let mut sums = [s.splat(0.0); 4];
        for part in self.memory.chunks_exact(4 * S::LANES) {
            for line in (0..size_of_val(part)).step_by(64) {
                s.prefetch(part.as_ptr().cast::<u8>().wrapping_add(2048 + line));
            }
            for i in 0..4 {
                // SAFETY: the part has four vectors.
                sums[i] = s.add(sums[i], unsafe { s.load(part[i * S::LANES..].as_ptr()) });
            }
        }
        for sum in sums {
            black_box(s.sum(sum));
        }
    }
}

/// Median time in seconds.
pub fn median(runs: usize, work: impl FnMut()) -> f64 {
    times(runs, work)[runs / 2]
}

/// Shortest time in seconds.
fn fastest(runs: usize, work: impl FnMut()) -> f64 {
    times(runs, work)[0]
}

/// Times in order, after one run that is not counted.
fn times(runs: usize, mut work: impl FnMut()) -> Vec<f64> {
    work();
    let once = |_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    let mut times: Vec<f64> = (0..runs).map(once).collect();
    times.sort_by(f64::total_cmp);
    times
}

/// Numbers in -1 ..= 1 that differ from each other.
pub fn noise(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i * 7919 % 2003) as f32 / 1001.0 - 1.0).collect()
}
