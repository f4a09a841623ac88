//! States: tensors that outlive a call.

use std::collections::BTreeSet;

use super::RunError;
use super::model::names;
use crate::memory::OutOfMemory;
use crate::program::{Program, StateSlot, lone_symbol};
use crate::tensor::Tensor;

/// The states of a session and the extents that their symbols stand for.
pub(super) struct States {
    symbols: Vec<(String, usize)>,
    /// Instances of each state.
    tensors: Vec<Vec<Tensor>>,
}

impl States {
    /// States of zeros.
    pub fn new(program: &Program, given: &[(&str, usize)]) -> Result<States, RunError> {
        let lone = program.states.iter().flat_map(|s| s.ty.shape.iter().filter_map(lone_symbol));
        let wanted: BTreeSet<&str> = lone.collect();
        let fault = |name: &str, reason| RunError::Symbol {
            name: name.to_owned(),
            reason,
            known: names(wanted.iter().copied()),
        };
        if let Some((name, _)) = given.iter().find(|(name, _)| !wanted.contains(name)) {
            return Err(fault(name, "is unknown"));
        }
        let value = |name: &&str| {
            let value = given.iter().find(|(n, _)| n == name).map_or(0, |&(_, value)| value);
            if value > 0 { Ok(((*name).to_owned(), value)) } else { Err(fault(name, "has no value of at least 1")) }
        };
        let symbols: Vec<(String, usize)> = wanted.iter().map(value).collect::<Result<_, _>>()?;
        let mut states = States { symbols, tensors: Vec::new() };
        for slot in &program.states {
            let instances = (0..slot.instances).map(|_| states.zeros(slot));
            let instances = instances.collect::<Result<_, _>>()?;
            states.tensors.push(instances);
        }
        Ok(states)
    }

    fn shape(&self, slot: &StateSlot) -> Result<Vec<usize>, RunError> {
        let value = |dim: &castiron_ir::Dim| dim.evaluate(&|name| self.symbol(name));
        // An extent without value would take more memory than there is.
        slot.ty.shape.iter().map(|dim| value(dim).map_err(|_| OutOfMemory(usize::MAX).into())).collect()
    }

    fn zeros(&self, slot: &StateSlot) -> Result<Tensor, RunError> {
        Ok(Tensor::zeros(slot.ty.dtype, &self.shape(slot)?)?)
    }

    /// The extent that a symbol stands for.
    pub fn symbol(&self, name: &str) -> Option<usize> {
        self.symbols.iter().find(|(n, _)| n == name).map(|&(_, value)| value)
    }

    /// The instances of each state.
    pub fn tensors(&self) -> &[Vec<Tensor>] {
        &self.tensors
    }

    /// The instances of each state.
    pub fn tensors_mut(&mut self) -> &mut [Vec<Tensor>] {
        &mut self.tensors
    }

    /// Sets everything to zero.
    pub fn reset(&mut self) {
        self.tensors.iter_mut().flatten().for_each(|tensor| tensor.bytes_mut().fill(0));
    }

    /// Gives a symbol another extent; what fits both extents is kept.
    pub fn resize(&mut self, program: &Program, name: &str, value: usize) -> Result<(), RunError> {
        let known = names(self.symbols.iter().map(|(n, _)| n.as_str()));
        let fault = |reason| RunError::Symbol { name: name.to_owned(), reason, known: known.clone() };
        let old = self.symbols.clone();
        let symbol = self.symbols.iter_mut().find(|(n, _)| n == name).ok_or_else(|| fault("is unknown"))?;
        if value == 0 {
            return Err(fault("has no value of at least 1"));
        }
        symbol.1 = value;
        self.rebuild(program).inspect_err(|_| self.symbols = old)
    }

    /// Allocates all tensors before replacing any, so that a failure changes nothing.
    fn rebuild(&mut self, program: &Program) -> Result<(), RunError> {
        let mut resized = Vec::new();
        for (slot, instances) in program.states.iter().zip(&self.tensors) {
            let mut group = Vec::new();
            for old in instances {
                let mut new = self.zeros(slot)?;
                copy_common(old, &mut new);
                group.push(new);
            }
            resized.push(group);
        }
        self.tensors = resized;
        Ok(())
    }

    /// Replaces row `i` along a symbol's axis by what was row `rows[i]`.
    pub fn select(&mut self, program: &Program, name: &str, rows: &[usize]) -> Result<(), RunError> {
        let count = self.symbol(name).unwrap_or(0);
        if let Some(&row) = rows.iter().find(|&&row| row >= count) {
            return Err(RunError::Row { symbol: name.to_owned(), row, count });
        }
        if rows.len() != count {
            return Err(RunError::Row { symbol: name.to_owned(), row: rows.len(), count });
        }
        for (slot, instances) in program.states.iter().zip(&mut self.tensors) {
            let Some(axis) = slot.ty.shape.iter().position(|dim| lone_symbol(dim) == Some(name)) else { continue };
            for tensor in instances {
                let old = tensor.view().to_owned()?;
                let shape = old.view().shape();
                let inner = shape[axis + 1..].iter().product::<usize>() * slot.ty.dtype.size();
                if inner == 0 {
                    continue;
                }
                let outer = old.view().bytes().chunks_exact(inner * count);
                for (old, new) in outer.zip(tensor.bytes_mut().chunks_exact_mut(inner * count)) {
                    for (&row, new) in rows.iter().zip(new.chunks_exact_mut(inner)) {
                        new.copy_from_slice(&old[row * inner..][..inner]);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Copies the elements whose indices both tensors have.
fn copy_common(from: &Tensor, to: &mut Tensor) {
    let (old, size) = (from.view(), from.view().dtype().size());
    let new_shape = to.view().shape().to_vec();
    copy_axis(old.bytes(), old.shape(), to.bytes_mut(), &new_shape, size);
}

fn copy_axis(from: &[u8], from_shape: &[usize], to: &mut [u8], to_shape: &[usize], size: usize) {
    if from_shape == to_shape {
        return to.copy_from_slice(from);
    }
    let ([_, from_rest @ ..], [_, to_rest @ ..]) = (from_shape, to_shape) else { return };
    let [from_inner, to_inner] = [from_rest, to_rest].map(|rest| rest.iter().product::<usize>() * size);
    if from_inner > 0 && to_inner > 0 {
        for (from, to) in from.chunks_exact(from_inner).zip(to.chunks_exact_mut(to_inner)) {
            copy_axis(from, from_rest, to, to_rest, size);
        }
    }
}
