//! A device with its queue, whose every failure becomes an error.
//!
//! wgpu reports failures in three ways: to error scopes of the calling thread, to a handler where no
//! scope is open, and to another one when the device is lost. What is made or recorded here stands in
//! scopes; the handlers remember what arrives outside them until somebody asks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use wgpu::{BufferUsages, DeviceType, ErrorFilter, PollType};

use super::pipeline_cache::PipelineCache;
use super::timer::Clock;
use super::{AdapterInfo, DeviceMemory, GpuError, GpuOptions, Limits, Mask, adapter, probe};
use crate::program::gpu::{AdapterClass, Features};

/// Storage buffers and copies are counted in words.
pub(super) const WORD: u64 = 4;

/// A device of an adapter.
pub(crate) struct Gpu {
    pub(super) device: wgpu::Device,
    queue: wgpu::Queue,
    /// The adapter, with the limits of the device.
    pub info: AdapterInfo,
    /// What shaders may use.
    pub features: Features,
    /// What the adapter is at its heart.
    pub class: AdapterClass,
    /// How runs are measured, if they are.
    pub(super) clock: Option<Clock>,
    /// What the driver has compiled before.
    pub(super) cache: Option<PipelineCache>,
    /// How often commands have been submitted.
    submissions: AtomicU64,
    /// Whether the host writes to the memory that shaders read.
    is_shared: bool,
    faults: Arc<Faults>,
}

/// What the handlers were told.
#[derive(Default)]
struct Faults {
    lost: Mutex<Option<String>>,
    /// The first failure outside any scope.
    stray: Mutex<Option<GpuError>>,
}

impl Gpu {
    /// Opens an adapter.
    ///
    /// # Errors
    /// No such adapter, an adapter that gives no device or cannot measure though it is asked to, or
    /// settings of the environment that mean nothing.
    pub fn open(options: &GpuOptions, profile: bool) -> Result<Gpu, GpuError> {
        let mask = options.mask.and(Mask::from_environment()?);
        let (adapter, mut info) = adapter::choose(options.adapter.as_deref())?;
        let is_cpu = adapter.get_info().device_type == DeviceType::Cpu;
        let wanted = wanted_features(&adapter, mask, is_cpu, profile);
        if profile && !wanted.contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Err(GpuError::NoTimestamps { adapter: info.name });
        }
        let mut limits = adapter.limits();
        lower(&mut limits, &mut info, mask.limits);
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("castiron"),
            required_features: wanted,
            required_limits: limits,
            ..wgpu::DeviceDescriptor::default()
        };
        let refused =
            |e: wgpu::RequestDeviceError| GpuError::NoDevice { adapter: info.name.clone(), reason: e.to_string() };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).map_err(refused)?;
        let faults = listen(&device);
        let class = mask.class.unwrap_or(if is_cpu { AdapterClass::Cpu } else { AdapterClass::Gpu });
        let is_shared = wanted.contains(wgpu::Features::MAPPABLE_PRIMARY_BUFFERS);
        let clock = profile.then(|| Clock::new(&queue, wanted));
        let (features, submissions) = (Features::NONE, AtomicU64::new(0));
        let mut gpu = Gpu { device, queue, info, features, class, clock, cache: None, submissions, is_shared, faults };
        gpu.cache = PipelineCache::open(&gpu, &adapter.get_info());
        let subgroups = wanted.contains(wgpu::Features::SUBGROUP) && probe::has_useful_subgroups(&gpu)?;
        gpu.features = Features { f16: wanted.contains(wgpu::Features::SHADER_F16), subgroups };
        Ok(gpu)
    }

    /// Whether the device is still there and nothing has failed unnoticed.
    ///
    /// # Errors
    /// The loss of the device, or a failure that nobody has been told of.
    pub fn check(&self) -> Result<(), GpuError> {
        if let Some(reason) = &*lock(&self.faults.lost) {
            return Err(GpuError::Lost(reason.clone()));
        }
        lock(&self.faults.stray).take().map_or(Ok(()), Err)
    }

    /// Does something whose failures are those of `what`.
    ///
    /// # Errors
    /// The first failure.
    pub(super) fn scoped<T>(&self, what: &str, act: impl FnOnce() -> T) -> Result<T, GpuError> {
        let filters = [ErrorFilter::Validation, ErrorFilter::OutOfMemory, ErrorFilter::Internal];
        let scopes = filters.map(|filter| self.device.push_error_scope(filter));
        let made = act();
        // Scopes are closed in the opposite order, all of them, before anything is returned.
        let errors: Vec<wgpu::Error> =
            scopes.into_iter().rev().filter_map(|scope| pollster::block_on(scope.pop())).collect();
        self.check()?;
        errors.into_iter().next().map_or(Ok(made), |error| Err(failure(what, error)))
    }

    /// A buffer of at least so many bytes, filled with zeros.
    ///
    /// # Errors
    /// More bytes than a buffer can have, or no memory.
    pub(super) fn buffer(&self, what: &str, bytes: u64, usage: BufferUsages) -> Result<wgpu::Buffer, GpuError> {
        let size = self.size(what, bytes)?;
        let descriptor = wgpu::BufferDescriptor { label: Some(what), size, usage, mapped_at_creation: false };
        self.scoped(what, || self.device.create_buffer(&descriptor))
    }

    /// A buffer that holds bytes, filled up with zeros to whole words.
    ///
    /// # Errors
    /// As [`Gpu::buffer`].
    pub(super) fn filled(&self, what: &str, bytes: &[u8], usage: BufferUsages) -> Result<wgpu::Buffer, GpuError> {
        let size = self.size(what, bytes.len() as u64)?;
        let usage = if self.is_shared { usage | BufferUsages::MAP_WRITE } else { usage };
        let descriptor = wgpu::BufferDescriptor { label: Some(what), size, usage, mapped_at_creation: true };
        let outcome = self.scoped(what, || {
            let buffer = self.device.create_buffer(&descriptor);
            let written =
                buffer.get_mapped_range_mut(..).map(|mut view| view.slice(..bytes.len()).copy_from_slice(bytes));
            buffer.unmap();
            written.map(|()| buffer)
        })?;
        outcome.map_err(|e| GpuError::Internal { what: what.to_owned(), reason: e.to_string() })
    }

    /// Whole words, as many as a buffer can have.
    fn size(&self, what: &str, bytes: u64) -> Result<u64, GpuError> {
        let (most, limit) = (self.info.max_buffer_size, "max_buffer_size");
        match bytes.max(WORD).checked_next_multiple_of(WORD).filter(|&size| size <= most) {
            Some(size) => Ok(size),
            None => Err(GpuError::TooLarge { what: what.to_owned(), needed: bytes, limit, most }),
        }
    }

    /// Hands bytes, whole words, to the queue, which writes them before what is submitted next.
    pub(super) fn write(&self, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) {
        self.queue.write_buffer(buffer, offset, bytes);
    }

    /// Hands commands to the device, after what was written.
    pub(super) fn submit(&self, commands: Option<wgpu::CommandEncoder>) {
        self.submissions.fetch_add(1, Ordering::Relaxed);
        self.queue.submit(commands.map(wgpu::CommandEncoder::finish));
    }

    /// How often commands have been submitted.
    pub(super) fn submissions(&self) -> u64 {
        self.submissions.load(Ordering::Relaxed)
    }

    /// Waits until everything that was submitted is done.
    ///
    /// # Errors
    /// The loss of the device.
    pub(super) fn wait(&self) -> Result<(), GpuError> {
        self.poll(PollType::wait_indefinitely())
    }

    fn poll(&self, kind: PollType) -> Result<(), GpuError> {
        // wgpu panics when the driver loses the device during a wait, after it has told the handler.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.device.poll(kind)));
        self.check()?;
        let reason = match outcome {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the wait for the device broke off".to_owned(),
        };
        Err(GpuError::Internal { what: "the end of a run".to_owned(), reason })
    }

    /// Ends the device.
    pub fn destroy(&self) {
        self.device.destroy();
        // The handler is told when the device is next looked at; what it says is kept.
        let _ = self.poll(PollType::Poll);
    }

    /// Memory in use, where the driver's allocator counts it.
    pub fn memory(&self) -> Option<DeviceMemory> {
        let report = self.device.generate_allocator_report()?;
        Some(DeviceMemory { allocations: report.allocations.len(), bytes: report.total_allocated_bytes })
    }
}

