//! The vocabulary that architectures are written in: names and tensors ([`ModelBuilder`],
//! [`Inventory`], [`Size`]), layers ([`Linear`], [`Norm`], [`Attention`], [`Mlp`], [`GatedMlp`],
//! [`Rotary`], [`Pooling`]) and whole entries ([`Decoder`]).
//!
//! A block is a struct of what families differ in and a method of [`ModelBuilder`] that writes it as
//! plain ops. No block knows which model uses it.

mod attention;
mod context;
mod decoder;
mod dense;
pub mod frequencies;
mod inventory;
mod pooling;
mod rotary;
mod scope;
mod size;

pub use attention::{Attention, Projections};
pub use context::{Context, Tokens};
pub use decoder::{Decoder, hidden_entries, language_model_entries};
pub use dense::{GatedMlp, Layout, Linear, LinearKind, Mlp, Norm};
pub use inventory::{Inventory, SameValues, TensorError};
pub use pooling::{Pooling, PoolingMode};
pub use rotary::{Growth, Rotary, RotaryTables};
pub use scope::ModelBuilder;
pub use size::Size;
