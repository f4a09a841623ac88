//! What the machine can do: the limits that kernels are compared with.
#![allow(unsafe_code)] // Vectors are loaded from slices.

use std::hint::black_box;
use std::time::Instant;

use super::isa::Isa;
use super::pool::Pool;
use super::simd::{Kernel, Simd};

/// Peaks of all threads of a pool together, the best of some runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peaks {
    /// The instruction set.
    pub isa: Isa,
    /// f32 operations per second in thousand millions, of product-sums that stay in registers.
    pub gflops: f64,
    /// Bytes per second in thousand millions, of reading more memory than the caches hold.
    pub bandwidth: f64,
}

const TURNS: usize = 200_000;
const CHAINS: usize = 12;
/// Elements that are read at once, and how many such parts the memory has.
const PART: usize = 8 << 20;
const PARTS: usize = 16;

impl Peaks {
    /// Measures them, which takes most of a second.
    pub fn measure(pool: &mut Pool, isa: Isa) -> Peaks {
        let lanes = isa.run(Sums);
        let seconds = fastest(201, || {
            pool.run(&|_| {
                black_box(isa.run(Sums));
            });
        });
        let gflops = (pool.threads() * TURNS * CHAINS * lanes * 2) as f64 / seconds / 1e9;
        // Parts take turns, so that each has left the caches when it is read again, and one run is so short that
        // some are not interrupted on a busy machine.
        let memory = vec![1.0_f32; PARTS * PART];
        let mut parts = memory.chunks_exact(PART).cycle();
        let seconds = fastest(10 * PARTS, || {
            let part = parts.next().unwrap_or_default();
            pool.run(&|worker| isa.run(Read { memory: &part[worker.range(part.len(), 1024)] }));
        });
        Peaks { isa, gflops, bandwidth: (PART * size_of::<f32>()) as f64 / seconds / 1e9 }
    }
}

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

/// Shortest time in seconds, after one run that is not counted.
fn fastest(runs: usize, mut work: impl FnMut()) -> f64 {
    work();
    let once = |_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    (0..runs).map(once).fold(f64::INFINITY, f64::min)
}
