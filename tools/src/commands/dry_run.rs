//! `castiron compile --dry-run`: everything but the weights' bytes.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use castiron_frontends::checkpoint::{Checkpoint, CheckpointError};
use castiron_frontends::models;
use castiron_runtime::program::EntryProgram;
use serde_json::{Value, json};

use super::arguments::Compile;
use super::{Outcome, compile, output};
use crate::compiler;
use crate::estimate::{Estimate, estimate, state_bytes};

/// Extents that memory is planned for: one row of 64 tokens, and a cache of 256.
const PROMPT: &[(&str, usize)] = &[("b", 1), ("n", 2), ("s", 64), ("t", 64), ("e", 64), ("c", 256)];
/// Extents of one token after others.
const TOKEN: &[(&str, usize)] = &[("b", 1), ("n", 2), ("s", 1), ("t", 1), ("e", 64), ("c", 256)];

/// Names and extents of what a model asks for.
type Tensors = BTreeMap<String, Vec<usize>>;

pub(super) fn run(arguments: &Compile) -> Outcome {
    let start = Instant::now();
    let (checkpoint, tensors) = open(&arguments.source.source)?;
    let parameters: usize = tensors.values().map(|shape| shape.iter().product::<usize>()).sum();
    let compilation = compiler::compile(&checkpoint, &arguments.source.compiling.options())?;
    let program = &compilation.compiled.program;
    let weight_bytes = compilation.compiled.weight_bytes()?;
    let states = state_bytes(program, PROMPT)?;
    let mut entries = Vec::new();
    for entry in &program.entries {
        let prompt = estimate(program, entry, PROMPT)?.ok_or("an entry is larger than memory can be")?;
        entries.push((entry, prompt));
    }
    let per_token = match program.entries.iter().find(|entry| entry.name == "step") {
        Some(step) => estimate(program, step, TOKEN)?.map(|token| token.flops),
        None => entries.first().map(|(_, prompt)| prompt.flops / 64.0),
    };
    let has_weights = checkpoint.shapes().is_some();
    if arguments.json {
        let object = json!({
            "architecture": compilation.description.architecture,
            "task": compilation.description.task,
            "has_weights": has_weights,
            "parameters": parameters,
            "weight_bytes": weight_bytes,
            "state_bytes": states,
            "flops_per_token": per_token,
            "ops": compilation.ops,
            "kernels": compilation.kernels(),
            "entries": entries.iter().map(|(entry, prompt)| entry_json(entry, prompt)).collect::<Vec<_>>(),
            "passes": compile::passes(&compilation),
            "egraph_ms": compile::egraph_time(&compilation).as_secs_f64() * 1e3,
            "compile_ms": compilation.time.as_secs_f64() * 1e3,
            "total_ms": start.elapsed().as_secs_f64() * 1e3,
        });
        println!("{object}");
        return Ok(ExitCode::SUCCESS);
    }
    print!("{}", compile::summary(&compilation));
    println!("{parameters} parameters, weights of {}", output::bytes(weight_bytes));
    println!("states for 256 tokens: {}", output::bytes(states as u64));
    for (entry, Estimate { plan, flops }) in &entries {
        let memory = output::bytes(plan.peak_bytes as u64);
        println!(
            "entry {}, 64 tokens: {} kernels, {memory} of activations, {flops:.3e} FLOPs",
            entry.name,
            entry.kernels.len()
        );
    }
    per_token.into_iter().for_each(|flops| println!("{flops:.3e} FLOPs for a token, of products and attention"));
    let what =
        if has_weights { "no weights were read" } else { "there are no weights, shapes are what the config asks for" };
    println!("nothing was written, {what}; {}", output::seconds(start.elapsed()));
    Ok(ExitCode::SUCCESS)
}

fn entry_json(entry: &EntryProgram, prompt: &Estimate) -> Value {
    json!({
        "name": entry.name,
        "kernels": entry.kernels.len(),
        "arena_bytes": prompt.plan.peak_bytes,
        "arena_lower_bound": prompt.plan.lower_bound,
        "flops": prompt.flops,
    })
}

/// A checkpoint, or a config whose model has all the tensors that it asks for, and these tensors.
fn open(source: &str) -> Result<(Checkpoint, Tensors), Box<dyn std::error::Error>> {
    let path = Path::new(source);
    let is_config = path.is_file() && path.extension().is_some_and(|extension| extension == "json");
    if !is_config {
        match Checkpoint::open(&super::source::locate(source)?) {
            Err(CheckpointError::NoWeights(_)) if path.join("config.json").is_file() => {}
            checkpoint => {
                let checkpoint = checkpoint?;
                let tensors = models::of(&checkpoint)?.tensors;
                return Ok((checkpoint, tensors));
            }
        }
    }
    let mut checkpoint = Checkpoint::open_config(path)?;
    let tensors = models::of(&checkpoint)?.tensors;
    checkpoint.declare(tensors.clone());
    Ok((checkpoint, tensors))
}
