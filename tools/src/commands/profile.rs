//! `castiron bench --profile`: where the time goes, kernel by kernel.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use castiron_ir::Task;
use castiron_runtime::cpu::peaks::Peaks;
use castiron_runtime::cpu::pool::Pool;
use castiron_runtime::profile::{Event, KernelProfile, RunProfile};
use castiron_runtime::session::{Device, Model, Options, Session};
use castiron_runtime::tasks::generate::CHUNK;
use castiron_runtime::tensor::TensorRef;
use serde_json::{Map, Value, json};

use super::arguments::Bench;
use super::output;
use super::workload::{self, Texts};

/// What was measured.
pub(super) struct Profile {
    parts: Vec<Part>,
    /// What the CPU can do, if it executed the model.
    peaks: Option<Peaks>,
}

impl Profile {
    /// Measures a prompt and the tokens after it, or a batch of texts.
    pub fn measure(arguments: &Bench, artifact: &Path, options: Options) -> Result<Profile, Box<dyn Error>> {
        let peaks = match options.device {
            Device::Cpu => Some(Peaks::measure(&mut Pool::new(options.threads)?, options.isa)),
            Device::Gpu(_) => None,
        };
        let model = Model::open(artifact, Options { profile: true, ..options })?;
        let generates = matches!(model.artifact().description().task, Task::TextGeneration | Task::Text2TextGeneration);
        let parts = if generates { generate(arguments, &model)? } else { batch(arguments, &model)? };
        Ok(Profile { parts, peaks })
    }

    /// As JSON: the parts by name, and the peaks.
    pub fn to_json(&self) -> Value {
        let mut object: Map<String, Value> =
            self.parts.iter().map(|part| (part.name.to_owned(), part.to_json())).collect();
        if let Some(peaks) = self.peaks {
            object.insert("peak_gflops".to_owned(), peaks.gflops.into());
            object.insert("peak_gb_per_s".to_owned(), peaks.bandwidth.into());
        }
        object.into()
    }

    /// Prints a table of each part for people.
    pub fn print(&self) {
        if let Some(Peaks { isa, gflops, bandwidth }) = self.peaks {
            println!("\n{isa:?}: at most {gflops:.0} GFLOP/s of f32 and {bandwidth:.1} GB/s from memory");
        }
        self.parts.iter().for_each(|part| part.print(self.peaks));
    }

    /// The last run of each part as a trace that Perfetto and Chrome show, a process for each part.
    pub fn trace(&self) -> Value {
        let events = self.parts.iter().enumerate().flat_map(|(process, part)| part.trace(process));
        json!({ "displayTimeUnit": "ns", "traceEvents": events.collect::<Vec<_>>() })
    }
}

/// Runs that were measured, added up.
struct Part {
    name: &'static str,
    /// What it is, for people.
    title: String,
    /// What the sums are divided by.
    runs: u32,
    wall_ms: f64,
    submissions: u64,
    per_iteration: usize,
    kernels: Vec<KernelProfile>,
    /// Of the last run.
    events: Vec<Event>,
}

