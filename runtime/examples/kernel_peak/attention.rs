//! Attention over a prompt, and of one token over a cache.
#![allow(unsafe_code)] // Kernels take pointers.

use std::sync::Mutex;

use castiron_runtime::cpu::attention::{Attention, Elements};
use castiron_runtime::cpu::peaks::Peaks;
use castiron_runtime::cpu::pool::Pool;
use castiron_runtime::cpu::scratch::Scratch;
use castiron_runtime::cpu::strided::Strided;
use half::f16;

use crate::support::{median, noise};

/// Layers whose caches take turns, so that they do not stay in the processor's.
const LAYERS: usize = 30;

/// Key heads, heads of one, queries, keys, width.
const CASES: [(&str, [usize; 5]); 8] = [
    ("prefill", [3, 3, 512, 512, 64]),
    ("prefill", [12, 1, 512, 512, 64]),
    ("prefill", [8, 4, 512, 512, 128]),
    ("decode", [3, 3, 1, 512, 64]),
    ("decode", [3, 3, 1, 1024, 64]),
    ("decode", [3, 3, 1, 4096, 64]),
    ("decode", [12, 1, 1, 1024, 64]),
    ("decode", [8, 4, 1, 1024, 128]),
];

pub fn report(pool: &mut Pool, machine: &Peaks) {
    let columns = ["attention", "cache", "heads", "keys", "width", "ms", "GFLOP/s", "peak", "GB/s", "memory"];
    let [a, k, b, c, d, e, f, g, h, i] = columns;
    println!("{a:<10} {k:>6} {b:>6} {c:>6} {d:>6} {e:>9} {f:>8} {g:>7} {h:>8} {i:>7}");
    let thrice = CASES.into_iter().flat_map(|case| Cache::ALL.map(|cache| (case, cache)));
    for ((name, extents @ [g, r, s, t, d]), cache) in thrice {
        let seconds = time(pool, machine, extents, cache);
        // Under a causal mask a query sees half of its own prompt.
        let pairs = g * r * s * (t - s) + g * r * s * (s + 1) / 2;
        let gflops = (4 * pairs * d) as f64 / seconds / 1e9;
        let bandwidth = (2 * g * t * cache.row_bytes(d)) as f64 / seconds / 1e9;
        let (peak, memory) = (100.0 * gflops / machine.gflops, 100.0 * bandwidth / machine.bandwidth);
        let (heads, ms, cache) = (format!("{g}×{r}"), seconds * 1e3, cache.name());
        println!(
            "{name:<10} {cache:>6} {heads:>6} {t:>6} {d:>6} {ms:>9.3} {gflops:>8.1} {peak:>6.0}% {bandwidth:>8.1} \
             {memory:>6.0}%"
        );
    }
}

/// What a cache holds.
#[derive(Clone, Copy, PartialEq)]
enum Cache {
    F32,
    F16,
    Q8,
}

impl Cache {
    const ALL: [Cache; 3] = [Cache::F32, Cache::F16, Cache::Q8];

    fn name(self) -> &'static str {
        match self {
            Cache::F32 => "f32",
            Cache::F16 => "f16",
            Cache::Q8 => "q8",
        }
    }

    /// Bytes of a row, its scale included.
    fn row_bytes(self, d: usize) -> usize {
        match self {
            Cache::F32 => 4 * d,
            Cache::F16 => 2 * d,
            Cache::Q8 => d + 4,
        }
    }
}

/// Keys or values of all layers.
enum Rows {
    F32(Vec<f32>),
    F16(Vec<f16>),
    I8(Vec<i8>),
}

impl Rows {
    fn of(x: &[f32], cache: Cache) -> Rows {
        match cache {
            Cache::F32 => Rows::F32(x.to_vec()),
            Cache::F16 => Rows::F16(x.iter().map(|&x| f16::from_f32(x)).collect()),
            Cache::Q8 => Rows::I8(x.iter().map(|&x| (127.0 * x) as i8).collect()),
        }
    }

    fn at(&self, element: usize) -> Elements {
        match self {
            Rows::F32(rows) => Elements::F32(rows[element..].as_ptr()),
            Rows::F16(rows) => Elements::F16(rows[element..].as_ptr()),
            Rows::I8(rows) => Elements::I8(rows[element..].as_ptr()),
        }
    }
}

/// Seconds for one layer.
fn time(pool: &mut Pool, machine: &Peaks, [g, r, s, t, d]: [usize; 5], format: Cache) -> f64 {
    let layers = if s == 1 { LAYERS } else { 1 };
    let extents = [1, g, r, s, t, d, d];
    let cache = g * t * d;
    let (q, k, v) = (noise(g * r * s * d), noise(layers * cache), noise(layers * cache));
    let stored = [&k, &v].map(|x| Rows::of(x, format));
    let scales = vec![1.0 / 127.0_f32; if format == Cache::Q8 { layers * g * t } else { 0 }];
    let scale = |layer: usize| Strided { at: scales[layer * g * t..].as_ptr(), strides: [0, t, 1] };
    let out = Mutex::new(vec![0.0_f32; g * r * s * d]);
    let mut shared = vec![0.0_f32; Attention::shared_floats(&extents, pool.threads())];
    let past = [(t - s) as i32];
    let scratches: Vec<Mutex<Scratch>> = (0..pool.threads()).map(|_| Mutex::default()).collect();
    let out_at = out.lock().expect("no thread panics").as_mut_ptr() as usize;
    let (shared_at, shared_len) = (shared.as_mut_ptr() as usize, shared.len());
    let seconds = median(if s == 1 { 21 } else { 11 }, || {
        pool.run(&|worker| {
            let mut scratch = scratches[worker.index].lock().expect("no thread panics");
            scratch.reserve(Attention::scratch_bytes(&extents));
            for layer in 0..layers {
                let attention = Attention {
                    isa: machine.isa,
                    extents,
                    // As projections leave them: tokens, then heads.
                    q: Strided { at: q.as_ptr(), strides: [0, r * d, d, g * r * d, 1] },
                    k: Strided { at: stored[0].at(layer * cache), strides: [0, t * d, d, 1] },
                    v: Strided { at: stored[1].at(layer * cache), strides: [0, t * d, d, 1] },
                    scales: (format == Cache::Q8).then(|| [scale(layer); 2]),
                    out: Strided { at: out_at as *mut f32, strides: [0, r * d, d, g * r * d, 1] },
                    past: Some(Strided { at: past.as_ptr(), strides: [1] }),
                    mask: None,
                    bias: None,
                    sinks: None,
                    scale: 0.125,
                    soft_cap: None,
                    causal: true,
                    window: None,
                    live: None,
                };
                let shared = std::ptr::slice_from_raw_parts_mut(shared_at as *mut f32, shared_len);
                // SAFETY: the operands hold every element that the strides reach.
                unsafe { attention.run(worker, &mut scratch, shared) };
                worker.barrier();
            }
        });
    });
    seconds / layers as f64
}
