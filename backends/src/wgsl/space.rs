//! Iteration spaces: axes that are walked as one are merged, so that shaders divide less.

use castiron_ir::Dim;
use castiron_runtime::program::RowOperands;
use castiron_runtime::program::view::{Place, View};

use super::shader::{Writer, dim_text};

/// An iteration space with the views over it. The last axis is never merged.
pub(super) struct Space {
    pub extents: Vec<Dim>,
    pub operands: RowOperands,
    /// Views of what the kernel itself reads, over the same outer axes.
    pub others: Vec<View>,
}

impl Space {
    pub fn new(extents: &[Dim], operands: &RowOperands, others: Vec<View>) -> Space {
        Space { extents: extents.to_vec(), operands: operands.clone(), others }.simplified(0)
    }

    /// A space whose first axis is time, which stays as it is.
    pub fn timed(extents: &[Dim], operands: &RowOperands) -> Space {
        Space::whole(extents, operands).simplified(1)
    }

    /// Merges the axes after the first `kept`.
    fn simplified(mut self, kept: usize) -> Space {
        if !self.operands.inputs.iter().any(|view| matches!(view.place, Place::Index(_))) {
            self.drop_units(kept);
            self.merge(kept);
        }
        self
    }

    /// A space whose axes stay as they are.
    pub fn whole(extents: &[Dim], operands: &RowOperands) -> Space {
        Space { extents: extents.to_vec(), operands: operands.clone(), others: Vec::new() }
    }

    /// The extent of the row.
    pub fn row(&self) -> &Dim {
        &self.extents[self.extents.len() - 1]
    }

    /// The extents of all axes but the row.
    pub fn outer(&self) -> &[Dim] {
        &self.extents[..self.extents.len() - 1]
    }

    /// Writes the index along each outer axis, given the number of a row.
    pub fn outer_indices(&self, w: &mut Writer<'_>, row: &str, prefix: &str) -> Vec<String> {
        unravel(w, self.outer(), row, prefix)
    }

    fn views(&mut self) -> impl Iterator<Item = &mut View> {
        self.operands.inputs.iter_mut().chain(&mut self.operands.outputs).chain(&mut self.others)
    }

    fn drop_units(&mut self, kept: usize) {
        for axis in (kept..self.extents.len() - 1).rev() {
            if self.extents[axis].as_constant() == Some(1) {
                self.extents.remove(axis);
                self.views().for_each(|view| for_each_strides(view, &mut |strides| drop(strides.remove(axis))));
            }
        }
    }

    fn merge(&mut self, kept: usize) {
        for axis in (kept..self.extents.len().saturating_sub(2)).rev() {
            let inner = self.extents[axis + 1].clone();
            let mut is_one_walk = true;
            self.views().for_each(|view| {
                for_each_strides(view, &mut |strides| {
                    is_one_walk &= strides[axis] == strides[axis + 1].clone() * inner.clone();
                });
            });
            if is_one_walk {
                self.views().for_each(|view| for_each_strides(view, &mut |strides| drop(strides.remove(axis))));
                let outer = self.extents.remove(axis);
                self.extents[axis] = outer * inner;
            }
        }
    }
}

fn for_each_strides(view: &mut View, visit: &mut dyn FnMut(&mut Vec<Dim>)) {
    // A number without memory has no address.
    if !matches!(view.place, Place::Extent(_)) {
        visit(&mut view.strides);
        if let Some(indirect) = &mut view.indirect {
            visit(&mut indirect.indices.strides);
        }
    }
}

/// Writes the index along each axis, given the number of an element in row-major order.
pub(super) fn unravel(w: &mut Writer<'_>, extents: &[Dim], number: &str, prefix: &str) -> Vec<String> {
    let mut names = vec!["0u".to_owned(); extents.len()];
    let mut rest = number.to_owned();
    let moving: Vec<usize> = (0..extents.len()).filter(|&a| extents[a].as_constant() != Some(1)).collect();
    for (i, &axis) in moving.iter().enumerate().rev() {
        if i == 0 {
            names[axis] = rest;
            break;
        }
        let (name, extent) = (format!("{prefix}{axis}"), dim_text(&extents[axis]));
        // A product would be divided by its first factor only.
        let extent = if extent.contains('*') && !extent.contains(['+', '-']) { format!("({extent})") } else { extent };
        w.line(format!("let {name} = {rest} % {extent};"));
        names[axis] = name;
        let next = format!("{prefix}_above{axis}");
        w.line(format!("let {next} = {rest} / {extent};"));
        rest = next;
    }
    names
}
