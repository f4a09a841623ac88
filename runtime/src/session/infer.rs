//! What follows from a call: the values of the entry's symbols, and which outputs are read.

use super::RunError;
use super::extents::Extents;
use super::model::names;
use crate::bind::symbols::{Mismatch, SymbolTable};
use crate::program::EntryProgram;
use crate::tensor::TensorRef;

/// Finds the values of an entry's symbols, in the order of its table, and checks its inputs.
///
/// # Errors
/// Inputs that do not fit the entry or one another.
pub(super) fn infer(
    entry: &EntryProgram,
    table: &SymbolTable,
    extents: &Extents,
    inputs: &[(&str, TensorRef<'_>)],
    values: &mut Vec<usize>,
) -> Result<(), RunError> {
    values.clear();
    values.resize(table.names().len(), 0);
    for (symbol, name) in table.of_states() {
        values[symbol] = extents.get(name).unwrap_or(0);
    }
    for (i, (name, tensor)) in inputs.iter().enumerate() {
        let at = entry.inputs.iter().position(|(n, _)| n == name);
        let is_repeated = inputs[..i].iter().any(|(other, _)| other == name);
        let Some(at) = at.filter(|_| !is_repeated) else { return Err(unknown_input(entry, name)) };
        let expected = entry.inputs[at].1.dtype;
        if tensor.dtype() != expected {
            return Err(RunError::InputType { name: (*name).to_owned(), found: tensor.dtype(), expected });
        }
        let fit = table.infer(at, tensor.shape(), values);
        fit.map_err(|mismatch| misshapen(entry, at, tensor.shape(), mismatch))?;
    }
    for (at, (name, _)) in entry.inputs.iter().enumerate() {
        let given = inputs.iter().find(|(n, _)| n == name);
        let Some((_, tensor)) = given else {
            return Err(RunError::MissingInput { entry: entry.name.clone(), name: name.clone() });
        };
        let fit = table.check(at, tensor.shape(), values);
        fit.map_err(|mismatch| misshapen(entry, at, tensor.shape(), mismatch))?;
    }
    Ok(())
}

/// Finds which outputs of an entry are asked for; all if nothing is said.
///
/// # Errors
/// An output that the entry does not have.
pub(super) fn choose(entry: &EntryProgram, asked: Option<&[&str]>, wanted: &mut Vec<bool>) -> Result<(), RunError> {
    wanted.clear();
    wanted.resize(entry.outputs.len(), asked.is_none());
    for name in asked.unwrap_or_default() {
        let at = entry.outputs.iter().position(|(n, _)| n == name).ok_or_else(|| {
            let known = names(entry.outputs.iter().map(|(n, _)| n.as_str()));
            RunError::UnknownOutput { entry: entry.name.clone(), name: (*name).to_owned(), known }
        })?;
        wanted[at] = true;
    }
    Ok(())
}

fn unknown_input(entry: &EntryProgram, name: &str) -> RunError {
    let known = names(entry.inputs.iter().map(|(n, _)| n.as_str()));
    RunError::UnknownInput { entry: entry.name.clone(), name: name.to_owned(), known }
}

fn misshapen(entry: &EntryProgram, at: usize, shape: &[usize], mismatch: Mismatch) -> RunError {
    let (name, ty) = &entry.inputs[at];
    let reason = match mismatch {
        Mismatch::Rank(rank) => format!("it should have {rank} axes"),
        Mismatch::Empty(axis) => format!("axis {axis} is empty"),
        Mismatch::Extent(axis, expected) => {
            format!("axis {axis}, {}, should be {expected}", ty.shape[axis])
        }
    };
    RunError::InputShape { name: name.clone(), found: shape.to_vec(), expected: ty.to_string(), reason }
}
