//! `castiron opt`.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use castiron_ir::text::parse_module;
use castiron_ir::verify::verify;
use castiron_passes::{PASSES, Stage};

use super::Outcome;
use super::arguments::Opt;

pub(super) fn run(arguments: &Opt) -> Outcome {
    let Some(file) = arguments.file.as_deref().filter(|_| !arguments.list) else {
        PASSES.iter().for_each(|pass| println!("{:<15} {}", pass.name, pass.about));
        return Ok(ExitCode::SUCCESS);
    };
    let module = parse_module(&read(file)?).map_err(|e| format!("{}: {e}", file.display()))?;
    verify(&module).map_err(|e| format!("{}: {e}", file.display()))?;
    let names: Vec<&str> = arguments.pass.iter().map(String::as_str).collect();
    let module = if names.is_empty() {
        castiron_passes::run(&module, Stage::Optimized, &castiron_passes::Options::default())?.0
    } else {
        castiron_passes::run_named(&names, &module)?
    };
    print!("{module}");
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> Result<String, String> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(|e| format!("standard input: {e}"))?;
        return Ok(text);
    }
    std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))
}
