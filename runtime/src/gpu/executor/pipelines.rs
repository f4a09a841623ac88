//! Compute pipelines: made when an entry is first bound, then kept with the model.

use std::collections::HashMap;
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use wgpu::{BindGroupLayoutEntry, BindingType, BufferBindingType, ShaderStages};

use super::GpuError;
use super::device::{Gpu, lock};
use super::pipeline_cache::PipelineCache;
use crate::program::gpu::{Dispatch, Shader};

/// Most threads that make pipelines.
const MAX_THREADS: usize = 8;
/// Stack of each: parsers of shaders and drivers' compilers nest deeply.
const STACK: usize = 16 << 20;

/// What a pipeline is made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// Number of the shader.
    pub shader: u32,
    /// For each storage buffer, whether it is written.
    pub read_write: Vec<bool>,
}

impl Key {
    pub fn of(dispatch: &Dispatch) -> Key {
        Key { shader: dispatch.shader, read_write: dispatch.bindings.iter().map(|b| b.read_write).collect() }
    }
}

/// A pipeline with the layout of its bindings.
#[derive(Clone)]
pub(super) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

/// The pipelines of a model.
#[derive(Default)]
pub(super) struct Pipelines {
    made: Mutex<HashMap<Key, Pipeline>>,
}

impl Pipelines {
    /// A pipeline that has been made.
    pub fn get(&self, key: &Key) -> Option<Pipeline> {
        lock(&self.made).get(key).cloned()
    }

    /// Makes those pipelines that are not there yet, on several threads, since drivers take their time.
    ///
    /// # Errors
    /// The first shader that is wrong, or that the device does not take.
    pub fn make(&self, gpu: &Gpu, shaders: &[Shader], keys: &[Key]) -> Result<(), GpuError> {
        let mut missing: Vec<&Key> = Vec::new();
        {
            let made = lock(&self.made);
            for key in keys {
                if !made.contains_key(key) && !missing.contains(&key) {
                    missing.push(key);
                }
            }
        }
        let next = AtomicUsize::new(0);
        let failures: Mutex<Vec<(usize, GpuError)>> = Mutex::default();
        let work = || {
            while let Some((number, key)) = take(&next, &missing) {
                match make(gpu, &shaders[key.shader as usize], key) {
                    Ok(pipeline) => drop(lock(&self.made).insert(key.clone(), pipeline)),
                    Err(error) => lock(&failures).push((number, error)),
                }
            }
        };
        let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS).min(missing.len());
        thread::scope(|scope| {
            for _ in 0..threads {
                let spawned = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
                if let Err(error) = spawned {
                    let failure =
                        GpuError::Internal { what: "threads for compiling".into(), reason: error.to_string() };
                    lock(&failures).push((missing.len(), failure));
                }
            }
        });
        if let (false, Some(cache)) = (missing.is_empty(), &gpu.cache) {
            cache.keep();
        }
        // Which shader is at fault does not depend on which thread was faster.
        let failures = failures.into_inner().unwrap_or_default();
        failures.into_iter().min_by_key(|&(number, _)| number).map_or(Ok(()), |(_, error)| Err(error))
    }
}

fn take<'a>(next: &AtomicUsize, missing: &[&'a Key]) -> Option<(usize, &'a Key)> {
    let number = next.fetch_add(1, Ordering::Relaxed);
    missing.get(number).map(|&key| (number, key))
}

fn make(gpu: &Gpu, shader: &Shader, key: &Key) -> Result<Pipeline, GpuError> {
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(&shader.name),
        source: wgpu::ShaderSource::Wgsl(shader.source.as_str().into()),
    };
    let outcome = gpu.scoped(&shader.name, || {
        let module = gpu.device.create_shader_module(descriptor);
        let layout = layout(gpu, &key.read_write);
        let layouts = gpu.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(&shader.name),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&shader.name),
            layout: Some(&layouts),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: gpu.cache.as_ref().map(PipelineCache::get),
        });
        Pipeline { pipeline, layout }
    });
    outcome.map_err(|error| match error {
        GpuError::Invalid { what: name, reason } | GpuError::Internal { what: name, reason } => {
            GpuError::Shader { name, reason }
        }
        other => other,
    })
}

/// Symbols, then storage buffers.
fn layout(gpu: &Gpu, read_write: &[bool]) -> wgpu::BindGroupLayout {
    let storage = read_write.iter().map(|&read_write| BufferBindingType::Storage { read_only: !read_write });
    let kinds = std::iter::once(BufferBindingType::Uniform).chain(storage);
    let entries: Vec<BindGroupLayoutEntry> = (0..)
        .zip(kinds)
        .map(|(binding, kind)| BindGroupLayoutEntry {
            binding,
            visibility: ShaderStages::COMPUTE,
            ty: BindingType::Buffer { ty: kind, has_dynamic_offset: false, min_binding_size: None },
            count: None,
        })
        .collect();
    let descriptor = wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries };
    gpu.device.create_bind_group_layout(&descriptor)
}
