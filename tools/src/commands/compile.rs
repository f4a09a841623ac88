//! `castiron compile`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use castiron_frontends::checkpoint::Checkpoint;
use castiron_passes::Report;
use serde_json::json;
use tempfile::TempPath;

use super::arguments::Compile;
use super::{Outcome, dry_run, output};
use crate::compiler::{self, Compilation};

pub(super) fn run(arguments: &Compile) -> Outcome {
    let start = Instant::now();
    if arguments.dry_run {
        return dry_run::run(arguments);
    }
    let path = super::source::locate(&arguments.source.source)?;
    let artifact = arguments.output.clone().unwrap_or_else(|| default_name(&path));
    let checkpoint = Checkpoint::open(&path)?;
    let opened = start.elapsed();
    let compilation = compiler::compile(&checkpoint, &arguments.source.compiling.options())?;
    let writing = Instant::now();
    let size = write(&compilation, &artifact)?;
    if arguments.json {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let object = json!({
            "artifact": artifact,
            "architecture": compilation.description.architecture,
            "task": compilation.description.task,
            "bytes": size,
            "weight_bytes": compilation.compiled.weight_bytes()?,
            "ops": compilation.ops,
            "kernels": compilation.kernels(),
            "passes": passes(&compilation),
            "egraph_ms": ms(egraph_time(&compilation)),
            "open_ms": ms(opened),
            "compile_ms": ms(compilation.time),
            "write_ms": ms(writing.elapsed()),
            "total_ms": ms(start.elapsed()),
        });
        println!("{object}");
    } else {
        print!("{}", summary(&compilation));
        println!("wrote {} ({}) in {}", artifact.display(), output::bytes(size), output::seconds(start.elapsed()));
    }
    Ok(ExitCode::SUCCESS)
}

/// What each pass did, as JSON.
pub(super) fn passes(compilation: &Compilation<'_>) -> Vec<serde_json::Value> {
    let pass = |r: &Report| {
        let ms = r.time.as_secs_f64() * 1e3;
        json!({ "pass": r.pass, "ops_before": r.ops_before, "ops_after": r.ops_after, "ms": ms })
    };
    compilation.reports.iter().map(pass).collect()
}

/// Time spent in equality saturation.
pub(super) fn egraph_time(compilation: &Compilation<'_>) -> Duration {
    compilation.reports.iter().filter(|report| report.pass == "simplify").map(|report| report.time).sum()
}

/// Writes an artifact and shows how far it is.
pub(super) fn write(compilation: &Compilation<'_>, path: &Path) -> Result<u64, compiler::CompileError> {
    let bar = output::bytes_bar("weights", compilation.compiled.weight_bytes()?);
    let size = compilation.write(path, &|done| bar.set_position(done));
    bar.finish_and_clear();
    size
}

/// Writes an artifact that lasts as long as what is given back; a model that has opened it keeps it.
pub(super) fn write_temporary(compilation: &Compilation<'_>) -> Result<(TempPath, u64), Box<dyn Error>> {
    let path = tempfile::Builder::new().suffix(".iron").tempfile()?.into_temp_path();
    let size = write(compilation, &path)?;
    Ok((path, size))
}

/// What the passes did, in a few lines.
pub(super) fn summary(compilation: &Compilation<'_>) -> String {
    let mut text = format!("{}: {} ops", compilation.description.architecture, compilation.ops);
    let mut ops = compilation.ops;
    for report in &compilation.reports {
        if report.ops_after != ops {
            text.push_str(&format!(" -> {} {}", report.ops_after, report.pass));
            ops = report.ops_after;
        }
    }
    text.push_str(&format!("\n{} kernels, compiled in {}\n", compilation.kernels(), output::seconds(compilation.time)));
    text
}

fn default_name(path: &Path) -> PathBuf {
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    let mut name = name.unwrap_or("model".as_ref()).to_owned();
    name.push(".iron");
    PathBuf::from(name)
}
