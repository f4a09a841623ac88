//! Execution on GPUs, through wgpu.
//!
//! The compiler has written the shaders and said in [`crate::program::gpu`] what they bind; nothing
//! here looks inside them. A run is one submission: inputs are uploaded, all dispatches follow one
//! another in one pass, and what is asked for is read back with the reports of bad indices.
//!
//! ```text
//!  options.rs  what is used and withheld       error.rs    what goes wrong
//!  info.rs     what is known about adapters    absent.rs   stands for it without the feature `gpu`
//!  executor/   all that needs wgpu
//! ```

mod error;
mod info;
mod options;

#[cfg(not(feature = "gpu"))]
mod absent;
#[cfg(feature = "gpu")]
mod executor;
#[cfg(not(feature = "gpu"))]
use absent as executor;

pub use error::GpuError;
pub(crate) use executor::GpuModel;
pub use executor::adapters;
pub use info::{AdapterInfo, DeviceMemory};
pub use options::{GpuOptions, Limits, Mask};
