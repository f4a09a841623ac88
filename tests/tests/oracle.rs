//! The interpreter on the frontends' graphs against transformers, on every reference folder.

use castiron_frontends::checkpoint::Checkpoint;
use castiron_frontends::models::{self, Model};
use castiron_ir::{Entry, Task};
use castiron_runtime::text::Place;
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
    let both =
        |g: &Generated| [0, g.prompt.len() / 2].into_iter().try_for_each(|at| tokens(g, at, &model, &checkpoint));
    fixture.generations.iter().try_for_each(both).map_err(context)
}

fn outputs(fixture: &Fixture, model: &Model, checkpoint: &Checkpoint) -> Result<(), String> {
    let goes_on = |e: &Entry| e.name == "step" || e.name == "encode";
    let is_checked = |e: &&Entry| e.outputs.iter().any(|o| fixture.outputs.contains_key(o)) && !goes_on(e);
    let entries = model.module.entries.iter().filter(is_checked);
    let (mut seen, mut largest) = (0, 0.0_f64);
    for entry in entries {
        let results = Oracle::new(model, checkpoint).run(&entry.name, &|name| fixture.inputs.get(name).cloned(), 1);
        for (name, actual) in results {
            seen += 1;
            largest = largest.max(fixture.largest_error(&name, &actual));
            if let Some(mismatch) = fixture.mismatch(&name, &actual, TOLERANCE, TOLERANCE) {
                return Err(mismatch);
            }
        }
    }
    let expected = fixture.outputs.len();
    println!("{}: largest error {largest:.1e} relative to max(1, |expected|)", fixture.name);
    if seen == expected { Ok(()) } else { Err(format!("{seen} outputs instead of {expected}")) }
}

/// Greedy tokens: the prompt, whole or cut at a token, then one token at a time. The reference was made
/// without the end tokens, but for those that an encoder–decoder's rules force.
fn tokens(generated: &Generated, cut: usize, model: &Model, checkpoint: &Checkpoint) -> Result<(), String> {
    let mut oracle = Oracle::new(model, checkpoint);
    let (capacity, generation) = (generated.greedy.len(), &model.description.generation);
    let (begun, _) = generated.split();
    if model.description.task == Task::Text2TextGeneration {
        oracle.encode(&generated.prompt);
    }
    let (first, second) = begun.split_at(cut.min(begun.len() - 1));
    if !first.is_empty() {
        oracle.step(first, 0, begun.len(), capacity);
    }
    let mut scores = oracle.step(second, first.len(), begun.len(), capacity);
    for (past, &expected) in generated.greedy.iter().enumerate().skip(begun.len()) {
        let place = Place {
            text: &generated.greedy[..past],
            given: begun.len(),
            source: &generated.prompt,
            end: &generation.eos,
            min_new_tokens: generated.max_new_tokens,
            is_last: past + 1 == capacity,
        };
        let mut banned = Vec::new();
        place.ban(&generation.rules, &mut banned);
        let token = place.forced(&generation.rules).unwrap_or_else(|| argmax(&scores, &banned));
        if token != expected {
            return Err(format!("token {past} is {token}, not {expected}, after a prompt cut at {cut}"));
        }
        scores = match model.description.recompute_beyond == Some(past) {
            true => oracle.step(&generated.greedy[..past + 1], 0, past + 1, capacity),
            false => oracle.step(&[token], past, past + 1, capacity),
        };
    }
    Ok(())
}
