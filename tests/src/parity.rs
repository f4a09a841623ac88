//! Compiled models against transformers: outputs of `forward`, and greedy tokens in every way to get them.

use castiron::verification::{Tolerance, verify};
use castiron_ir::Task;
use castiron_runtime::tasks::Pipeline;
use castiron_runtime::tasks::generate::Request;
use castiron_runtime::text::{Sampler, Sampling};

use crate::compiled;
use crate::fixture::{self, Fixture, Generated};

/// Folders that are checked at the same time.
const THREADS: usize = 2;

/// Makes a pipeline of a reference folder.
pub type Open<'a> = dyn Fn(&Fixture) -> Result<Pipeline, String> + Sync + 'a;

/// Checks reference folders with models that `open` makes of them.
///
/// # Panics
/// With one line for each folder that does not agree.
pub fn check_all(fixtures: &[Fixture], open: &Open<'_>, tolerance: Tolerance) {
    let check = |fixture: &Fixture| open(fixture).and_then(|pipeline| check(fixture, pipeline, tolerance));
    let failure = |fixture: &Fixture| check(fixture).err().map(|e| format!("{}: {e}", fixture.name));
    let every = &|first: usize| fixtures.iter().skip(first).step_by(THREADS).filter_map(failure).collect::<Vec<_>>();
    let failures = std::thread::scope(|scope| {
        let threads = (0..THREADS).map(|first| scope.spawn(move || every(first)));
        let threads: Vec<_> = threads.collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a check does not panic")).collect::<Vec<_>>()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Largest difference, as a share of the largest value.
///
/// # Panics
/// With lists of different lengths, or without a finite value other than zero.
pub fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let largest = a.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    assert!(largest > 0.0 && largest.is_finite());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest
}

/// All reference folders whose name has a part.
pub fn fixtures(part: &str) -> Vec<Fixture> {
    fixture::all().into_iter().filter(|fixture| fixture.name.contains(part)).collect()
}

fn check(fixture: &Fixture, mut pipeline: Pipeline, tolerance: Tolerance) -> Result<(), String> {
    check_outputs(fixture, &pipeline, tolerance)?;
    check_tokens(fixture, &mut pipeline)
}

/// The largest error of the outputs of whole sequences.
///
/// # Errors
/// An output that is out of tolerance, in words.
pub fn check_outputs(fixture: &Fixture, pipeline: &Pipeline, tolerance: Tolerance) -> Result<f64, String> {
    let reference = fixture.path.join("reference.safetensors");
    let outputs = verify(pipeline.model(), &reference, tolerance).map_err(|e| e.to_string())?;
    match outputs.iter().find(|output| output.failures > 0) {
        Some(output) => Err(format!("{} of {} elements are off: {output:?}", output.failures, output.compared)),
        None => Ok(outputs.iter().map(|output| output.absolute.0).fold(0.0, f64::max)),
    }
}

/// Greedy tokens of prompts alone, in parts, and together.
///
/// # Errors
/// Tokens that are not transformers', in words.
pub fn check_tokens(fixture: &Fixture, pipeline: &mut Pipeline) -> Result<(), String> {
    let reads_source = pipeline.description().task == Task::Text2TextGeneration;
    for generated in &fixture.generations {
        tokens(pipeline, generated)?;
        if reads_source { defaults(pipeline, generated)? } else { split(pipeline, generated)? }
    }
    together(pipeline, &fixture.generations)
}

/// The first new token after a prompt that comes in two parts.
fn split(pipeline: &Pipeline, generated: &Generated) -> Result<(), String> {
    let (first, second) = generated.prompt.split_at(generated.prompt.len() / 2);
    let mut session =
        pipeline.model().session_with(&[("b", 1), ("c", generated.prompt.len())]).map_err(|e| e.to_string())?;
    let length = generated.prompt.len();
    if !first.is_empty() {
        compiled::step_of(&mut session, first, 0, length).map_err(|e| e.to_string())?;
    }
    let logits = compiled::step_of(&mut session, second, first.len(), length).map_err(|e| e.to_string())?;
    let end = &pipeline.description().generation.eos;
    let best = Sampler::new(Sampling::GREEDY, 0).choose(&logits, &[], end).unwrap();
    let expected = generated.greedy[generated.prompt.len()];
    if best == expected { Ok(()) } else { Err(format!("after a split prompt, token {best}, not {expected}")) }
}

/// The reference was made without the end tokens.
fn greedy(pipeline: &Pipeline, new_tokens: usize) -> Request {
    let request = Request::of_model(pipeline.description(), new_tokens);
    Request { min_new_tokens: new_tokens, sampling: Sampling::GREEDY, ..request }
}

fn tokens(pipeline: &mut Pipeline, generated: &Generated) -> Result<(), String> {
    let (_, expected) = generated.split();
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

/// What an encoder–decoder makes of a source by the folder's own settings. Transformers makes 20 tokens where
/// nothing says how many.
fn defaults(pipeline: &mut Pipeline, generated: &Generated) -> Result<(), String> {
    let request = Request::of_model(pipeline.description(), 20);
    let most = pipeline.description().generation.new_tokens_after(request.start.len()).unwrap_or(20);
    let request = Request { max_new_tokens: most, ..request };
    let prompts = std::slice::from_ref(&generated.prompt);
    let actual = pipeline.generate(prompts, &request, &mut |_| true).map_err(|e| e.to_string())?;
    let actual = [request.start.as_slice(), &actual.rows[0].tokens].concat();
    let expected = generated.defaults.as_ref().ok_or("there are no tokens by the folder's settings")?;
    if actual == *expected { Ok(()) } else { Err(format!("by default tokens {actual:?}, not {expected:?}")) }
}

/// All prompts of a fixture in one batch, of different lengths.
fn together(pipeline: &mut Pipeline, all: &[Generated]) -> Result<(), String> {
    if all.is_empty() {
        return Ok(());
    }
    let prompts: Vec<Vec<u32>> = all.iter().map(|g| g.prompt.clone()).collect();
    let count = all.iter().map(|g| g.max_new_tokens).min().unwrap_or(0);
    let request = greedy(pipeline, count);
    let actual = pipeline.generate(&prompts, &request, &mut |_| true).map_err(|e| e.to_string())?;
    for (row, generated) in actual.rows.iter().zip(all) {
        let expected = &generated.split().1[..count];
        if row.tokens != expected {
            return Err(format!("in a batch, greedy tokens {:?}, not {expected:?}", row.tokens));
        }
    }
    Ok(())
}
