//! Attention over a prompt, and of one token over a cache.
#![allow(unsafe_code)] // Kernels take pointers.

use std::sync::Mutex;

use castiron_runtime::cpu::attention::{Attention, Elements, Strided};
use castiron_runtime::cpu::peaks::Peaks;
use castiron_runtime::cpu::pool::Pool;
use castiron_runtime::cpu::scratch::Scratch;
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
    let twice = CASES.into_iter().flat_map(|case| [(case, false), (case, true)]);
    for ((name, extents @ [g, r, s, t, d]), is_half) in twice {
        let seconds = time(pool, machine, extents, is_half);
        // Under a causal mask a query sees half of its own prompt.
        let pairs = g * r * s * (t - s) + g * r * s * (s + 1) / 2;
        let gflops = (4 * pairs * d) as f64 / seconds / 1e9;
        let bandwidth = (2 * g * t * d * if is_half { 2 } else { 4 }) as f64 / seconds / 1e9;
        let (peak, memory) = (100.0 * gflops / machine.gflops, 100.0 * bandwidth / machine.bandwidth);
        let (heads, ms, cache) = (format!("{g}×{r}"), seconds * 1e3, if is_half { "f16" } else { "f32" });
        println!(
            "{name:<10} {cache:>6} {heads:>6} {t:>6} {d:>6} {ms:>9.3} {gflops:>8.1} {peak:>6.0}% {bandwidth:>8.1} \
             {memory:>6.0}%"
        );
    }
}

/// Seconds for one layer.
fn time(pool: &mut Pool, machine: &Peaks, [g, r, s, t, d]: [usize; 5], is_half: bool) -> f64 {
    let layers = if s == 1 { LAYERS } else { 1 };
    let extents = [1, g, r, s, t, d, d];
    let cache = g * t * d;
    let (q, k, v) = (noise(g * r * s * d), noise(layers * cache), noise(layers * cache));
    let halves = [&k, &v].map(|x| if is_half { x.iter().map(|&x| f16::from_f32(x)).collect() } else { Vec::new() });
    let rows = |full: &[f32], half: &[f16], layer: usize| match is_half {
        true => Elements::F16(half[layer * cache..].as_ptr()),
        false => Elements::F32(full[layer * cache..].as_ptr()),
    };
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
                    k: Strided { at: rows(&k, &halves[0], layer), strides: [0, t * d, d, 1] },
                    v: Strided { at: rows(&v, &halves[1], layer), strides: [0, t * d, d, 1] },
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
