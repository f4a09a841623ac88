//! `castiron bench --profile`: where the time of a GPU goes, kernel by kernel.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use castiron_ir::Task;
use castiron_runtime::gpu::{DispatchProfile, GpuOptions, RunProfile};
use castiron_runtime::session::{Device, Model, Options, Session};
use castiron_runtime::tasks::generate::CHUNK;
use castiron_runtime::tensor::TensorRef;
use serde_json::{Map, Value, json};

use super::arguments::Bench;
use super::output;
use super::workload::{self, Texts};

/// Options for a device that measures.
///
/// # Errors
/// A device that is no GPU.
pub(super) fn options(options: Options) -> Result<Options, Box<dyn Error>> {
    match options.device {
        Device::Gpu(gpu) => Ok(Options { device: Device::Gpu(GpuOptions { profile: true, ..gpu }), ..options }),
        Device::Cpu => {
            Err("--profile is for GPUs so far: choose one with --device, or the best with --target wgsl".into())
        }
    }
}

/// Measures a prompt and the tokens after it, or a batch of texts.
pub(super) fn measure(arguments: &Bench, artifact: &Path, options: Options) -> Result<Vec<Part>, Box<dyn Error>> {
    let model = Model::open(artifact, options)?;
    if model.artifact().description().task == Task::TextGeneration {
        generate(arguments, &model)
    } else {
        batch(arguments, &model)
    }
}

/// As JSON, by name.
pub(super) fn to_json(parts: &[Part]) -> Value {
    parts.iter().map(|part| (part.name.to_owned(), part.to_json())).collect::<Map<_, _>>().into()
}

/// Runs that were measured, added up.
pub(super) struct Part {
    name: &'static str,
    /// What it is, for people.
    title: String,
    /// What the sums are divided by.
    runs: u32,
    wall_ms: f64,
    submissions: u64,
    per_iteration: usize,
    dispatches: Vec<DispatchProfile>,
}

fn generate(arguments: &Bench, model: &Model) -> Result<Vec<Part>, Box<dyn Error>> {
    let (length, steps) = (arguments.prompt_tokens.max(1), arguments.new_tokens.max(1));
    let ids: Vec<i32> = workload::ids(length + steps + 1).collect();
    let entry = model.entry("step").ok_or("the artifact has no entry `step`")?;
    let output = entry.outputs.iter().find(|(name, _)| name == "best").map_or("logits", |(name, _)| name);
    let mut session = model.session(&[("b", 1), ("c", ids.len().next_multiple_of(64))])?;
    let mut run = |part: &mut Part, from: usize, count: usize| -> Result<(), Box<dyn Error>> {
        let (shape, past, last) = ([1, count], [from as i32], [count as i32 - 1]);
        let inputs = [
            ("input_ids", TensorRef::i32(&shape, &ids[from..from + count])?),
            ("past", TensorRef::i32(&[1], &past)?),
            ("last", TensorRef::i32(&[1], &last)?),
        ];
        part.run(&mut session, "step", &inputs, Some(output))
    };
    let mut prompt = Part::new("prompt", format!("a prompt of {length} tokens"));
    // The first time, pipelines are made.
    for _ in 0..2 {
        prompt.clear();
        for from in (0..length).step_by(CHUNK) {
            run(&mut prompt, from, CHUNK.min(length - from))?;
        }
    }
    let mut token = Part::new("token", format!("a token, mean of {steps}"));
    run(&mut token, length, 1)?;
    token.clear();
    (1..=steps).try_for_each(|step| run(&mut token, length + step, 1))?;
    token.runs = steps as u32;
    Ok(vec![prompt, token])
}

fn batch(arguments: &Bench, model: &Model) -> Result<Vec<Part>, Box<dyn Error>> {
    let texts = Texts::new(arguments);
    let inputs = texts.inputs(model)?;
    let mut session = model.smallest_session()?;
    let mut part = Part::new("batch", format!("a batch of {} × {} tokens", arguments.batch, arguments.seq));
    for _ in 0..2 {
        part.clear();
        part.run(&mut session, "forward", &inputs, None)?;
    }
    Ok(vec![part])
}

impl Part {
    fn new(name: &'static str, title: String) -> Part {
        let (dispatches, runs) = (Vec::new(), 1);
        Part { name, title, runs, wall_ms: 0.0, submissions: 0, per_iteration: 0, dispatches }
    }

    /// Forgets what was measured.
    fn clear(&mut self) {
        *self = Part::new(self.name, std::mem::take(&mut self.title));
    }

