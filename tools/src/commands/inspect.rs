//! `castiron inspect`.

use std::path::Path;
use std::process::ExitCode;

use castiron_frontends::checkpoint::Checkpoint;
use castiron_ir::Module;
use castiron_passes::Stage;

use castiron_runtime::artifact::Artifact;
use castiron_runtime::cpu::isa::Isa;
use castiron_runtime::cpu::row::RowFunction;
use castiron_runtime::plan::MemoryPlan;
use castiron_runtime::program::{EntryProgram, KernelBody};
use castiron_runtime::session::Model;

use super::arguments::{Inspect, InspectStage, Machine};
use super::{Outcome, load, tensors};
use crate::compiler;

pub(super) fn run(arguments: &Inspect) -> Outcome {
    let is_text = arguments.source.source.ends_with(".ir");
    let is_artifact = load::is_artifact(Path::new(&arguments.source.source));
    let stage = match arguments.stage {
        Some(stage) => stage,
        None if is_text || arguments.dot || arguments.entry.is_some() => InspectStage::Optimized,
        None if is_artifact => InspectStage::Kernels,
        None => return tensors::run(arguments),
    };
    match stage {
        InspectStage::Wgsl => shaders(arguments),
        InspectStage::Graph | InspectStage::Optimized => graph(arguments, stage),
        _ if arguments.dot || is_text => graph(arguments, stage),
        _ => program(arguments, stage),
    }
}

/// The graph at a stage.
fn graph(arguments: &Inspect, stage: InspectStage) -> Outcome {
    if load::is_artifact(Path::new(&arguments.source.source)) {
        return Err("an artifact holds kernels and no graph; use --stage kernels, plan or asm".into());
    }
    let source = &arguments.source.source;
    let options = arguments.source.compiling.options();
    let is_text = Path::new(source).extension().is_some_and(|e| e == "ir");
    let stage = match stage {
        InspectStage::Graph => None,
        InspectStage::Optimized => Some(Stage::Optimized),
        InspectStage::Kernels | InspectStage::Plan | InspectStage::Wgsl | InspectStage::Asm => Some(Stage::Kernels),
    };
    let module = if is_text {
        let module = castiron_ir::text::parse_module(&std::fs::read_to_string(source)?)?;
        match stage {
            None => module,
            Some(stage) => castiron_passes::run(&module, stage, &options.passes)?.0,
        }
    } else {
        let checkpoint = Checkpoint::open(&super::source::locate(source)?)?;
        compiler::graph(&checkpoint, stage, &options)?
    };
    let entries = only(module.entries, |entry| entry.name.as_str(), arguments.entry.as_deref())?;
    let module = Module { entries };
    if arguments.dot {
        print!("{}", castiron_ir::dot::to_dot(&module));
    } else {
        print!("{module}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The shaders of each launch, each once.
fn shaders(arguments: &Inspect) -> Outcome {
    let path = super::source::locate(&arguments.source.source)?;
    let (names, gpu) = if load::is_artifact(&path) {
        let artifact = Artifact::open(&path)?;
        let names: Vec<String> = artifact.program().entries.iter().map(|e| e.name.clone()).collect();
        (names, artifact.gpu_program()?.ok_or("the artifact holds no shaders; compile it with --target wgsl")?)
    } else {
        let options = compiler::Options { wgsl: true, ..arguments.source.compiling.options() };
        let checkpoint = Checkpoint::open(&path)?;
        let compiled = compiler::compile(&checkpoint, &options)?.compiled;
        let names = compiled.program.entries.iter().map(|e| e.name.clone()).collect();
        (names, compiled.gpu.ok_or("no shaders were made")?)
    };
    let named = names.iter().zip(&gpu.entries).collect();
    let mut is_shown = vec![false; gpu.shaders.len()];
    for (name, entry) in only(named, |(name, _)| name.as_str(), arguments.entry.as_deref())? {
        println!("// entry {name}");
        let launches = entry.stages.iter().flat_map(|stage| &stage.launches);
        for dispatch in launches.flat_map(|launch| &launch.choices).flat_map(|choice| &choice.dispatches) {
            let number = dispatch.shader as usize;
            if !std::mem::replace(&mut is_shown[number], true) {
                println!("\n// shader {number}: {}\n{}", gpu.shaders[number].name, gpu.shaders[number].source);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What the runtime executes.
fn program(arguments: &Inspect, stage: InspectStage) -> Outcome {
    let machine = Machine { threads: Some(1), device: None };
    let model = Model::open(
        load::artifact(&arguments.source, &machine)?,
        load::options(&arguments.source.compiling, &machine),
    )?;
    let entries: Vec<&EntryProgram> = model.program().entries.iter().collect();
    let entries = only(entries, |entry| entry.name.as_str(), arguments.entry.as_deref())?;
    if stage == InspectStage::Kernels {
        for (number, weight) in model.program().weights.iter().enumerate() {
            println!("w{number} = {weight}");
        }
    }
    for entry in entries {
        match stage {
            InspectStage::Plan => plan(&entry.name, &model.plan(&entry.name, EXTENTS)?),
            InspectStage::Asm => assembly(entry)?,
            _ => print!("\n{entry}"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Extents that plans are shown for.
const EXTENTS: &[(&str, usize)] = &[("b", 1), ("s", 64), ("c", 256)];

fn plan(entry: &str, plan: &MemoryPlan) {
    println!("entry {entry}: {} bytes, at least {} live at one time", plan.peak_bytes, plan.lower_bound);
    for (number, b) in plan.buffers.iter().enumerate() {
        println!("  b{number}: {} bytes at {}, kernels {} to {}", b.bytes, b.offset, b.first, b.last);
    }
}

fn assembly(entry: &EntryProgram) -> Result<(), Box<dyn std::error::Error>> {
    for (number, kernel) in entry.kernels.iter().enumerate() {
        let program = match &kernel.body {
            KernelBody::Rows(rows) => &rows.operands.program,
            KernelBody::Matmul(matmul) => &matmul.epilogue.program,
            KernelBody::Product(product) => &product.epilogue.program,
            KernelBody::Scan(scan) => &scan.operands.program,
            KernelBody::Attention(_) | KernelBody::TopK(_) | KernelBody::FftConv(_) => continue,
        };
        let function = RowFunction::compile(program, Isa::detect())?;
        println!("; entry {}, kernel {number} {}\n{}", entry.name, kernel.label, function.disassemble());
    }
    Ok(())
}

/// The entry of a name, or all.
fn only<T>(mut entries: Vec<T>, name: impl Fn(&T) -> &str, wanted: Option<&str>) -> Result<Vec<T>, String> {
    let Some(wanted) = wanted else { return Ok(entries) };
    let known = entries.iter().map(&name).collect::<Vec<_>>().join(", ");
    entries.retain(|entry| name(entry) == wanted);
    if entries.is_empty() {
        return Err(format!("there is no entry `{wanted}`; the entries are {known}"));
    }
    Ok(entries)
}