fn generate(arguments: &Bench, model: &Model) -> Result<Vec<Part>, Box<dyn Error>> {
    let (length, steps) = (arguments.prompt_tokens.max(1), arguments.new_tokens.max(1));
    let ids: Vec<i32> = workload::ids(length + steps + 1).collect();
    let entry = model.entry("step").ok_or("the artifact has no entry `step`")?;
    let output = entry.outputs.iter().find(|(name, _)| name == "best").map_or("logits", |(name, _)| name);
    let mut session = model.session_with(&[("b", 1), ("c", ids.len().next_multiple_of(64))])?;
    let takes = |input: &str| entry.inputs.iter().any(|(name, _)| name == input);
    let mut run = |part: &mut Part, from: usize, count: usize| -> Result<(), Box<dyn Error>> {
        let (shape, past, last, whole) = ([1, count], [from as i32], [count as i32 - 1], [(from + count) as i32]);
        let own = [count as i32];
        let inputs = [
            ("input_ids", TensorRef::i32(&shape, &ids[from..from + count])?),
            ("past", TensorRef::i32(&[1], &past)?),
            ("last", TensorRef::i32(&[1], &last)?),
            ("length", TensorRef::i32(&[1], &whole)?),
            ("count", TensorRef::i32(&[1], &own)?),
        ];
        let taken: Vec<_> = inputs.into_iter().filter(|(name, _)| takes(name)).collect();
        part.run(&mut session, "step", &taken, Some(output))
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
        let (kernels, events) = (Vec::new(), Vec::new());
        Part { name, title, runs: 1, wall_ms: 0.0, submissions: 0, per_iteration: 0, kernels, events }
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
        let mut places = Vec::new();
        for new in &profile.kernels {
            let same = |old: &KernelProfile| (old.kernels, &old.code) == (new.kernels, &new.code);
            let place = self.kernels.iter().position(same);
            places.push(place.unwrap_or(self.kernels.len()));
            match place {
                Some(place) => {
                    let old = &mut self.kernels[place];
                    old.count += new.count;
                    old.nanoseconds += new.nanoseconds;
                    old.bytes += new.bytes;
                    old.operations += new.operations;
                }
                None => self.kernels.push(new.clone()),
            }
        }
        let placed =
            profile.events.iter().map(|event| Event { kernel: places[event.kernel as usize] as u32, ..*event });
        self.events = placed.collect();
    }

    /// The events of the last run in the format of Chrome's traces, in microseconds.
    fn trace(&self, process: usize) -> impl Iterator<Item = Value> + '_ {
        let name = json!({ "name": "process_name", "ph": "M", "pid": process, "args": { "name": self.title } });
        let event = move |event: &Event| {
            let KernelProfile { kernels, label, code, .. } = &self.kernels[event.kernel as usize];
            json!({
                "name": label,
                "cat": code,
                "ph": "X",
                "pid": process,
                "tid": event.worker,
                "ts": event.start as f64 / 1e3,
                "dur": (event.end - event.start) as f64 / 1e3,
                "args": { "kernel": kernels[0], "code": code },
            })
        };
        std::iter::once(name).chain(self.events.iter().map(event))
    }

    /// The kernels in numbers, those that take longest first.
    fn rows(&self) -> Vec<Row<'_>> {
        let runs = f64::from(self.runs);
        let total: u64 = self.kernels.iter().map(|k| k.nanoseconds).sum();
        let row = |kernel| Row::new(kernel, runs, total as f64);
        let mut rows: Vec<Row<'_>> = self.kernels.iter().map(row).collect();
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
            "operations": sum(|row| row.operations),
            "kernel_ms": sum(|row| row.ms),
            "wall_ms": self.wall_ms / runs,
            "kernels": rows.iter().map(Row::to_json).collect::<Vec<_>>(),
        })
    }

    /// Prints a table for people; with the peaks, what share of them is reached.
    fn print(&self, peaks: Option<Peaks>) {
        let (object, rows) = (self.to_json(), self.rows());
        println!("\nprofile of {}", self.title);
        let number = |key: &str| object[key].as_f64().unwrap_or(0.0);
        for key in ["dispatches", "dispatches_per_iteration", "submissions"] {
            println!("{key:<24} {}", number(key));
        }
        println!("{:<24} {}", "bytes", output::bytes(number("bytes") as u64));
        for key in ["kernel_ms", "wall_ms"] {
            println!("{key:<24} {:.3}", number(key));
        }
        let labels = rows.iter().map(|row| row.label.len()).max().unwrap_or(0).max(7);
        let codes = rows.iter().map(|row| row.code.len()).max().unwrap_or(0).max(4);
        println!(
            "\n{:<labels$}  {:<codes$} {:>6} {:>9} {:>6} {:>15} {:>14}",
            "kernels", "code", "calls", "ms", "share", "GB/s", "GFLOP/s"
        );
        for row in rows {
            let of = |rate: f64, peak: fn(&Peaks) -> f64| match &peaks {
                Some(peaks) => format!("{rate:.1} {:>4.0} %", 100.0 * rate / peak(peaks)),
                None => format!("{rate:.2}"),
            };
            let (bytes, operations) = (of(row.gb_per_s(), |p| p.bandwidth), of(row.gflops(), |p| p.gflops));
            let operations = if row.operations > 0.0 { operations } else { String::new() };
            let Row { label, code, calls, ms, share, .. } = row;
            let share = 100.0 * share;
            println!(
                "{label:<labels$}  {code:<codes$} {calls:>6.0} {ms:>9.3} {share:>5.1}% {bytes:>15} {operations:>14}"
            );
        }
    }
}

/// A kernel in numbers, of one run.
struct Row<'a> {
    label: String,
    code: &'a str,
    calls: f64,
    bytes: f64,
    operations: f64,
    ms: f64,
    /// Of the time of all kernels.
    share: f64,
}

impl Row<'_> {
    fn new(kernel: &KernelProfile, runs: f64, total: f64) -> Row<'_> {
        let ([first, last], nanoseconds) = (kernel.kernels, kernel.nanoseconds as f64);
        let numbers = if first == last { first.to_string() } else { format!("{first}-{last}") };
        Row {
            label: format!("{numbers} {}", kernel.label),
            code: &kernel.code,
            calls: f64::from(kernel.count) / runs,
            bytes: kernel.bytes as f64 / runs,
            operations: kernel.operations as f64 / runs,
            ms: nanoseconds / runs / 1e6,
            share: nanoseconds / total.max(1.0),
        }
    }

    fn gb_per_s(&self) -> f64 {
        self.bytes / self.ms.max(1e-6) / 1e6
    }

    fn gflops(&self) -> f64 {
        self.operations / self.ms.max(1e-6) / 1e6
    }

    fn to_json(&self) -> Value {
        json!({
            "kernels": self.label,
            "code": self.code,
            "calls": self.calls,
            "bytes": self.bytes,
            "operations": self.operations,
            "ms": self.ms,
            "share": self.share,
            "gb_per_s": self.gb_per_s(),
            "gflops": self.gflops(),
        })
    }
}
