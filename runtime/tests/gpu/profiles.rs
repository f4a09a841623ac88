//! What is measured of runs.

use castiron_runtime::artifact::Artifact;
use castiron_runtime::gpu::{GpuError, GpuOptions, Mask};
use castiron_runtime::profile::{KernelProfile, RunProfile};
use castiron_runtime::program::gpu::GpuProgram;
use castiron_runtime::session::{Model, Options, RunError};
use castiron_runtime::tensor::TensorRef;

use crate::fixtures::{looped, scale};
use crate::shaders::*;
use crate::support::*;

fn open(fixture: &Fixture, mask: Mask) -> Result<Model, RunError> {
    let options = Options { profile: true, ..on(GpuOptions { mask, ..GpuOptions::default() }) };
    Model::new(Artifact::from_bytes(&fixture.bytes()).unwrap(), options)
}

fn whole() -> Mask {
    Mask::default()
}

fn apart() -> Mask {
    Mask { no_timestamps_inside_passes: true, ..Mask::default() }
}

#[test]
fn each_dispatch_is_measured() {
    let x = values(1, 10);
    let inputs = [("x", TensorRef::f32(&[2, 5], &x).unwrap())];
    let mut plain = model(&looped()).session(&[("b", 2)]).unwrap();
    let expected = plain.run("main", &inputs).unwrap().get("y").unwrap().as_f32().unwrap().to_vec();
    for mask in [whole(), apart()] {
        let mut session = open(&looped(), mask).unwrap().session(&[("b", 2)]).unwrap();
        assert!(session.profile().is_none());
        let outputs = session.run("main", &inputs).unwrap();
        assert_eq!(outputs.get("y").unwrap().as_f32().unwrap(), expected);
        let profile = session.profile().unwrap().clone();
        let shaders: Vec<&str> = profile.kernels.iter().map(|d| d.code.as_str()).collect();
        assert_eq!(shaders, ["begin", "sum", "fma", "end"]);
        let of = |f: fn(&KernelProfile) -> u64| profile.kernels.iter().map(f).collect::<Vec<_>>();
        assert_eq!(of(|d| u64::from(d.count)), [1, 3, 3, 1]);
        assert_eq!(of(|d| d.stage as u64), [0, 1, 1, 2]);
        assert_eq!(of(|d| d.bytes), [80, 3 * 80, 3 * (40 + 20 + 40), 80]);
        assert_eq!(of(|d| u64::from(d.kernels[0])), [0, 1, 2, 3]);
        assert_eq!(profile.kernels[2].label, "k2");
        assert_eq!((profile.count(), profile.submissions, profile.per_iteration()), (8, 1, 2));
        assert!(profile.nanoseconds() > 0, "{profile:?}");
    }
    assert!(plain.profile().is_none());
}

/// What takes long is seen to take long.
#[test]
fn times_are_those_of_the_device() {
    let rows = 1 << 18;
    let x = values(1, 4 * rows);
    let shape = [rows, 4];
    for mask in [whole(), apart()] {
        let mut session = open(&scale(), mask).unwrap().session(&[]).unwrap();
        // A busy machine interrupts some runs, but not each of them.
        let mut shortest = |shape: &[usize], x: &[f32]| {
            let run = |_| {
                let start = std::time::Instant::now();
                session.run("main", &[("x", TensorRef::f32(shape, x).unwrap())]).unwrap();
                let (device, whole) = (session.profile().unwrap().nanoseconds(), start.elapsed().as_nanos());
                assert!(u128::from(device) < whole, "{device} {whole}");
                device
            };
            (0..7).map(run).min().unwrap()
        };
        let (small, large) = (shortest(&[1, 4], &x[..4]), shortest(&shape, &x));
        assert!(small < large, "{small} {large}");
    }
}

/// More dispatches than a set of queries measures.
#[test]
fn many_dispatches_are_measured() {
    let mut fixture = looped();
    let launches: &mut GpuProgram = fixture.launches.as_mut().unwrap();
    let choice = &mut launches.entries[0].stages[1].launches[0].choices[0];
    choice.dispatches = vec![choice.dispatches[0].clone(); 700];
    let x = values(1, 10);
    let inputs = [("x", TensorRef::f32(&[2, 5], &x).unwrap())];
    for mask in [whole(), apart()] {
        let mut session = open(&fixture, mask).unwrap().session(&[("b", 2)]).unwrap();
        session.run("main", &inputs).unwrap();
        let profile: &RunProfile = session.profile().unwrap();
        assert_eq!((profile.count(), profile.per_iteration()), (2 + 3 * 701, 701));
        assert!(profile.kernels.iter().all(|d| d.nanoseconds > 0), "{profile:?}");
    }
}

#[test]
fn adapters_that_cannot_measure_say_so() {
    let error = open(&scale(), Mask { no_timestamps: true, ..Mask::default() }).err().unwrap();
    assert!(matches!(error, RunError::Gpu(GpuError::NoTimestamps { .. })), "{error:?}");
    assert!(error.to_string().ends_with("has no timestamp queries, so that runs cannot be profiled"), "{error}");
}
