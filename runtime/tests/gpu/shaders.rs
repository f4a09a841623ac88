//! Launches and shaders written by hand.

use castiron_ir::Dim;
use castiron_runtime::gpu::GpuOptions;
use castiron_runtime::program::gpu::{
    Binding, Choice, Condition, Dispatch, Features, GpuEntry, GpuProgram, GpuStage, Launch, Resource, Shader,
};
use castiron_runtime::program::view::Place;
use castiron_runtime::session::{Device, Model, Options};
use castiron_runtime::tensor::TensorRef;

use crate::support::*;

/// Invocations of a workgroup.
pub const WIDTH: u32 = 64;

/// Options for the default adapter.
pub fn options() -> Options {
    on(GpuOptions::default())
}

pub fn on(gpu: GpuOptions) -> Options {
    Options { device: Device::Gpu(gpu), ..Options::default() }
}

/// Opens a fixture on the default adapter.
pub fn model(fixture: &Fixture) -> Model {
    fixture.model(options())
}

/// A shader whose invocation `i` does `body` if it is one of `count`, an expression of the symbols.
pub fn shader(name: &str, symbols: &[&str], declarations: &str, count: &str, body: &str) -> Shader {
    let fields: String = symbols.iter().map(|symbol| format!("{symbol}: u32, ")).collect();
    let uniform = if symbols.is_empty() {
        String::new()
    } else {
        format!("struct Symbols {{ {fields} }}\n@group(0) @binding(0) var<uniform> d: Symbols;\n")
    };
    let source = format!(
        "{uniform}{declarations}
@compute @workgroup_size({WIDTH})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {{
    let i = (group.x + 65535u * group.y) * {WIDTH}u + local;
    if i >= {count} {{ return; }}
    {body}
}}
"
    );
    Shader { name: name.into(), features: Features::NONE, source }
}

/// The declaration of a storage buffer of `array<T>`.
pub fn storage(binding: u32, access: &str, name: &str, element: &str) -> String {
    format!("@group(0) @binding({binding}) var<storage, {access}> {name}: array<{element}>;\n")
}

pub fn reads(place: Place) -> Binding {
    Binding { resource: Resource::Place(place), read_write: false }
}

pub fn writes(place: Place) -> Binding {
    Binding { resource: Resource::Place(place), read_write: true }
}

pub fn dispatch(shader: u32, bindings: Vec<Binding>, count: Dim) -> Dispatch {
    Dispatch { shader, bindings, grids: vec![vec![(count, WIDTH)]] }
}

pub fn choice(dispatches: Vec<Dispatch>) -> Choice {
    Choice { condition: Condition::default(), scratch: vec![], dispatches }
}

/// A launch of one kernel with one way to execute it.
pub fn launch(kernel: u32, dispatch: Dispatch) -> Launch {
    Launch { first: kernel, last: kernel, choices: vec![choice(vec![dispatch])] }
}

pub fn stage(count: u32, launches: Vec<Launch>) -> GpuStage {
    GpuStage { count, launches }
}

pub fn launches(shaders: Vec<Shader>, symbols: &[&str], stages: Vec<GpuStage>) -> GpuProgram {
    let symbols = symbols.iter().map(|&name| name.to_owned()).collect();
    GpuProgram { shaders, entries: vec![GpuEntry { symbols, stages }] }
}

/// Runs an entry on the CPU and on the default adapter, and expects the same of both.
#[track_caller]
pub fn agree(fixture: &Fixture, states: &[(&str, usize)], inputs: &[(&str, TensorRef<'_>)]) {
    let mut cpu = fixture.model(Options::default()).session(states).unwrap();
    let mut gpu = model(fixture).session(states).unwrap();
    for _ in 0..2 {
        let (expected, found) = (cpu.run("main", inputs).unwrap(), gpu.run("main", inputs).unwrap());
        for (name, tensor) in expected.iter() {
            let output = found.get(name).unwrap();
            assert_eq!(output.shape(), tensor.shape(), "{name}");
            assert_near(output.as_f32().unwrap(), tensor.as_f32().unwrap(), 1e-6);
        }
        for state in &fixture.states {
            for instance in 0..state.instances as usize {
                let expected = cpu.state(&state.name, instance).unwrap();
                let found = gpu.state(&state.name, instance).unwrap();
                assert_near(found.as_f32().unwrap(), expected.as_f32().unwrap(), 1e-6);
            }
        }
    }
}
