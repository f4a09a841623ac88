//! The interpreter on the frontends' graphs against transformers, on every reference folder.

use castiron_frontends::checkpoint::Checkpoint;
use castiron_frontends::models::{self, Model};
use castiron_tests::fixture::{self, Fixture, Generated};
use castiron_tests::oracle::{Oracle, argmax};

const TOLERANCE: f64 = 1e-4;

#[test]
fn graphs_compute_what_transformers_computes() {
    let failures: Vec<String> = fixture::all().iter().filter_map(|f| check(f).err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn check(fixture: &Fixture) -> Result<(), String> {
    let context = |e: String| format!("{}: {e}", fixture.name);
    let checkpoint = Checkpoint::open(&fixture.path).map_err(|e| context(e.to_string()))?;
    let model = models::of(&checkpoint).map_err(|e| context(e.to_string()))?;
    castiron_ir::verify::verify(&model.module).map_err(|e| context(e.to_string()))?;
    outputs(fixture, &model, &checkpoint).map_err(context)?;
    fixture.generations.iter().try_for_each(|g| tokens(g, &model, &checkpoint)).map_err(context)
}

fn outputs(fixture: &Fixture, model: &Model, checkpoint: &Checkpoint) -> Result<(), String> {
    let entries = model.module.entries.iter().filter(|e| e.name != "step");
    let mut seen = 0;
    for entry in entries {
        let results = Oracle::new(model, checkpoint).run(&entry.name, &|name| fixture.inputs.get(name).cloned(), 1);
        for (name, actual) in results {
            seen += 1;
            if let Some(mismatch) = fixture.mismatch(&name, &actual, TOLERANCE, TOLERANCE) {
                return Err(mismatch);
            }
        }
    }
    let expected = fixture.outputs.len();
    if seen == expected { Ok(()) } else { Err(format!("{seen} outputs instead of {expected}")) }
}

/// Greedy tokens: the prompt in two parts, then one token at a time.
fn tokens(generated: &Generated, model: &Model, checkpoint: &Checkpoint) -> Result<(), String> {
    let mut oracle = Oracle::new(model, checkpoint);
    let capacity = generated.greedy.len();
    let (first, second) = generated.prompt.split_at(generated.prompt.len() / 2);
    let mut past = first.len();
    if past > 0 {
        oracle.step(first, 0, capacity);
    }
    let mut scores = oracle.step(second, past, capacity);
    past += second.len();
    for (i, &expected) in generated.greedy[generated.prompt.len()..].iter().enumerate() {
        let token = argmax(&scores);
        if token != expected {
            return Err(format!("greedy token {i} is {token}, not {expected}"));
        }
        scores = oracle.step(&[token], past, capacity);
        past += 1;
    }
    Ok(())
}
