//! Speed of the CPU kernels, and their share of what the machine can do.
//!
//! ```text
//! cargo run --release -p castiron-runtime --example kernel_peak -- [pool] [matmul] [attention] [rows] [listing] [machine]
//! ```
//!
//! Without arguments, everything but the listing of generated code and `machine`, which prints the peaks
//! alone, as JSON. `THREADS` is 2 unless set. Times
//! are medians; peaks are the best of some runs, of sums that stay in registers and of reading memory.

mod attention;
mod matmul;
mod rows;
mod support;

use castiron_runtime::cpu::isa::Isa;
use castiron_runtime::cpu::peaks::Peaks;
use castiron_runtime::cpu::pool::Pool;
use support::median;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_asked = |name: &str| arguments.is_empty() || arguments.iter().any(|argument| argument == name);
    let threads = std::env::var("THREADS").ok().and_then(|n| n.parse().ok()).unwrap_or(2);
    let mut pool = Pool::new(threads).expect("the system gives threads");
    if arguments.iter().any(|argument| argument == "machine") {
        let Peaks { isa, gflops, bandwidth } = Peaks::measure(&mut pool, Isa::detect());
        let isa = isa.name();
        println!("{}", serde_json::json!({ "isa": isa, "threads": threads, "gflops": gflops, "gb_per_s": bandwidth }));
        return;
    }
    if is_asked("pool") {
        costs(&mut pool);
    }
    if is_asked("matmul") || is_asked("attention") {
        let machine = Peaks::measure(&mut pool, Isa::detect());
        let Peaks { isa, gflops, bandwidth } = machine;
        println!("{isa:?}, {threads} threads: {gflops:.0} GFLOP/s f32, {bandwidth:.1} GB/s");
        if is_asked("matmul") {
            matmul::report(&mut pool, &machine);
        }
        if is_asked("attention") {
            attention::report(&mut pool, &machine);
        }
    }
    let is_listing = arguments.iter().any(|argument| argument == "listing");
    if is_asked("rows") || is_listing {
        rows::report(is_listing);
    }
}

/// Cost of a region and of a barrier inside one.
fn costs(pool: &mut Pool) {
    const BARRIERS: usize = 1000;
    let region = median(1001, || pool.run(&|_| {}));
    let barriers = median(101, || pool.run(&|worker| (0..BARRIERS).for_each(|_| worker.barrier())));
    let barrier = (barriers - region).max(0.0) / BARRIERS as f64;
    println!("pool of {}: region {:.2} µs, barrier {:.2} µs", pool.threads(), region * 1e6, barrier * 1e6);
}
