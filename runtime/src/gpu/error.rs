//! Why a GPU does not execute something.

/// Why there is no GPU, or why it did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    /// The crate was built without its feature `gpu`.
    #[error("this build of castiron has no GPU support; build it with the cargo feature `gpu`")]
    NotBuilt,
    /// A setting of the environment that means nothing.
    #[error(
        "CASTIRON_GPU has `{setting}`, which is none of `no-f16`, `no-subgroups`, `no-timestamps`, \
         `no-timestamps-inside-passes`, `class=cpu`, `class=gpu`"
    )]
    Setting {
        /// What was found.
        setting: String,
    },
    /// The machine has no adapter.
    #[error(
        "there is no GPU adapter: install a Vulkan driver (on Linux `mesa-vulkan-drivers` has those of most \
         GPUs and lavapipe, which runs on the CPU) and check that `vulkaninfo --summary` lists a device"
    )]
    NoAdapter,
    /// No adapter of this number or name.
    #[error("there is no GPU adapter `{name}`, only {known}")]
    UnknownAdapter {
        /// What was asked for.
        name: String,
        /// Numbers and names of those there are.
        known: String,
    },
    /// An adapter that gives no device.
    #[error("adapter `{adapter}` gives no device: {reason}")]
    NoDevice {
        /// Its name.
        adapter: String,
        /// What the driver says.
        reason: String,
    },
    /// An adapter that cannot measure.
    #[error("adapter `{adapter}` has no timestamp queries, so that runs cannot be profiled")]
    NoTimestamps {
        /// Its name.
        adapter: String,
    },
    /// An artifact without launches.
    #[error("the artifact holds no GPU code; compile it with `--target wgsl`")]
    NotCompiled,
    /// More than a limit of the adapter.
    #[error("{what} takes {needed} bytes, {} more than the {limit} of {most} that the adapter has", needed.saturating_sub(*most))]
    TooLarge {
        /// What is too large.
        what: String,
        /// Its bytes.
        needed: u64,
        /// Name of the limit.
        limit: &'static str,
        /// Its value.
        most: u64,
    },
    /// Another limit of the adapter that a launch exceeds.
    #[error("{what} needs {needed} {unit}, {} more than the {limit} of {most} that the adapter has", needed.saturating_sub(*most))]
    Limit {
        /// What is too large.
        what: String,
        /// How much it needs.
        needed: u64,
        /// What is counted.
        unit: &'static str,
        /// Name of the limit.
        limit: &'static str,
        /// Its value.
        most: u64,
    },
    /// A part of a weight that begins where nothing can be bound.
    #[error("weight `{label}` is bound from byte {offset}, the adapter binds at multiples of {alignment}")]
    Alignment {
        /// What the weight is made from.
        label: String,
        /// First byte.
        offset: u64,
        /// The adapter's alignment.
        alignment: u64,
    },
    /// No way to execute a launch is open to this adapter with these extents.
    #[error("no choice of entry `{entry}`, kernels {first} to {last}, suits the adapter and the extents")]
    NoChoice {
        /// The entry.
        entry: String,
        /// First kernel of the launch.
        first: u32,
        /// Last kernel of the launch.
        last: u32,
    },
    /// A shader that cannot be made into a pipeline.
    #[error("shader `{name}`: {reason}")]
    Shader {
        /// Its name.
        name: String,
        /// What is wrong, with the place in its text.
        reason: String,
    },
    /// No memory on the device.
    #[error("the device has no memory for {0}")]
    OutOfMemory(String),
    /// Something that the device's interface does not allow.
    #[error("{what}: {reason}")]
    Invalid {
        /// What was done.
        what: String,
        /// Why it is not allowed.
        reason: String,
    },
    /// The driver failed.
    #[error("{what}: the driver failed: {reason}")]
    Internal {
        /// What was done.
        what: String,
        /// What it says.
        reason: String,
    },
    /// The device is gone, with all that lay on it. Opening the model again gives a new one.
    #[error("the GPU device is lost ({0}); open the model again")]
    Lost(String),
}
