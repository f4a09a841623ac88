//! `castiron inspect`.

use std::path::Path;
use std::process::ExitCode;

use castiron_frontends::checkpoint::Checkpoint;
use castiron_ir::Module;
use castiron_passes::Stage;

use super::Outcome;
use super::arguments::{Inspect, InspectStage};
use crate::compiler;

pub(super) fn run(arguments: &Inspect) -> Outcome {
    let source = &arguments.source.source;
    let options = arguments.source.compiling.options();
    let is_text = Path::new(source).extension().is_some_and(|e| e == "ir");
    let stage = match arguments.stage {
        InspectStage::Graph => None,
        InspectStage::Optimized => Some(Stage::Optimized),
        InspectStage::Kernels => Some(Stage::Kernels),
    };
    let module = if is_text {
        let module = castiron_ir::text::parse_module(&std::fs::read_to_string(source)?)?;
        match stage {
            None => module,
            Some(stage) => castiron_passes::run(&module, stage, &options.passes)?.0,
        }
    } else {
        let checkpoint = Checkpoint::open(&super::source::locate(source)?)?;
        if arguments.stage == InspectStage::Kernels && !arguments.dot {
            let compilation = compiler::compile(&checkpoint, &options)?;
            let mut program = compilation.compiled.program;
            if let Some(name) = &arguments.entry {
                program.entries.retain(|e| e.name == *name);
            }
            print!("{program}");
            return Ok(ExitCode::SUCCESS);
        }
        compiler::graph(&checkpoint, stage, &options)?
    };
    let module = only(module, arguments.entry.as_deref())?;
    if arguments.dot {
        print!("{}", castiron_ir::dot::to_dot(&module));
    } else {
        print!("{module}");
    }
    Ok(ExitCode::SUCCESS)
}

fn only(module: Module, entry: Option<&str>) -> Result<Module, String> {
    let Some(name) = entry else { return Ok(module) };
    let known = module.entries.iter().map(|e| e.name.as_str()).collect::<Vec<_>>().join(", ");
    let missing = format!("there is no entry `{name}`; the entries are {known}");
    let entry = module.entries.into_iter().find(|e| e.name == name).ok_or(missing)?;
    Ok(Module { entries: vec![entry] })
}
