//! Artifacts whose program bytes were changed: they give errors, or run, but never panic.

use castiron_ir::DType;
use castiron_runtime::artifact::Artifact;
use castiron_runtime::session::{Model, Options};
use castiron_runtime::tensor::{Tensor, TensorRef};

use crate::support::*;

/// Runs of more elementary operations than this are not waited for.
const MOST_OPERATIONS: f64 = 1e8;

/// Binds and runs whatever the entries ask for, with small extents.
fn exercise(bytes: &[u8]) -> bool {
    let Ok(artifact) = Artifact::from_bytes(bytes) else { return false };
    let model = Model::new(artifact, Options { threads: 2, ..Options::default() }).unwrap();
    let symbols = [("b", 2), ("c", 6), ("s", 3)];
    let value = |name: &str| symbols.iter().find(|(n, _)| *n == name).map(|&(_, v)| v);
    let sessions = [0..2, 0..1, 0..0].map(|of_states| model.session(&symbols[of_states]));
    let Some(mut session) = sessions.into_iter().find_map(Result::ok) else { return false };
    let mut has_run = false;
    for entry in &model.program().entries {
        if model.operations(&entry.name, &symbols).is_ok_and(|operations| operations > MOST_OPERATIONS) {
            continue;
        }
        let tensor = |ty: &castiron_ir::Type| -> Option<Tensor> {
            let shape: Option<Vec<usize>> = ty.shape.iter().map(|d| d.evaluate(&value).ok()).collect();
            let shape = shape.filter(|s| s.iter().product::<usize>() < 1 << 20)?;
            Tensor::zeros(ty.dtype, &shape).ok()
        };
        let tensors: Option<Vec<Tensor>> = entry.inputs.iter().map(|(_, ty)| tensor(ty)).collect();
        let Some(tensors) = tensors else { continue };
        let named: Vec<(&str, TensorRef<'_>)> =
            entry.inputs.iter().zip(&tensors).map(|((name, _), tensor)| (name.as_str(), tensor.view())).collect();
        has_run |= session.run(&entry.name, &named).is_ok();
    }
    has_run
}

fn mutate(fixture: &Fixture, rounds: u32) {
    let program = postcard::to_stdvec(&fixture.program()).unwrap();
    assert!(exercise(&fixture.bytes()));
    let mut state = 12345_u64;
    let mut random = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    let mut ran = 0;
    for round in 0..rounds {
        let mut bad = program.clone();
        for _ in 0..1 + round % 3 {
            let at = random(bad.len());
            match random(3) {
                0 => bad[at] ^= 1 << random(8),
                1 => bad[at] = random(256) as u8,
                _ => bad[at] = bad[at].wrapping_add(random(5) as u8).wrapping_sub(2),
            }
        }
        if round % 10 == 9 {
            bad.truncate(random(bad.len()));
        }
        ran += u32::from(exercise(&fixture.bytes_with(&bad)));
    }
    assert!(ran > 0, "some mutations are harmless");
}

#[test]
fn mutated_programs_never_panic() {
    mutate(&crate::products::scores(), 400);
    mutate(&crate::attention::fixture(DType::F32, 8), 300);
    mutate(&crate::attention::fixture(DType::F16, 5), 300);
    mutate(&crate::attention::fixture(DType::I8, 5), 300);
    mutate(&crate::top_k::fixture(), 300);
    mutate(&crate::states::append(), 300);
    mutate(&crate::states::looped().0, 300);
    mutate(&crate::scans::fixture(true, true), 400);
}

#[test]
fn mutated_headers_never_panic() {
    let good = crate::states::append().bytes();
    let header = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    for at in 0..header {
        for flip in [1, 4, 0x80] {
            let mut bad = good.clone();
            bad[at] ^= flip;
            let _ = exercise(&bad);
        }
    }
    for length in 0..good.len() {
        assert!(Artifact::from_bytes(&good[..length]).is_err());
    }
}
