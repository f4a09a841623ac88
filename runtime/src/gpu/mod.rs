//! Execution on GPUs, through wgpu.
//!
//! The compiler has written the shaders and said in [`crate::program::gpu`] what they bind; nothing
//! here looks inside them. A run is one submission: inputs are uploaded, all dispatches follow one
//! another in one pass, and what is asked for is read back with the reports of bad indices.
//!
//! ```text
//!  options.rs   what is used and withheld      model.rs      weights and pipelines of a model
//!  info.rs      what is known about adapters   weights.rs    uploading them
//!  error.rs     what goes wrong                pipelines.rs  compiling shaders, in parallel
//!  adapter.rs   listing and choosing           choice.rs     ways to execute that are open
//!  device.rs    failures become errors         bind.rs       an entry in numbers, with spans.rs
//!  probe.rs     how large subgroups are        groups.rs     what each dispatch binds
//!  staging.rs   reading back                   memory.rs     what runs share
//!  session.rs   runs, with report.rs           states.rs     states on the device
//!  profile.rs   where time went                timer.rs      measuring it
//! ```
//!
//! Without the cargo feature `gpu`, `absent.rs` stands for all of it.

mod error;
mod info;
mod options;
mod profile;

#[cfg(not(feature = "gpu"))]
mod absent;
#[cfg(feature = "gpu")]
mod adapter;
#[cfg(feature = "gpu")]
mod bind;
#[cfg(feature = "gpu")]
mod choice;
#[cfg(feature = "gpu")]
mod device;
#[cfg(feature = "gpu")]
mod groups;
#[cfg(feature = "gpu")]
mod memory;
#[cfg(feature = "gpu")]
mod model;
#[cfg(feature = "gpu")]
mod pipelines;
#[cfg(feature = "gpu")]
mod probe;
#[cfg(feature = "gpu")]
mod report;
#[cfg(feature = "gpu")]
mod session;
#[cfg(feature = "gpu")]
mod spans;
#[cfg(feature = "gpu")]
mod staging;
#[cfg(feature = "gpu")]
mod states;
#[cfg(feature = "gpu")]
mod timer;
#[cfg(feature = "gpu")]
mod weights;

#[cfg(not(feature = "gpu"))]
pub(crate) use absent::GpuModel;
#[cfg(not(feature = "gpu"))]
pub use absent::adapters;
#[cfg(feature = "gpu")]
pub use adapter::adapters;
pub use error::GpuError;
pub use info::{AdapterInfo, DeviceMemory};
#[cfg(feature = "gpu")]
pub(crate) use model::GpuModel;
pub use options::{GpuOptions, Limits, Mask};
pub use profile::{DispatchProfile, RunProfile};
