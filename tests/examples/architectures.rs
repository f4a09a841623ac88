//! Writes `docs/architectures.md`: `cargo run --release -p castiron-tests --example architectures`.
//!
//! Every reference folder is compiled for the CPU and for the machine's best GPU, and compared with
//! transformers; a folder that does not agree makes the command fail. Arguments name parts of folders.

use std::collections::BTreeMap;
use std::process::ExitCode;

use castiron::verification::Tolerance;
use castiron_backends::weights::WeightFormat;
use castiron_runtime::cpu::isa::Isa;
use castiron_runtime::gpu::Mask;
use castiron_runtime::session::Options;
use castiron_tests::fixture::Fixture;
use castiron_tests::{compiled, parity};
use serde_json::{Map, Value};

const HEADING: &str = "# Architectures

Made by `cargo run --release -p castiron-tests --example architectures > docs/architectures.md`.

A row is a reference folder of `tests/fixtures`: a small checkpoint with random weights, what transformers makes of
a padded batch, and the tokens that it generates. *Switches* are the keys of its config that differ from the first
folder of its family. Errors are the largest |a - b| of all outputs; a folder passes within 1e-4 + 1e-4·|b| on the
CPU and 1e-3 + 1e-3·|b| on GPUs (here Mesa's lavapipe). *Tokens* are greedy ones, of single prompts, of prompts in
two parts, and of batches of unequal prompts: equal to transformers' on both.
";

fn main() -> ExitCode {
    let parts: Vec<String> = std::env::args().skip(1).collect();
    let parts = if parts.is_empty() { vec![String::new()] } else { parts };
    println!("{HEADING}");
    let mut families: BTreeMap<String, Vec<Fixture>> = BTreeMap::new();
    for fixture in parts.iter().flat_map(|part| parity::fixtures(part)) {
        let family = config(&fixture).get("model_type").and_then(Value::as_str).unwrap_or("GGUF").to_owned();
        families.entry(family).or_default().push(fixture);
    }
    let mut failed = false;
    for (family, fixtures) in &families {
        println!(
            "## {family}\n\n| folder | architecture | switches | CPU | WGSL | tokens |\n|---|---|---|---|---|---|"
        );
        let plain = fixtures.iter().position(|f| f.name.ends_with("-plain")).unwrap_or(0);
        let plain = config(&fixtures[plain]);
        for fixture in fixtures {
            let cpu = check(fixture, WeightFormat::F32, compiled::cpu(Isa::detect()), 1e-4);
            let gpu = check(fixture, WeightFormat::Keep, compiled::gpu(Mask::default()), 1e-3);
            failed |= cpu.is_err() || gpu.is_err();
            let tokens = if fixture.generations.is_empty() { "" } else { "equal" };
            let config = config(fixture);
            let name = config.get("architectures").map_or("", |names| names[0].as_str().unwrap_or_default());
            let switches = switches(&config, &plain);
            let [cpu, gpu] =
                [cpu, gpu].map(|result| result.map_or_else(|e| format!("**{e}**"), |e| format!("{e:.0e}")));
            println!("| {} | {name} | {switches} | {cpu} | {gpu} | {tokens} |", fixture.name);
        }
        println!();
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The config of a folder; nothing for GGUF files.
fn config(fixture: &Fixture) -> Map<String, Value> {
    let text = std::fs::read(fixture.path.join("config.json")).unwrap_or_else(|_| b"{}".to_vec());
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Keys that are not as in the plain folder, with what they say where that is short.
fn switches(config: &Map<String, Value>, plain: &Map<String, Value>) -> String {
    const SHORT: usize = 24;
    let differs = |(key, value): &(&String, &Value)| *key != "architectures" && plain.get(*key) != Some(value);
    let print = |(key, value): (&String, &Value)| match value.to_string() {
        text if text.len() <= SHORT => format!("`{key}={text}`"),
        _ => format!("`{key}`"),
    };
    config.iter().filter(differs).map(print).collect::<Vec<_>>().join(" ")
}

/// The largest error of all outputs of whole sequences, if tokens agree too.
fn check(fixture: &Fixture, weights: WeightFormat, executed: Options, tolerance: f64) -> Result<f64, String> {
    let mut pipeline = compiled::open(&fixture.path, weights, executed)?;
    let largest = parity::check_outputs(fixture, &pipeline, Tolerance { atol: tolerance, rtol: tolerance })?;
    parity::check_tokens(fixture, &mut pipeline)?;
    Ok(largest)
}
