//! The default configuration of every family at full size, as transformers has it: accepted without weights, and
//! compiled through all passes.

use castiron::compiler::{self, Options};
use castiron::estimate::estimate;
use castiron_frontends::checkpoint::Checkpoint;
use castiron_frontends::models;
use serde_json::Value;

const EXTENTS: &[(&str, usize)] = &[("b", 1), ("n", 2), ("s", 16), ("t", 16), ("e", 16), ("c", 64)];

#[test]
fn defaults_of_transformers_are_accepted_at_full_size() {
    let text = include_str!("../data/default_configs.json");
    let configs: Vec<Value> = serde_json::from_str(text).expect("the configs are valid");
    assert!(configs.len() >= 100, "only {} configs", configs.len());
    let failures: Vec<String> = configs.iter().filter_map(|config| check(config).err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn check(config: &Value) -> Result<(), String> {
    let name = format!("{} {}", config["model_type"], config["architectures"]);
    compile(config).map_err(|e| format!("{name}: {e}"))
}

fn compile(config: &Value) -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("config.json");
    std::fs::write(&path, config.to_string())?;
    let mut checkpoint = Checkpoint::open_config(&path)?;
    let tensors = models::of(&checkpoint)?.tensors;
    let parameters: usize = tensors.values().map(|shape| shape.iter().product::<usize>()).sum();
    checkpoint.declare(tensors);
    let program = compiler::compile(&checkpoint, &Options::default())?.compiled.program;
    for entry in &program.entries {
        let estimate = estimate(&program, entry, EXTENTS)?.ok_or("an entry is larger than memory can be")?;
        let is_plausible = estimate.flops > 0.0 && estimate.flops < 1e3 * parameters as f64;
        if !is_plausible {
            return Err(format!("entry {} takes {} operations", entry.name, estimate.flops).into());
        }
    }
    Ok(())
}
