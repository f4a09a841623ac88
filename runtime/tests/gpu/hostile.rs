//! Launches that break rules: they give errors, or run, but never panic.

use castiron_runtime::artifact::{Artifact, ArtifactError};
use castiron_runtime::program::gpu::{Binding, GpuProgram, Resource};
use castiron_runtime::program::view::Place;
use castiron_runtime::program::{Fault, GpuProgramError};
use castiron_runtime::session::Model;
use castiron_runtime::tensor::TensorRef;

use crate::fixtures::looped;
use crate::shaders::*;
use crate::support::*;

/// What is said of launches that have been changed.
#[track_caller]
fn refused(change: impl FnOnce(&mut GpuProgram)) -> GpuProgramError {
    let mut fixture = looped();
    change(fixture.launches.as_mut().unwrap());
    let artifact = Artifact::from_bytes(&fixture.bytes()).unwrap();
    match artifact.gpu_program() {
        Err(ArtifactError::Gpu(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// What is said of bindings of the first dispatch in the loop, which were a state and a buffer.
#[track_caller]
fn unbound(binding: Binding) -> Fault {
    let changed = refused(|launches| {
        launches.entries[0].stages[1].launches[0].choices[0].dispatches[0].bindings[0] = binding;
    });
    match changed {
        GpuProgramError::Launch { first: 1, last: 1, fault, .. } => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_bound_exists_and_is_written_only_where_it_may_be() {
    assert!(matches!(unbound(writes(Place::Buffer(2))), Fault::Missing { what: "buffer", .. }));
    assert!(matches!(unbound(writes(Place::State(1))), Fault::Missing { what: "state", .. }));
    assert!(matches!(unbound(reads(Place::Weight(1))), Fault::Missing { what: "weight", .. }));
    assert!(matches!(unbound(reads(Place::Input(1))), Fault::Missing { what: "input", .. }));
    assert!(matches!(unbound(writes(Place::Output(1))), Fault::Missing { what: "output", .. }));
    let scratch = Binding { resource: Resource::Scratch(0), read_write: true };
    assert!(matches!(unbound(scratch), Fault::Missing { what: "temporary buffer", .. }));
    for written in [Place::Weight(0), Place::Input(0)] {
        assert!(matches!(unbound(writes(written)), Fault::Place { .. }));
    }
    for constant in [Place::State(0), Place::Buffer(0), Place::Output(0)] {
        assert!(matches!(unbound(reads(constant)), Fault::Place { .. }));
    }
    assert!(matches!(unbound(reads(Place::Index(0))), Fault::Place { .. }));
    assert!(matches!(unbound(writes(Place::Buffer(1))), Fault::Duplicate(_)));
    for (offset, bytes) in [(0, 24), (20, 4), (2, 4), (0, 6), (0, 0), (u64::MAX - 3, 8)] {
        let part = Binding { resource: Resource::Part { weight: 0, offset, bytes }, read_write: false };
        assert_eq!(unbound(part), Fault::Size("a part of a weight"));
    }
}

#[test]
fn launches_execute_the_kernels_of_the_program() {
    let differs = |error| matches!(error, GpuProgramError::Kernels { .. });
    assert!(differs(refused(|launches| drop(launches.entries[0].stages.pop()))));
    assert!(differs(refused(|launches| launches.entries[0].stages[1].count = 2)));
    assert!(differs(refused(|launches| launches.entries[0].stages[1].launches.swap(0, 1))));
    assert!(differs(refused(|launches| launches.entries[0].stages[0].launches[0].last = 1)));
    for last in [4, u32::MAX] {
        let beyond = refused(|launches| launches.entries[0].stages[2].launches[0].last = last);
        assert!(matches!(beyond, GpuProgramError::Launch { fault: Fault::Missing { what: "kernel", .. }, .. }));
    }
    let none = refused(|launches| launches.entries[0].stages[0].launches[0].choices.clear());
    assert!(matches!(none, GpuProgramError::Entry { fault: Fault::Size(_), .. }));
    assert!(matches!(refused(|launches| launches.entries.clear()), GpuProgramError::Entries { .. }));
    let shader = refused(|launches| launches.entries[0].stages[0].launches[0].choices[0].dispatches[0].shader = 4);
    assert!(matches!(shader, GpuProgramError::Launch { fault: Fault::Missing { what: "shader", .. }, .. }));
}

#[test]
fn sizes_are_made_of_known_symbols() {
    let symbols = refused(|launches| launches.entries[0].symbols.push("z".into()));
    assert!(matches!(symbols, GpuProgramError::Entry { fault: Fault::Unbound(_), .. }));
    let unknown = refused(|launches| {
        launches.entries[0].stages[0].launches[0].choices[0].dispatches[0].grids[0][0].0 = dim("z", 1);
    });
    assert!(matches!(unknown, GpuProgramError::Launch { fault: Fault::Unbound(_), .. }));
    let tile = refused(|launches| {
        launches.entries[0].stages[0].launches[0].choices[0].dispatches[0].grids[0][0].1 = 0;
    });
    assert!(matches!(tile, GpuProgramError::Launch { fault: Fault::Size("a tile"), .. }));
}

#[test]
fn mutated_launches_never_panic() {
    let fixture = looped();
    let intact = postcard::to_stdvec(fixture.launches.as_ref().unwrap()).unwrap();
    let program = postcard::to_stdvec(&fixture.program()).unwrap();
    // The tensor of the launches is the last but one.
    let file = fixture.bytes_with(&program);
    let start = file.windows(intact.len()).position(|window| window == intact).unwrap();
    let x = values(1, 10);
    let mut state = 12345_u64;
    let mut random = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    let (mut opened, mut ran) = (0, 0);
    for _ in 0..1500 {
        let mut bad = file.clone();
        for _ in 0..1 + random(2) {
            bad[start + random(intact.len())] ^= 1 << random(8);
        }
        let Ok(artifact) = Artifact::from_bytes(&bad) else { continue };
        if !matches!(artifact.gpu_program(), Ok(Some(_))) {
            continue;
        }
        opened += 1;
        // Opening a device for each takes its time.
        if opened % 10 != 0 {
            continue;
        }
        let Ok(model) = Model::new(artifact, options()) else { continue };
        let mut session = model.session(&[("b", 2)]).unwrap();
        ran += u32::from(session.run("main", &[("x", TensorRef::f32(&[2, 5], &x).unwrap())]).is_ok());
    }
    assert!(ran > 0, "some mutations are harmless");
}
