//! Launches: how the kernels of a program are executed on a GPU.
//!
//! The compiler writes WGSL for each kernel and says here what a runtime needs to execute it without
//! looking inside: which memory is bound, and how many workgroups there are. All sizes are dims; a
//! shader finds the values of the entry's symbols in one uniform buffer and computes from them, so
//! that one shader serves every binding.
//!
//! ```text
//! binding 0            the symbols of the entry, u32 each, in the order of `GpuEntry::symbols`
//! binding 1, 2, …      storage buffers, in the order of `Dispatch::bindings`
//! ```
//!
//! Workgroups are numbered by `x + 65535·y`. A shader ignores numbers beyond its grid.

use castiron_ir::Dim;
use serde::{Deserialize, Serialize};

use super::view::Place;
use crate::weights::Encoding;

/// Most workgroups along an axis: what every adapter takes.
pub const MAX_GROUPS_PER_AXIS: u32 = 65535;

/// Most bytes of a storage buffer that every adapter binds; larger weights are bound in parts.
pub const MAX_BINDING_BYTES: u64 = 128 << 20;

/// How the entries of a program are executed on a GPU.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GpuProgram {
    /// WGSL modules, by the number that dispatches use.
    pub shaders: Vec<Shader>,
    /// One for each entry of the program, in order.
    pub entries: Vec<GpuEntry>,
}

/// A WGSL module with one entry point, `main`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shader {
    /// Name, for people: archetype, fused ops and what distinguishes it.
    pub name: String,
    /// What it needs of an adapter.
    pub features: Features,
    /// The text.
    pub source: String,
}

/// Optional features of adapters that shaders use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Features {
    /// 16-bit floats: `enable f16;`.
    pub f16: bool,
    /// Subgroup operations, with subgroups of a multiple of 8 invocations.
    pub subgroups: bool,
}

/// What an adapter is at its heart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AdapterClass {
    /// A CPU that executes shaders in vector registers: few threads, each wide.
    Cpu,
    /// A GPU: thousands of threads.
    Gpu,
}

/// An entry on a GPU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GpuEntry {
    /// The entry's symbols in the order of the uniform buffer.
    pub symbols: Vec<String>,
    /// What is executed, in order.
    pub stages: Vec<GpuStage>,
}

/// Launches that are executed in order, and that so many times. Weights and states are those of the
/// iteration, as in [`super::Step::Repeat`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GpuStage {
    /// Number of iterations.
    pub count: u32,
    /// What is executed.
    pub launches: Vec<Launch>,
}

/// The execution of one kernel, or of several that do not depend on one another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// First kernel of the entry that it executes.
    pub first: u32,
    /// Last kernel of the entry that it executes.
    pub last: u32,
    /// Ways to do it, the best first; the first whose condition holds is taken.
    pub choices: Vec<Choice>,
}

/// One way to execute kernels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// When it may be taken.
    pub condition: Condition,
    /// Bytes of temporary buffers.
    pub scratch: Vec<Dim>,
    /// What is executed, in order.
    pub dispatches: Vec<Dispatch>,
}

/// What must hold for a choice.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// Features that the adapter has.
    pub features: Features,
    /// What the adapter is; nothing if any will do.
    pub class: Option<AdapterClass>,
    /// An extent with the largest value that it may have.
    pub at_most: Option<(Dim, u32)>,
    /// A weight with the encoding that its instance must have.
    pub stored: Option<(u32, Encoding)>,
}

/// One dispatch of a shader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dispatch {
    /// Number of the shader.
    pub shader: u32,
    /// Storage buffers at bindings 1, 2, …
    pub bindings: Vec<Binding>,
    /// Numbers of workgroups, one after the other: each is a product of `ceil(extent / tile)`.
    pub grids: Vec<Vec<(Dim, u32)>>,
}

/// A storage buffer of a dispatch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Binding {
    /// What is bound.
    pub resource: Resource,
    /// Whether the shader declares it `read_write`.
    pub read_write: bool,
}

/// Memory that is bound to a shader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Resource {
    /// A buffer, input, output, state or weight as a whole.
    Place(Place),
    /// Bytes of a weight that is too large to be bound as a whole.
    Part {
        /// The weight.
        weight: u32,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        bytes: u64,
    },
    /// Temporary buffer number `.0` of the choice.
    Scratch(u32),
    /// Four words that belong to the launch, all 0 before the run. A shader that finds an index out
    /// of range writes 1 plus the number of the kernel, the operand, the index and its bound.
    Status,
}

impl Features {
    /// No optional feature.
    pub const NONE: Features = Features { f16: false, subgroups: false };

    /// Subgroup operations only.
    pub const SUBGROUPS: Features = Features { f16: false, subgroups: true };

    /// These and others.
    pub fn and(self, others: Features) -> Features {
        Features { f16: self.f16 || others.f16, subgroups: self.subgroups || others.subgroups }
    }

    /// Whether all of these are among `others`.
    pub fn are_among(self, others: Features) -> bool {
        (!self.f16 || others.f16) && (!self.subgroups || others.subgroups)
    }
}
