//! `castiron bench`: medians of several runs after one that does not count.

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use castiron_ir::Task;
use castiron_runtime::tasks::Pipeline;
use castiron_runtime::tasks::generate::Request;
use serde_json::{Value, json};

use super::arguments::Bench;
use super::profile::Profile;
use super::workload::{self, Texts};
use super::{Outcome, load, output};

pub(super) fn run(arguments: &Bench) -> Outcome {
    let options = load::options(&arguments.executed.source.compiling, &arguments.executed.machine);
    let profiled = (arguments.profile || arguments.trace.is_some()).then(|| options.clone());
    // A checkpoint is compiled beforehand, so that loading measures what a user of artifacts sees.
    let artifact = load::artifact(&arguments.executed.source, &arguments.executed.machine)?;
    let start = Instant::now();
    let mut pipeline = Pipeline::open(&artifact, options)?;
    let load_ms = start.elapsed().as_secs_f64() * 1e3;
    let generates = matches!(pipeline.description().task, Task::TextGeneration | Task::Text2TextGeneration);
    let (first_token_ms, measured) =
        if generates { generate(arguments, &mut pipeline)? } else { batch(arguments, &pipeline)? };
    let mut object = json!({
        "prompt_tokens_per_s": median(&measured, "prompt_tokens_per_s"),
        "generate_tokens_per_s": median(&measured, "generate_tokens_per_s"),
        "ms_per_batch": median(&measured, "ms_per_batch"),
        "load_ms": load_ms,
        "first_token_ms": first_token_ms,
        "peak_rss_bytes": peak_rss(),
        "threads": pipeline.model().threads(),
        "runs": measured,
    });
    // Measuring takes time of its own, so that it comes afterwards, with a device of its own.
    drop(pipeline);
    let measure = |options| Profile::measure(arguments, artifact.as_ref(), options);
    let profile = profiled.map(measure).transpose()?;
    if let (Some(path), Some(profile)) = (&arguments.trace, &profile) {
        output::write_whole(path, &serde_json::to_vec(&profile.trace())?)?;
    }
    let profile = profile.filter(|_| arguments.profile);
    if arguments.executed.json {
        if let Some(profile) = &profile {
            object["profile"] = profile.to_json();
        }
        println!("{object}");
    } else if let Some(fields) = object.as_object() {
        fields
            .iter()
            .filter(|(k, v)| *k != "runs" && !v.is_null())
            .for_each(|(key, value)| println!("{key:<22} {value}"));
        profile.iter().for_each(Profile::print);
    }
    Ok(ExitCode::SUCCESS)
}

/// A prompt and its continuation; the time to the first token is that of the first run.
fn generate(arguments: &Bench, pipeline: &mut Pipeline) -> Result<(Option<f64>, Vec<Value>), Box<dyn Error>> {
    let prompt: Vec<u32> = workload::ids(arguments.prompt_tokens).map(|id| id as u32).collect();
    let new = arguments.new_tokens;
    let request = Request { min_new_tokens: new, start: vec![3], ..Request::plain(new) };
    let (mut first, mut measured) = (None, Vec::new());
    for run in 0..=arguments.runs {
        let generated = pipeline.generate(std::slice::from_ref(&prompt), &request, &mut |_| true)?;
        let prompt_time = generated.prompt_time.as_secs_f64();
        if run == 0 {
            first = Some(prompt_time * 1e3);
            continue;
        }
        measured.push(json!({
            "prompt_tokens_per_s": prompt.len() as f64 / prompt_time,
            "generate_tokens_per_s": generated.steps as f64 / generated.token_time.as_secs_f64().max(1e-9),
        }));
    }
    Ok((first, measured))
}

/// A batch through `forward`.
fn batch(arguments: &Bench, pipeline: &Pipeline) -> Result<(Option<f64>, Vec<Value>), Box<dyn Error>> {
    let texts = Texts::new(arguments);
    let inputs = texts.inputs(pipeline.model())?;
    let mut session = pipeline.model().smallest_session()?;
    let mut measured = Vec::new();
    for run in 0..=arguments.runs {
        let start = Instant::now();
        session.run("forward", &inputs)?;
        if run > 0 {
            measured.push(json!({ "ms_per_batch": start.elapsed().as_secs_f64() * 1e3 }));
        }
    }
    Ok((None, measured))
}

fn median(runs: &[Value], key: &str) -> Option<f64> {
    let mut values: Vec<f64> = runs.iter().filter_map(|run| run.get(key)?.as_f64()).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Largest resident memory of this process so far, where the system tells it.
fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}