    /// Executes an entry and adds what was measured.
    fn run(
        &mut self,
        session: &mut Session,
        entry: &str,
        inputs: &[(&str, TensorRef<'_>)],
        output: Option<&str>,
    ) -> Result<(), Box<dyn Error>> {
        let start = Instant::now();
        match output {
            Some(output) => drop(session.run_for(entry, inputs, &[output])?),
            None => drop(session.run(entry, inputs)?),
        }
        self.wall_ms += start.elapsed().as_secs_f64() * 1e3;
        self.add(session.profile().ok_or("the run was not measured")?);
        Ok(())
    }

    /// Other extents may take other shaders: what is the same is added up.
    fn add(&mut self, profile: &RunProfile) {
        self.submissions += profile.submissions;
        self.per_iteration = self.per_iteration.max(profile.per_iteration());
        for new in &profile.dispatches {
            let same = |old: &&mut DispatchProfile| (old.kernels, &old.shader) == (new.kernels, &new.shader);
            match self.dispatches.iter_mut().find(same) {
                Some(old) => {
                    old.count += new.count;
                    old.nanoseconds += new.nanoseconds;
                    old.bytes += new.bytes;
                }
                None => self.dispatches.push(new.clone()),
            }
        }
    }

    /// The dispatches in numbers, those that take longest first.
    fn rows(&self) -> Vec<Row<'_>> {
        let runs = f64::from(self.runs);
        let total: u64 = self.dispatches.iter().map(|d| d.nanoseconds).sum();
        let row = |dispatch| Row::new(dispatch, runs, total as f64);
        let mut rows: Vec<Row<'_>> = self.dispatches.iter().map(row).collect();
        rows.sort_by(|a, b| b.ms.total_cmp(&a.ms));
        rows
    }

    fn to_json(&self) -> Value {
        let (runs, rows) = (f64::from(self.runs), self.rows());
        let sum = |of: fn(&Row<'_>) -> f64| rows.iter().map(of).sum::<f64>();
        json!({
            "dispatches": sum(|row| row.calls),
            "dispatches_per_iteration": self.per_iteration,
            "submissions": self.submissions as f64 / runs,
            "bytes": sum(|row| row.bytes),
            "device_ms": sum(|row| row.ms),
            "wall_ms": self.wall_ms / runs,
            "kernels": rows.iter().map(Row::to_json).collect::<Vec<_>>(),
        })
    }

    /// Prints a table for people.
    pub fn print(&self) {
        let (object, rows) = (self.to_json(), self.rows());
        println!("\nprofile of {}", self.title);
        let number = |key: &str| object[key].as_f64().unwrap_or(0.0);
        for key in ["dispatches", "dispatches_per_iteration", "submissions"] {
            println!("{key:<24} {}", number(key));
        }
        println!("{:<24} {}", "bytes", output::bytes(number("bytes") as u64));
        for key in ["device_ms", "wall_ms"] {
            println!("{key:<24} {:.3}", number(key));
        }
        let labels = rows.iter().map(|row| row.label.len()).max().unwrap_or(0).max(7);
        let shaders = rows.iter().map(|row| row.shader.len()).max().unwrap_or(0).max(7);
        println!(
            "\n{:<labels$}  {:<shaders$} {:>6} {:>9} {:>6} {:>7}",
            "kernels", "shader", "calls", "ms", "share", "GB/s"
        );
        for Row { label, shader, calls, ms, share, rate, .. } in rows {
            let share = 100.0 * share;
            println!("{label:<labels$}  {shader:<shaders$} {calls:>6.0} {ms:>9.3} {share:>5.1}% {rate:>7.2}");
        }
    }
}

/// A dispatch in numbers.
struct Row<'a> {
    label: String,
    shader: &'a str,
    calls: f64,
    bytes: f64,
    ms: f64,
    /// Of the time of all dispatches.
    share: f64,
    /// Bytes for each nanosecond.
    rate: f64,
}

impl Row<'_> {
    fn new(dispatch: &DispatchProfile, runs: f64, total: f64) -> Row<'_> {
        let ([first, last], nanoseconds) = (dispatch.kernels, dispatch.nanoseconds as f64);
        let numbers = if first == last { first.to_string() } else { format!("{first}-{last}") };
        Row {
            label: format!("{numbers} {}", dispatch.label),
            shader: &dispatch.shader,
            calls: f64::from(dispatch.count) / runs,
            bytes: dispatch.bytes as f64 / runs,
            ms: nanoseconds / runs / 1e6,
            share: nanoseconds / total.max(1.0),
            rate: dispatch.bytes as f64 / nanoseconds.max(1.0),
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "kernels": self.label,
            "shader": self.shader,
            "calls": self.calls,
            "bytes": self.bytes,
            "ms": self.ms,
            "share": self.share,
            "gb_per_s": self.rate,
        })
    }
}
