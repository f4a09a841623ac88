//! Compiled models on the CPU against transformers, on every reference folder, with generated code
//! and with portable code.

use castiron::verification::{Tolerance, verify};
use castiron_backends::weights::WeightFormat;
use castiron_runtime::cpu::isa::Isa;
use castiron_runtime::program::{Weight, WeightForm};
use castiron_runtime::tasks::Pipeline;
use castiron_runtime::tasks::generate::Request;
use castiron_runtime::text::{Sampler, Sampling};
use castiron_tests::compiled;
use castiron_tests::fixture::{self, Fixture, Generated};

const TOLERANCE: Tolerance = Tolerance { atol: 1e-4, rtol: 1e-4 };

fn check_all(isa: Isa) {
    assert!(isa.is_available(), "this machine cannot execute {isa:?}");
    let failures: Vec<String> =
        fixture::all().iter().filter_map(|f| check(f, isa).err().map(|e| format!("{}: {e}", f.name))).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn check(fixture: &Fixture, isa: Isa) -> Result<(), String> {
    let mut pipeline = exact(fixture, isa)?;
    let reference = fixture.path.join("reference.safetensors");
    for output in verify(pipeline.model(), &reference, TOLERANCE).map_err(|e| e.to_string())? {
        if output.failures > 0 {
            return Err(format!("{} of {} elements are off: {output:?}", output.failures, output.compared));
        }
    }
    fixture.generations.iter().try_for_each(|g| tokens(&mut pipeline, g).and_then(|()| split(&pipeline, g)))?;
    together(&mut pipeline, &fixture.generations)
}

/// Compiled with the weights that the checkpoint has, or f32 where products would round activations.
fn exact(fixture: &Fixture, isa: Isa) -> Result<Pipeline, String> {
    let kept = compiled::open(&fixture.path, WeightFormat::Keep, isa)?;
    let is_quantised = |w: &Weight| matches!(&w.form, WeightForm::Packed(m) if m.encoding.is_quantised());
    if kept.model().program().weights.iter().any(is_quantised) {
        return compiled::open(&fixture.path, WeightFormat::F32, isa);
    }
    Ok(kept)
}

/// The first new token after a prompt that comes in two parts.
fn split(pipeline: &Pipeline, generated: &Generated) -> Result<(), String> {
    let (first, second) = generated.prompt.split_at(generated.prompt.len() / 2);
    let mut session =
        pipeline.model().session(&[("b", 1), ("c", generated.prompt.len())]).map_err(|e| e.to_string())?;
    if !first.is_empty() {
        compiled::step(&mut session, first, 0).map_err(|e| e.to_string())?;
    }
    let logits = compiled::step(&mut session, second, first.len()).map_err(|e| e.to_string())?;
    let end = &pipeline.description().generation.eos;
    let best = Sampler::new(Sampling::GREEDY, 0).choose(&logits, &[], end).unwrap();
    let expected = generated.greedy[generated.prompt.len()];
    if best == expected { Ok(()) } else { Err(format!("after a split prompt, token {best}, not {expected}")) }
}

/// The reference was made without the end tokens.
fn greedy(pipeline: &Pipeline, new_tokens: usize) -> Request {
    let end = pipeline.description().generation.eos.clone();
    Request { max_new_tokens: new_tokens, min_new_tokens: new_tokens, sampling: Sampling::GREEDY, seed: 0, end }
}

fn tokens(pipeline: &mut Pipeline, generated: &Generated) -> Result<(), String> {
    let expected = &generated.greedy[generated.prompt.len()..];
    let prompts = std::slice::from_ref(&generated.prompt);
    let request = greedy(pipeline, expected.len());
    let actual = pipeline.generate(prompts, &request, &mut |_| true).map_err(|e| e.to_string())?;
    let actual = &actual.rows[0].tokens;
    if actual != expected {
        return Err(format!("greedy tokens {actual:?}, not {expected:?}"));
    }
    // Where the text may end, the model finds the best tokens itself.
    let request = Request { min_new_tokens: 0, ..request };
    let actual = pipeline.generate(prompts, &request, &mut |_| true).map_err(|e| e.to_string())?;
    let is_no_end = |token: &&u32| !request.end.contains(token);
    let actual: Vec<u32> = actual.rows[0].tokens.iter().take_while(is_no_end).copied().collect();
    if expected.starts_with(&actual) { Ok(()) } else { Err(format!("best tokens {actual:?}, not {expected:?}")) }
}

/// All prompts of a fixture in one batch, of different lengths.
fn together(pipeline: &mut Pipeline, all: &[Generated]) -> Result<(), String> {
    if all.is_empty() {
        return Ok(());
    }
    let prompts: Vec<Vec<u32>> = all.iter().map(|g| g.prompt.clone()).collect();
    let count = all.iter().map(|g| g.greedy.len() - g.prompt.len()).min().unwrap_or(0);
    let request = greedy(pipeline, count);
    let actual = pipeline.generate(&prompts, &request, &mut |_| true).map_err(|e| e.to_string())?;
    for (row, generated) in actual.rows.iter().zip(all) {
        let expected = &generated.greedy[generated.prompt.len()..][..count];
        if row.tokens != expected {
            return Err(format!("in a batch, greedy tokens {:?}, not {expected:?}", row.tokens));
        }
    }
    Ok(())
}

#[test]
fn generated_code_agrees_with_transformers() {
    check_all(Isa::Avx2);
}

#[test]
fn portable_code_agrees_with_transformers() {
    check_all(Isa::Portable);
}
