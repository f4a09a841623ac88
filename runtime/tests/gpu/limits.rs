//! Limits of adapters, lowered so that small programs exceed them.

use castiron_runtime::artifact::Artifact;
use castiron_runtime::gpu::{GpuError, GpuOptions, Limits, Mask};
use castiron_runtime::session::{Model, RunError};
use castiron_runtime::tensor::TensorRef;

use crate::fixtures::{embedding, looped, scale, spread};
use crate::shaders::*;
use crate::support::*;

fn open(fixture: &Fixture, limits: Limits) -> Result<Model, RunError> {
    let gpu = GpuOptions { mask: Mask { limits, ..Mask::default() }, ..GpuOptions::default() };
    Model::new(Artifact::from_bytes(&fixture.bytes()).unwrap(), on(gpu))
}

/// No larger buffers than this.
fn sizes(most: u64) -> Limits {
    Limits { max_buffer_size: Some(most), ..Limits::default() }
}

/// Nothing larger is bound.
fn bindings(most: u64) -> Limits {
    Limits { max_storage_buffer_binding_size: Some(most), ..Limits::default() }
}

/// What is said of a run of so many rows of inputs.
fn run(fixture: &Fixture, limits: Limits, shape: &[usize]) -> Result<(), RunError> {
    let model = open(fixture, limits)?;
    let states: &[_] = if fixture.states.is_empty() { &[] } else { &[("b", shape[0])] };
    let x = vec![1.0; shape.iter().product()];
    let mut session = model.session(states)?;
    session.run("main", &[("x", TensorRef::f32(shape, &x)?)]).map(drop)
}

/// The error names what is too large, its bytes and the limit; one word less is no error.
#[track_caller]
fn too_large(fixture: &Fixture, limits: fn(u64) -> Limits, bytes: u64, shape: &[usize], expected: &str) {
    run(fixture, limits(bytes), shape).unwrap();
    let error = run(fixture, limits(bytes - 4), shape).unwrap_err();
    assert!(matches!(error, RunError::Gpu(GpuError::TooLarge { .. })), "{error:?}");
    let most = bytes - 4;
    let limit = if limits(0).max_buffer_size.is_some() { "max_buffer_size" } else { "max_storage_buffer_binding_size" };
    let message = format!("{expected} takes {bytes} bytes, 4 more than the {limit} of {most} that the adapter has");
    assert_eq!(error.to_string(), message);
}

#[test]
fn what_exceeds_the_size_of_a_buffer_is_named() {
    too_large(&scale(), sizes, 160, &[10, 4], "memory for inputs");
    too_large(&spread(), sizes, 100 * 1000, &[100], "memory for intermediate results");
    let mut small = spread();
    small.launches.as_mut().unwrap().entries[0].stages[0].launches[0].choices[0].scratch.clear();
    too_large(&small, sizes, 100 * 400, &[100], "memory for outputs");
    let error = run(&looped(), sizes(16), &[1, 5]).unwrap_err();
    let expected = "weight `w` takes 20 bytes, 4 more than the max_buffer_size of 16 that the adapter has";
    assert_eq!(error.to_string(), expected);
    let error = run(&looped(), sizes(400), &[21, 5]).unwrap_err();
    let expected = "state `sum.{i}` takes 420 bytes, 20 more than the max_buffer_size of 400 that the adapter has";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn what_exceeds_the_size_of_a_binding_is_named() {
    too_large(&scale(), bindings, 160, &[10, 4], "input `x` of entry `main`");
    too_large(&spread(), bindings, 40_000, &[100], "output `y` of entry `main`");
    let mut session = open(&embedding(), bindings(56)).unwrap().session(&[]).unwrap();
    let error = session.run("main", &[("ids", TensorRef::i32(&[1], &[0]).unwrap())]).err().unwrap();
    let expected = "weight `w` of entry `main` takes 60 bytes, 4 more than the max_storage_buffer_binding_size of 56 \
                    that the adapter has";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn shaders_with_too_many_buffers_are_named() {
    let limits = |most| Limits { max_storage_buffers_per_shader_stage: Some(most), ..Limits::default() };
    run(&scale(), limits(2), &[1, 4]).unwrap();
    let error = run(&scale(), limits(1), &[1, 4]).unwrap_err();
    assert!(matches!(error, RunError::Gpu(GpuError::Limit { .. })), "{error:?}");
    let expected = "shader `triple` needs 2 storage buffers, 1 more than the \
                    max_storage_buffers_per_shader_stage of 1 that the adapter has";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn the_limits_of_a_model_are_those_of_its_device() {
    let lowered = open(&scale(), sizes(1 << 20)).unwrap();
    assert_eq!(lowered.adapter().unwrap().0.max_buffer_size, 1 << 20);
    let whole = model(&scale());
    let most = whole.adapter().unwrap().0.max_buffer_size;
    let unchanged = open(&scale(), sizes(u64::MAX)).unwrap();
    assert_eq!(unchanged.adapter().unwrap().0.max_buffer_size, most);
}
