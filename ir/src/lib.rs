//! castiron's intermediate representation: a typed graph of tensor ops.
//!
//! A [`graph::Module`] holds entry points; an entry's body is a [`graph::Region`], a list of ops in
//! SSA form whose types have symbolic dims. Ops live in [`op`], each declared once with its doc, type
//! rule and reference evaluation. A layer that repeats is one region however often it repeats, and
//! its parameters are named by templates. [`text`] prints and parses modules, [`verify`] checks
//! them, [`interpret`] runs them slowly and obviously, [`builder`] writes them. [`storage`] and
//! [`description`] are what a checkpoint holds besides: values of parameters, and what they are for.

pub mod blocks;
pub mod builder;
pub mod description;
pub mod dim;
pub mod dot;
pub mod graph;
pub mod interpret;
pub mod op;
pub mod storage;
pub mod template;
pub mod tensor;
pub mod text;
pub mod types;
pub mod verify;

pub use blocks::BlockFormat;
pub use builder::{BuildError, Builder, Value};
pub use description::{Description, Generation, Rules, Task, TextAssets};
pub use dim::Dim;
pub use graph::{Entry, Module, Node, Region, State, ValueId};
pub use op::{Op, OpDef};
pub use storage::{Storage, StoredTensor, TensorSource};
pub use tensor::Tensor;
pub use types::{DType, Type};