/// What the adapter has of the features that are made use of.
fn wanted_features(adapter: &wgpu::Adapter, mask: Mask, is_cpu: bool, profile: bool) -> wgpu::Features {
    let mut wanted = wgpu::Features::empty();
    wanted.set(wgpu::Features::SHADER_F16, !mask.no_f16);
    wanted.set(wgpu::Features::SUBGROUP, !mask.no_subgroups);
    let measures = profile && !mask.no_timestamps;
    wanted.set(wgpu::Features::TIMESTAMP_QUERY, measures);
    wanted.set(wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES, measures && !mask.no_timestamps_inside_passes);
    wanted.insert(wgpu::Features::PIPELINE_CACHE);
    // On a CPU all memory is the host's, so that weights need no second copy on their way.
    wanted.set(wgpu::Features::MAPPABLE_PRIMARY_BUFFERS, is_cpu);
    wanted & adapter.features()
}

/// Lowers the limits of a device, and what is said of them.
fn lower(limits: &mut wgpu::Limits, info: &mut AdapterInfo, to: Limits) {
    fn least<T: Ord + Copy>(limit: &mut T, said: &mut T, most: Option<T>) {
        *limit = most.map_or(*limit, |most| most.min(*limit));
        *said = *limit;
    }
    least(&mut limits.max_buffer_size, &mut info.max_buffer_size, to.max_buffer_size);
    let (limit, said) = (&mut limits.max_storage_buffer_binding_size, &mut info.max_storage_buffer_binding_size);
    least(limit, said, to.max_storage_buffer_binding_size);
    let said = &mut info.max_storage_buffers_per_shader_stage;
    least(&mut limits.max_storage_buffers_per_shader_stage, said, to.max_storage_buffers_per_shader_stage);
}

/// Installs the handlers.
fn listen(device: &wgpu::Device) -> Arc<Faults> {
    let faults = Arc::new(Faults::default());
    let (of_strays, of_loss) = (faults.clone(), faults.clone());
    device.on_uncaptured_error(Arc::new(move |error| {
        lock(&of_strays.stray).get_or_insert_with(|| failure("the device", error));
    }));
    device.set_device_lost_callback(move |reason, message| {
        let message = if message.is_empty() { format!("{reason:?}") } else { message };
        lock(&of_loss.lost).get_or_insert(message);
    });
    faults
}

fn failure(what: &str, error: wgpu::Error) -> GpuError {
    let what = what.to_owned();
    match error {
        wgpu::Error::OutOfMemory { .. } => GpuError::OutOfMemory(what),
        wgpu::Error::Validation { description, .. } => GpuError::Invalid { what, reason: description },
        wgpu::Error::Internal { description, .. } => GpuError::Internal { what, reason: description },
    }
}

/// What was remembered is whole even if someone panicked.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
