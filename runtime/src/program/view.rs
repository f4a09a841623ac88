//! Views: where a kernel's operand lies and how its address follows from the iteration index.

use castiron_ir::{DType, Dim};
use serde::{Deserialize, Serialize};

/// Memory that a view addresses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Place {
    /// Buffer number `.0` of the entry, in the arena.
    Buffer(u32),
    /// Input number `.0` of the entry.
    Input(u32),
    /// Output number `.0` of the entry.
    Output(u32),
    /// State number `.0` of the program; inside a repeat, the instance of the iteration.
    State(u32),
    /// Weight number `.0` of the program; inside a repeat, the instance of the iteration.
    Weight(u32),
    /// No memory: the iteration index along outer axis `.0`.
    Index(u32),
    /// No memory: the value of an extent.
    Extent(Dim),
}

/// A strided operand over a kernel's iteration space.
///
/// The element at iteration index `i` is `offset + Σ strides[a]·i[a]`, plus the indirect part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// Memory.
    pub place: Place,
    /// Element type in memory.
    pub dtype: DType,
    /// First element.
    pub offset: Dim,
    /// Elements from one index to the next, for each axis of the iteration space; 0 repeats.
    pub strides: Vec<Dim>,
    /// A part of the address that is read from memory.
    pub indirect: Option<Box<Indirect>>,
}

/// `stride · indices[i]` is added to the address: a gather, or the position in a cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Indirect {
    /// Where the index is; constant along the last axis.
    pub indices: View,
    /// Elements that one step of the index skips.
    pub stride: Dim,
    /// Indices lie in `0 .. extent`; with an axis of the iteration space that is added to the
    /// index, this is what remains above it.
    pub extent: Dim,
}
