//! Sessions that are saved, restored and copied: what follows is the same.

use castiron_backends::weights::WeightFormat;
use castiron_runtime::cpu::isa::Isa;
use castiron_runtime::gpu::Mask;
use castiron_runtime::session::{self, RunError, Session, Snapshot};
use castiron_runtime::tasks::Pipeline;
use castiron_tests::compiled;
use castiron_tests::fixture;
use proptest::prelude::*;

/// Recurrent states, KV caches, and both.
const FIXTURES: [&str; 3] = ["mamba-plain", "llama-gqa", "bamba-plain"];
const TOKENS: [u32; 23] = [5, 17, 3, 42, 8, 1, 30, 12, 55, 9, 2, 61, 33, 4, 7, 20, 11, 50, 6, 19, 44, 13, 28];

fn open(name: &str, executed: session::Options) -> Pipeline {
    let fixture = fixture::all().into_iter().find(|fixture| fixture.name == name).unwrap();
    compiled::open(&fixture.path, WeightFormat::Keep, executed).unwrap()
}

fn session(pipeline: &Pipeline, capacity: usize) -> Session {
    pipeline.model().session_with(&[("b", 1), ("c", capacity)]).unwrap()
}

#[track_caller]
fn assert_near(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "{a} instead of {b}");
    }
}

/// Saves between two tokens, and goes on twice: in a new session, and in the old one after other tokens.
fn check(executed: &session::Options) {
    for name in FIXTURES {
        let pipeline = open(name, executed.clone());
        let mut first = session(&pipeline, 16);
        compiled::step(&mut first, &TOKENS[..9], 0).unwrap();
        let bytes = first.snapshot().unwrap().to_bytes().unwrap();
        let saved = Snapshot::from_bytes(&bytes).unwrap();
        let expected = compiled::step(&mut first, &TOKENS[9..12], 9).unwrap();
        let mut second = session(&pipeline, 32);
        second.restore(&saved).unwrap();
        assert_eq!(compiled::step(&mut second, &TOKENS[9..12], 9).unwrap(), expected, "{name}");
        first.restore(&saved).unwrap();
        assert_eq!(compiled::step(&mut first, &TOKENS[9..12], 9).unwrap(), expected, "{name}");
    }
}

#[test]
fn what_was_saved_goes_on_on_the_cpu() {
    check(&compiled::cpu(Isa::detect()));
}

#[test]
fn what_was_saved_goes_on_on_a_gpu() {
    check(&compiled::gpu(Mask::default()));
}

#[test]
fn a_row_that_begins_anew_forgets_what_was_before() {
    for name in FIXTURES {
        let pipeline = open(name, compiled::cpu(Isa::detect()));
        let mut used = session(&pipeline, 16);
        compiled::step(&mut used, &TOKENS[3..12], 0).unwrap();
        let mut fresh = session(&pipeline, 16);
        let expected = compiled::step(&mut fresh, &TOKENS[..4], 0).unwrap();
        assert_eq!(compiled::step(&mut used, &TOKENS[..4], 0).unwrap(), expected, "{name}");
    }
}

#[test]
fn what_is_no_snapshot_is_an_error() {
    let [mamba, llama] = ["mamba-plain", "llama-gqa"].map(|name| open(name, compiled::cpu(Isa::detect())));
    let saved = session(&mamba, 8).snapshot().unwrap();
    assert!(matches!(session(&llama, 8).restore(&saved), Err(RunError::UnknownState { .. })));
    let bytes = saved.to_bytes().unwrap();
    for end in (0..bytes.len()).step_by(97) {
        assert!(Snapshot::from_bytes(&bytes[..end]).is_err());
    }
    for at in 0..bytes.len().min(700) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x15;
        // Damage that leaves a snapshot leaves one of the same states, or one that does not fit.
        if let Ok(snapshot) = Snapshot::from_bytes(&damaged) {
            drop(session(&mamba, 8).restore(&snapshot));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// A prompt in any pieces, with steps of one token among them, is the prompt at once.
    #[test]
    fn pieces_of_a_prompt_are_the_whole(cuts in prop::collection::btree_set(1..TOKENS.len(), 0..8), which in 0..3_usize) {
        let pipeline = open(FIXTURES[which], compiled::cpu(Isa::detect()));
        let expected = compiled::step(&mut session(&pipeline, 32), &TOKENS, 0).unwrap();
        let mut pieces = session(&pipeline, 32);
        let (mut from, mut last) = (0, Vec::new());
        for to in cuts.into_iter().chain([TOKENS.len()]) {
            last = compiled::step(&mut pieces, &TOKENS[from..to], from).unwrap();
            from = to;
        }
        assert_near(&last, &expected);
    }
}
