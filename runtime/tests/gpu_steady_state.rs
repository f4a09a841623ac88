//! Runs on a GPU take no more memory once they have begun.
//!
//! A binary of its own, since it looks at the memory of the whole process.

#[path = "executor/support.rs"]
mod support;

#[path = "gpu/shaders.rs"]
#[allow(dead_code)] // The other tests of GPUs use the rest.
mod shaders;

#[path = "gpu/fixtures.rs"]
#[allow(dead_code)]
mod fixtures;

use castiron_runtime::tensor::TensorRef;
use support::values;

/// Bytes of the process that lie in memory.
#[cfg(target_os = "linux")]
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    1024 * line.trim().trim_end_matches(" kB").parse::<usize>().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn a_thousand_runs_leave_memory_as_it_is() {
    let model = shaders::model(&fixtures::looped());
    let mut session = model.session(&[("b", 3)]).unwrap();
    let x = values(1, 15);
    let mut run = |count: usize| {
        for _ in 0..count {
            let outputs = session.run("main", &[("x", TensorRef::f32(&[3, 5], &x).unwrap())]).unwrap();
            assert!(outputs.get("y").is_some());
        }
    };
    run(200);
    let before = (resident(), model.device_memory());
    run(1000);
    let after = (resident(), model.device_memory());
    assert_eq!(before.1, after.1);
    // Allocators round; a leak of a hundred bytes in each run would exceed this.
    assert!(after.0 < before.0 + 100_000, "{before:?} {after:?}");
}
