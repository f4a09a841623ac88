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

fn check(part: &str, mask: Mask) {
    let open = |fixture: &fixture::Fixture| compiled::open(&fixture.path, WeightFormat::Keep, compiled::gpu(mask));
    let fixtures = parity::fixtures(part);
    assert!(!fixtures.is_empty());
    parity::check_all(&fixtures, &open, TOLERANCE);
}

#[test]
fn all_features_agree_with_transformers() {
    check("", Mask { class: Some(AdapterClass::Cpu), ..Mask::default() });
}

#[test]
fn no_features_agree_with_transformers() {
    check("", plain(AdapterClass::Gpu));
}

#[test]
fn features_of_gpus_agree_with_transformers() {
    check("f16", Mask { class: Some(AdapterClass::Gpu), ..Mask::default() });
}

#[test]
fn cpus_without_features_agree_with_transformers() {
    check("odd-sizes", plain(AdapterClass::Cpu));
    check("gguf", plain(AdapterClass::Cpu));
}
