//! Compiled models on the CPU against transformers, on every reference folder, with the kernels of each
//! instruction set.

use castiron::verification::Tolerance;
use castiron_backends::weights::WeightFormat;
use castiron_runtime::cpu::isa::Isa;
use castiron_runtime::program::Weight;
use castiron_runtime::tasks::Pipeline;
use castiron_tests::compiled;
use castiron_tests::fixture::{self, Fixture};
use castiron_tests::parity::check_all;

const TOLERANCE: Tolerance = Tolerance { atol: 1e-4, rtol: 1e-4 };

fn check(isa: Isa) {
    assert!(isa.is_available(), "this machine cannot execute {isa:?}");
    check_all(&fixture::all(), &|fixture| exact(fixture, isa), TOLERANCE);
}

/// Compiled with the weights that the checkpoint has, or f32 where products would round activations.
fn exact(fixture: &Fixture, isa: Isa) -> Result<Pipeline, String> {
    let kept = compiled::open(&fixture.path, WeightFormat::Keep, compiled::cpu(isa))?;
    let is_quantised = |w: &Weight| w.form.matrices().is_some_and(|(_, matrix)| matrix.encoding.is_quantised());
    if kept.model().program().weights.iter().any(is_quantised) {
        return compiled::open(&fixture.path, WeightFormat::F32, compiled::cpu(isa));
    }
    Ok(kept)
}

#[test]
fn generated_code_agrees_with_transformers() {
    check(Isa::Avx2);
}

/// AVX-512 where the machine has it; else this is one of the others again.
#[test]
fn the_best_code_of_this_machine_agrees_with_transformers() {
    check(Isa::detect());
}

#[test]
fn portable_code_agrees_with_transformers() {
    check(Isa::Portable);
}
