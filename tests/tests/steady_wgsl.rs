//! Decoding on a GPU takes no more memory once it has begun.
//!
//! A binary of its own, since it looks at the memory of the whole process.

use std::path::Path;

use castiron_backends::weights::WeightFormat;
use castiron_runtime::gpu::Mask;
use castiron_runtime::tensor::TensorRef;
use castiron_tests::compiled;

/// Room of the cache.
const CAPACITY: usize = 64;

/// Bytes of the process that lie in memory.
#[cfg(target_os = "linux")]
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    1024 * line.trim().trim_end_matches(" kB").parse::<usize>().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn a_thousand_tokens_leave_memory_as_it_is() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/llama-gqa");
    let pipeline = compiled::open(&path, WeightFormat::Keep, compiled::gpu(Mask::default())).unwrap();
    let model = pipeline.model();
    let mut session = model.session(&[("b", 1), ("c", CAPACITY)]).unwrap();
    let mut decode = |count: usize| {
        for step in 0..count {
            let (ids, past, last) = ([step as i32 % 67], [(step % CAPACITY) as i32], [0]);
            let inputs = [
                ("input_ids", TensorRef::i32(&[1, 1], &ids).unwrap()),
                ("past", TensorRef::i32(&[1], &past).unwrap()),
                ("last", TensorRef::i32(&[1], &last).unwrap()),
            ];
            session.run_for("step", &inputs, &["best"]).unwrap();
        }
    };
    decode(100);
    let before = (resident(), model.device_memory());
    assert!(before.1.is_some(), "the driver's allocator counts");
    decode(1000);
    let after = (resident(), model.device_memory());
    assert_eq!(before.1, after.1);
    // A leak of a thousand bytes in each step would exceed what allocators round.
    assert!(after.0 < before.0 + 1_000_000, "{before:?} {after:?}");
}
