//! Compiled models on a GPU against transformers, on every reference folder, with all features of the
//! adapter and with none, with the shaders for adapters that are CPUs and with those for GPUs.
//!
//! Weights stay as the checkpoint has them: shaders expand them where they are used, and nothing is
//! rounded. Without an adapter, the tests fail.

use castiron::verification::Tolerance;
use castiron_backends::weights::WeightFormat;
use castiron_runtime::gpu::Mask;
use castiron_runtime::program::gpu::AdapterClass;
use castiron_tests::{compiled, fixture, parity};

const TOLERANCE: Tolerance = Tolerance { atol: 1e-4, rtol: 1e-4 };

/// Without optional features.
fn plain(class: AdapterClass) -> Mask {
    Mask { no_f16: true, no_subgroups: true, class: Some(class), ..Mask::default() }
}

fn check(parts: &[&str], mask: Mask) {
    let open = |fixture: &fixture::Fixture| compiled::open(&fixture.path, WeightFormat::Keep, compiled::gpu(mask));
    for part in parts {
        let fixtures = parity::fixtures(part);
        assert!(!fixtures.is_empty(), "no fixture is called {part}");
        parity::check_all(&fixtures, &open, TOLERANCE);
    }
}

#[test]
fn all_features_agree_with_transformers() {
    check(&[""], Mask { class: Some(AdapterClass::Cpu), ..Mask::default() });
}

// Lavapipe takes seconds for each shader that is not meant for it, so the rest is for folders whose
// shapes differ most: odd sizes, grouped heads, every encoding of weights. `castiron verify` with
// CASTIRON_GPU=no-f16,no-subgroups,class=gpu takes any folder.

#[test]
fn no_features_agree_with_transformers() {
    check(&["odd-sizes", "llama-gqa", "llama-gguf-mixed"], plain(AdapterClass::Gpu));
}

#[test]
fn features_of_gpus_agree_with_transformers() {
    check(&["bert-f16", "llama-gguf-f16"], Mask { class: Some(AdapterClass::Gpu), ..Mask::default() });
}

#[test]
fn cpus_without_features_agree_with_transformers() {
    check(&["odd-sizes", "llama-gguf-mixed"], plain(AdapterClass::Cpu));
}
