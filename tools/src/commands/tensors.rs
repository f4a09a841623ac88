//! `castiron inspect` without a stage: the tensors of a checkpoint, and which of them the architecture uses.

use std::process::ExitCode;

use castiron_frontends::checkpoint::Checkpoint;
use castiron_frontends::models;
use castiron_ir::Storage;
use serde_json::{Value, json};

use super::arguments::Inspect;
use super::{Outcome, output};

struct Row<'a> {
    name: &'a str,
    dtype: String,
    shape: &'a [usize],
    bytes: usize,
    /// Unknown where no graph can be built.
    is_used: Option<bool>,
}

pub(super) fn run(arguments: &Inspect) -> Outcome {
    let checkpoint = Checkpoint::open(&super::source::locate(&arguments.source.source)?)?;
    let model = models::of(&checkpoint);
    let row = |name| Row {
        name,
        dtype: checkpoint.storage(name).map_or_else(String::new, dtype),
        shape: checkpoint.shape(name).unwrap_or_default(),
        bytes: checkpoint.stored_bytes(name).unwrap_or(0),
        is_used: model.as_ref().ok().map(|model| model.tensors.contains_key(name)),
    };
    let rows: Vec<Row<'_>> = checkpoint.names().map(row).collect();
    let elements: usize = rows.iter().map(|row| row.shape.iter().product::<usize>()).sum();
    let bytes: usize = rows.iter().map(|row| row.bytes).sum();
    let architecture = model.as_ref().ok().map(|model| model.description.architecture.as_str());
    let problem = model.as_ref().err().map(ToString::to_string);
    if arguments.json {
        let row = |row: &Row<'_>| json!({ "name": row.name, "dtype": row.dtype, "shape": row.shape, "bytes": row.bytes, "used": row.is_used });
        let object = json!({
            "architecture": architecture,
            "problem": problem,
            "elements": elements,
            "bytes": bytes,
            "tensors": rows.iter().map(row).collect::<Vec<Value>>(),
        });
        println!("{object}");
        return Ok(ExitCode::SUCCESS);
    }
    let longest = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    for row in &rows {
        let mark = match row.is_used {
            Some(true) => "",
            Some(false) => "  not used",
            None => "  ?",
        };
        let Row { name, dtype, bytes, .. } = row;
        let shape = format!("{:?}", row.shape);
        println!("{name:longest$}  {dtype:8}  {shape:16}  {:>10}{mark}", output::bytes(*bytes as u64));
    }
    println!("{} tensors, {elements} elements, {}", rows.len(), output::bytes(bytes as u64));
    match (architecture, problem) {
        (Some(architecture), _) => println!("architecture {architecture}"),
        (None, problem) => println!("no graph: {}", problem.unwrap_or_default()),
    }
    Ok(ExitCode::SUCCESS)
}

/// How elements are stored, as the IR or ggml call it.
fn dtype(storage: Storage) -> String {
    match storage {
        Storage::Dense(dtype) => dtype.name().to_owned(),
        Storage::Blocks(format) => format!("{format:?}").to_lowercase(),
    }
}
