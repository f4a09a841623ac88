//! The executor itself.
//!
//! ```text
//!  adapter.rs   listing and choosing           model.rs      weights and pipelines of a model
//!  device.rs    failures become errors         weights.rs    uploading them
//!  probe.rs     how large subgroups are        pipelines.rs  compiling shaders, in parallel
//!  bind.rs      an entry in numbers            choice.rs     ways to execute that are open
//!  spans.rs     where what is bound lies       groups.rs     what each dispatch binds
//!  session.rs   runs                           memory.rs     what runs share
//!  report.rs    bad indices                    states.rs     states on the device
//!  staging.rs   reading back                   timer.rs      measuring time
//!  pipeline_cache.rs  what drivers have compiled, from one process to the next
//! ```

mod adapter;
mod bind;
mod choice;
mod device;
mod groups;
mod memory;
mod model;
mod pipeline_cache;
mod pipelines;
mod probe;
mod report;
mod session;
mod spans;
mod staging;
mod states;
mod timer;
mod weights;

use super::{AdapterInfo, DeviceMemory, GpuError, GpuOptions, Limits, Mask};
pub use adapter::adapters;
pub(crate) use model::GpuModel;
