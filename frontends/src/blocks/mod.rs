//! The vocabulary that architectures are written in: names and tensors ([`ModelBuilder`],
//! [`Inventory`], [`Size`]), parts of layers ([`LinearKind`], [`Norm`], [`Attention`], [`Mlp`],
//! [`GatedMlp`], [`Rotary`]), whole layers ([`Layer`]) and whole models ([`Embedding`], [`Decoder`],
//! [`EncoderDecoder`], [`Pooling`]).
//!
//! A block is a struct of what families differ in and a method of [`ModelBuilder`] that writes it as
//! plain ops. No block knows which model uses it.

mod alibi;
mod attention;
mod context;
mod cross;
mod decoder;
mod dense;
mod embedding;
mod encoder_decoder;
pub mod frequencies;
mod inventory;
mod layer;
mod pooling;
mod relative;
mod rotary;
mod runs;
mod scope;
mod size;

pub use attention::{Attention, HeadNormScope, HeadNorms, Projections};
pub use context::{Context, Source, Tokens};
pub use decoder::{Alibi, Decoder, Scores, SequenceHead};
pub use dense::{Gate, GatedMlp, Layout, LinearKind, Mlp, Norm, NormWeight};
pub use embedding::{Embedding, Positions};
pub use encoder_decoder::{EncoderDecoder, Shift, Stack};
pub use inventory::{Inventory, SameValues, TensorError};
pub use layer::{Cross, FeedForward, Layer, NamedNorm};
pub use pooling::{Pooling, PoolingMode};
pub use relative::{FARTHEST, RelativeBias};
pub use rotary::{DynamicNtk, Growth, Rotary, RotaryTables};
pub use scope::ModelBuilder;
pub use size::Size;
