//! Lowering: clustered modules to kernel programs.
//!
//! ```text
//!  mod.rs          a module; entries, inputs, outputs
//!  region.rs       a region: views resolved, one kernel for each cluster
//!  repeat.rs       a loop: where carried values live
//!  kernels.rs      the kernels and buffers of an entry, with their lifetimes
//!  view.rs         where a value lies
//!  body.rs         the body of a cluster: fused ops expanded, operands resolved
//!  rows.rs         map and row clusters; the row programs of all kernels
//!  contraction.rs  matmul clusters       attention.rs  attention clusters
//!  recurrence.rs   fused recurrences
//!  scan.rs         recurrences           state.rs      state that is replaced where it lies
//!  axes.rs         the lanes and the row of a recurrence
//!  align.rs        its step over these axes            top_k.rs   top_k clusters
//!  fft_conv.rs     long convolutions
//! ```

mod align;
mod attention;
mod axes;
mod body;
mod contraction;
mod fft_conv;
mod kernels;
mod recurrence;
mod region;
mod repeat;
mod retype;
mod rows;
mod scan;
mod state;
mod top_k;
mod view;

use std::collections::HashMap;

use castiron_ir::{DType, Entry, Module, Type, ValueId};
use castiron_runtime::program::view::Place;
use castiron_runtime::program::{EntryProgram, StateSlot};

use crate::weights::{LoopIndex, WeightTable};
use kernels::Kernels;
pub use retype::retype;
use view::ValueView;

/// A module that cannot be lowered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LowerError {
    /// An op, or a use of one, that has no kernel.
    #[error("`{op}` cannot be lowered: {what}")]
    Unsupported {
        /// The op.
        op: String,
        /// What of it.
        what: String,
    },
    /// Nested loops.
    #[error("a `repeat` inside a `repeat` cannot be lowered")]
    NestedLoops,
    /// A cluster whose program or number of operands exceeds what code generators take.
    #[error("kernel `{0}` is too large")]
    TooLarge(String),
    /// A state that no entry declares, or that entries declare differently.
    #[error("state `{0}` is not declared, or declared in two ways")]
    State(String),
}

impl LowerError {
    fn unsupported(op: &str, what: impl Into<String>) -> LowerError {
        LowerError::Unsupported { op: op.to_owned(), what: what.into() }
    }
}

/// Entries with the weights and states that they ask for.
#[derive(Debug)]
pub struct Lowered {
    /// Entries.
    pub entries: Vec<EntryProgram>,
    /// States.
    pub states: Vec<StateSlot>,
    /// Weights, not yet encoded.
    pub weights: WeightTable,
}

/// Lowers a clustered module.
///
/// # Errors
/// What has no kernel, with the op's name.
pub fn lower(module: &Module) -> Result<Lowered, LowerError> {
    let mut weights = WeightTable::default();
    let mut states: Vec<StateSlot> = Vec::new();
    let mut entries = Vec::new();
    for entry in &module.entries {
        for state in &entry.states {
            let instances = state.instances.unwrap_or(1) as u32;
            let slot = StateSlot { name: state.name.clone(), instances, ty: state.ty.clone() };
            match states.iter().find(|s| s.name == slot.name) {
                Some(known) if *known != slot => return Err(LowerError::State(slot.name)),
                Some(_) => {}
                None => states.push(slot),
            }
        }
        entries.push(
            Lowering { weights: &mut weights, states: &states, kernels: Kernels::default(), index: None }
                .entry(entry)?,
        );
    }
    Ok(Lowered { entries, states, weights })
}

/// The lowering of one entry.
struct Lowering<'a> {
    weights: &'a mut WeightTable,
    states: &'a [StateSlot],
    kernels: Kernels,
    index: Option<LoopIndex>,
}

impl Lowering<'_> {
    fn entry(mut self, entry: &Entry) -> Result<EntryProgram, LowerError> {
        let body = &entry.body;
        let named = |names: &[String], values: &[ValueId]| -> Vec<(String, Type)> {
            names.iter().cloned().zip(body.types_of(values)).collect()
        };
        let inputs = named(&body.argument_names, &body.arguments);
        let outputs = named(&entry.outputs, &body.results);
        let place = |(i, (_, ty)): (usize, &(String, Type))| ValueView::contiguous(Place::Input(i as u32), ty);
        let arguments = inputs.iter().enumerate().map(place).collect();
        let mut targets = HashMap::new();
        for (i, &result) in body.results.iter().enumerate() {
            let target = ValueView::contiguous(Place::Output(i as u32), &outputs[i].1);
            targets.entry(result).or_insert(target);
        }
        let (mut steps, results) = self.region(body, arguments, targets)?;
        for (i, result) in results.iter().enumerate() {
            let target = ValueView::contiguous(Place::Output(i as u32), &outputs[i].1);
            if *result != target {
                steps.push(self.copy(result, &target));
            }
        }
        let (buffers, kernels) = self.kernels.finish();
        Ok(EntryProgram { name: entry.name.clone(), inputs, outputs, buffers, kernels, steps })
    }

    /// A state by name.
    fn state(&self, name: &str) -> Result<ValueView, LowerError> {
        let number = self.states.iter().position(|s| s.name == name);
        let number = number.ok_or_else(|| LowerError::State(name.to_owned()))?;
        Ok(ValueView::contiguous(Place::State(number as u32), &self.states[number].ty))
    }

    /// A new buffer for a row-major tensor, with a word or more for each element.
    fn buffer(&mut self, ty: &Type) -> ValueView {
        let ty = ty.with_dtype(in_words(ty.dtype));
        let bytes = ty.elements() * ty.dtype.size().into();
        ValueView::contiguous(Place::Buffer(self.kernels.add_buffer(bytes)), &ty)
    }
}

/// The element type that values have in buffers: GPUs address memory by words of 32 bits.
fn in_words(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        DType::I8 | DType::U8 | DType::Bool => DType::I32,
        DType::F64 | DType::F32 | DType::I64 | DType::I32 => dtype,
    }
}

/// Whether a dtype is one that row programs read and write.
fn is_row_dtype(dtype: DType) -> bool {
    dtype != DType::F64 && dtype != DType::I64
}
