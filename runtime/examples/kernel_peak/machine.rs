//! What the machine can do, and how time is taken.
#![allow(unsafe_code)] // Vectors are loaded from slices; AVX-512 is called where it was found.

use std::hint::black_box;
use std::time::Instant;

use castiron_runtime::cpu::isa::Isa;
use castiron_runtime::cpu::pool::Pool;
use castiron_runtime::cpu::simd::{Kernel, LANES, Simd};

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
        let seconds = fastest(2001, || pool.run(&|_| isa.run(Sums)));
        let gflops = threads * (TURNS * CHAINS * LANES * 2) as f64 / seconds / 1e9;
        // Parts take turns, so that each has left the caches when it is read again, and one run is so
        // short that some are not interrupted on a busy machine.
        let memory = vec![1.0_f32; PARTS * PART];
        let mut parts = memory.chunks_exact(PART).cycle();
        let seconds = fastest(100 * PARTS, || {
            let part = parts.next().unwrap_or_default();
            pool.run(&|worker| isa.run(Read { memory: &part[worker.range(PART, 1024)] }));
        });
        let bandwidth = (PART * size_of::<f32>()) as f64 / seconds / 1e9;
        Machine { isa, gflops, bandwidth }
    }

    /// One line for people.
    pub fn print(&self, threads: usize) {
        let Machine { isa, gflops, bandwidth } = self;
        println!("{isa:?}, {threads} threads: {gflops:.0} GFLOP/s f32, {bandwidth:.1} GB/s");
    }

    /// One object for programs; the second peak is that of vectors of 16, where the machine has them.
    pub fn to_json(&self, pool: &mut Pool) -> serde_json::Value {
        serde_json::json!({
            "isa": format!("{:?}", self.isa),
            "threads": pool.threads(),
            "gflops": self.gflops,
            "gflops_avx512": wide::gflops(pool),
            "bandwidth_gb_s": self.bandwidth,
        })
    }
}

/// The peak of AVX-512, which castiron's kernels may not use but others do.
#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_reduce_add_ps, _mm512_set1_ps};
    use std::hint::black_box;

    use super::{CHAINS, Pool, TURNS, fastest};

    pub(super) fn gflops(pool: &mut Pool) -> Option<f64> {
        if !is_x86_feature_detected!("avx512f") {
            return None;
        }
        // SAFETY: the feature is there.
        let seconds = fastest(2001, || pool.run(&|_| unsafe { sums() }));
        Some(pool.threads() as f64 * (TURNS * CHAINS * 16 * 2) as f64 / seconds / 1e9)
    }

    /// As [`Sums`](super::Sums), with vectors of 16.
    #[target_feature(enable = "avx512f")]
    fn sums() {
        let mut sums = [_mm512_set1_ps(black_box(1.0)); CHAINS];
        let (x, y) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(0.001)));
        for _ in 0..TURNS {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, x, y);
            }
        }
        for sum in sums {
            black_box(_mm512_reduce_add_ps(sum));
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod wide {
    pub(super) fn gflops(_: &mut super::Pool) -> Option<f64> {
        None
    }
}

/// Numbers that are read in one run, and how many such parts the memory has.
const PART: usize = 8 << 20;
const PARTS: usize = 16;

const TURNS: usize = 200_000;
const CHAINS: usize = 12;

/// Independent chains of product-sums.
struct Sums;

impl Kernel for Sums {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
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
        for part in self.memory.chunks_exact(4 * LANES) {
            s.prefetch(part.as_ptr().cast::<u8>().wrapping_add(2048));
            s.prefetch(part.as_ptr().cast::<u8>().wrapping_add(2048 + 64));
            for i in 0..4 {
                // SAFETY: the part has four vectors.
                sums[i] = s.add(sums[i], unsafe { s.load(part[i * LANES..].as_ptr()) });
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
