//! Which kernels may leave out the rows that a mask pads, because nothing depends on them.
//!
//! A batch of `b` texts of up to `s` tokens comes with a mask `[b, s]`: the one by which attention hides keys.
//! A kernel that computes row `(b, s)` of its results from row `(b, s)` of what it reads may leave a row of padding
//! out if all who read the results
//!
//! - are such kernels themselves,
//! - are attention that reads keys or values, and hides them by this mask,
//! - give the same for a mask of 0 whatever finite number they read (`x·mask`): they find zeros there,
//! - or take the first row of each text, as poolers do: then this row counts as a token.
//!
//! Results of the entry that have such rows are zeros in them.

mod access;

use std::collections::{BTreeMap, BTreeSet};

use castiron_ir::op::BinaryOp;
use castiron_ir::{DType, Dim};

use crate::program::row::{RowNode, RowProgram};
use crate::program::view::Place;
use crate::program::{EntryProgram, KernelBody, Program, lone_symbol};
use access::{Access, Role, accesses};

/// What is known about the padding of an entry.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Padding {
    /// Number of the input that is the mask: i32, 0 for padding.
    pub mask: usize,
    /// Whether the first row of each text is read by itself.
    pub keeps_first: bool,
    /// For each kernel, whether it may leave rows out.
    pub leaves_out: Vec<bool>,
    /// Memory that needs zeros in these rows: the kernel that writes it, where, bytes of a row.
    pub zeroed: Vec<(usize, Place, usize)>,
}

impl Padding {
    /// Analyses an entry; nothing if it has no mask, or no kernel may leave rows out.
    pub fn of(program: &Program, entry: &EntryProgram) -> Option<Padding> {
        let bodies: Vec<&KernelBody> = entry.kernels.iter().map(|kernel| &kernel.body).collect();
        let accesses: Vec<[Vec<Access>; 2]> = bodies.iter().map(|body| accesses(program, body)).collect();
        let (mask, rows) = find_mask(entry, &bodies)?;
        let (masks, widths) = (BTreeSet::new(), BTreeMap::new());
        let mut analysis = Analysis { entry, bodies, accesses, mask, rows, masks, widths, found: Found::default() };
        analysis.note_widths();
        analysis.masks = analysis.masks();
        loop {
            let found = analysis.observe();
            if found == analysis.found {
                break;
            }
            analysis.found = found;
        }
        let leaves_out: Vec<bool> = (0..analysis.bodies.len()).map(|kernel| analysis.leaves_out(kernel)).collect();
        let (zeroed, keeps_first) = (analysis.zeroed(&leaves_out), analysis.found.keeps_first);
        leaves_out.contains(&true).then_some(Padding { mask, keeps_first, leaves_out, zeroed })
    }
}

/// The input by which attention hides keys, with its extents.
fn find_mask(entry: &EntryProgram, bodies: &[&KernelBody]) -> Option<(usize, [Dim; 2])> {
    let mask = bodies.iter().find_map(|body| match body {
        KernelBody::Attention(attention) => attention.mask.as_ref(),
        _ => None,
    })?;
    let is_written = |body: &&&KernelBody| body.views().1.iter().any(|view| view.place == mask.place);
    let source = bodies.iter().find(is_written).and_then(|body| body.views().0.first().map(|view| &view.place));
    let Place::Input(number) = *source.unwrap_or(&mask.place) else { return None };
    let (_, ty) = &entry.inputs[number as usize];
    let [batch, length] = ty.shape.as_slice() else { return None };
    let is_mask = ty.dtype == DType::I32 && lone_symbol(batch).is_some() && lone_symbol(length).is_some();
    is_mask.then(|| (number as usize, [batch.clone(), length.clone()]))
}

/// A buffer or a result of the entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tensor {
    Buffer(u32),
    Output(u32),
}

impl Tensor {
    fn at(place: &Place) -> Option<Tensor> {
        match *place {
            Place::Buffer(number) => Some(Tensor::Buffer(number)),
            Place::Output(number) => Some(Tensor::Output(number)),
            _ => None,
        }
    }
}

/// What readers of tensors need.
#[derive(Default, PartialEq)]
struct Found {
    /// Those whose rows of padding are missed.
    observed: BTreeSet<Tensor>,
    /// Those that need zeros there.
    zeroed: BTreeSet<Tensor>,
    keeps_first: bool,
}

struct Analysis<'a> {
    entry: &'a EntryProgram,
    bodies: Vec<&'a KernelBody>,
    accesses: Vec<[Vec<Access>; 2]>,
    /// Number of the mask.
    mask: usize,
    /// Its extents.
    rows: [Dim; 2],
    /// Tensors `[b, s]` that are 0 where the mask is.
    masks: BTreeSet<Tensor>,
    /// Elements of a row of tensors that are written by rows alone.
    widths: BTreeMap<Tensor, usize>,
    found: Found,
}

impl Analysis<'_> {
    fn note_widths(&mut self) {
        let mut widths: BTreeMap<Tensor, Option<usize>> = BTreeMap::new();
        for write in self.accesses.iter().flat_map(|[_, writes]| writes) {
            let Some(tensor) = Tensor::at(&write.place) else { continue };
            let width = write.row(&self.rows).filter(|&width| self.is_by_rows(tensor, width));
            widths.entry(tensor).and_modify(|known| *known = known.filter(|_| *known == width)).or_insert(width);
        }
        self.widths = widths.into_iter().filter_map(|(tensor, width)| Some((tensor, width?))).collect();
    }

    /// Whether a tensor may have rows of that width: results of the entry have a shape.
    fn is_by_rows(&self, tensor: Tensor, width: usize) -> bool {
        let Tensor::Output(output) = tensor else { return true };
        let shape = &self.entry.outputs[output as usize].1.shape;
        let is_by_rows = shape.len() >= 2 && shape[..2] == self.rows;
        is_by_rows && Dim::product(&shape[2..]).as_constant() == Some(width as i64)
    }

    /// Tensors that one kernel writes, and that are 0 where the mask is.
    fn masks(&self) -> BTreeSet<Tensor> {
        let mut writers: BTreeMap<Tensor, Vec<bool>> = BTreeMap::new();
        for (kernel, [_, writes]) in self.accesses.iter().enumerate() {
            let under = self.under_mask(kernel);
            for (i, write) in writes.iter().enumerate() {
                let Some(tensor) = Tensor::at(&write.place) else { continue };
                let is_mask = under.get(i) == Some(&Under::Zero) && write.is_number(&self.rows);
                writers.entry(tensor).or_default().push(is_mask);
            }
        }
        writers.into_iter().filter(|(_, all)| *all == [true]).map(|(tensor, _)| tensor).collect()
    }

    fn is_mask(&self, place: &Place) -> bool {
        match place {
            Place::Input(number) => *number as usize == self.mask,
            place => Tensor::at(place).is_some_and(|tensor| self.masks.contains(&tensor)),
        }
    }

    /// What each result of a row program is where the mask is 0; nothing for other kernels.
    fn under_mask(&self, kernel: usize) -> Vec<Under> {
        let KernelBody::Rows(rows) = self.bodies[kernel] else { return Vec::new() };
        let reads = self.accesses[kernel][0].iter().filter(|read| read.role == Role::Row);
        let inputs: Vec<Under> = reads
            .map(|read| match Tensor::at(&read.place) {
                _ if self.is_mask(&read.place) && read.is_number(&self.rows) => Under::Zero,
                Some(tensor) if self.widths.contains_key(&tensor) => Under::Padded,
                _ => Under::Other,
            })
            .collect();
        under(&rows.operands.program, &inputs)
    }

    /// Whether a kernel may leave rows of padding out, as far as is known.
    fn leaves_out(&self, kernel: usize) -> bool {
        let [_, writes] = &self.accesses[kernel];
        let is_missed = |tensor| self.found.observed.contains(&tensor) || !self.widths.contains_key(&tensor);
        writes.iter().all(|write| Tensor::at(&write.place).is_some_and(|tensor| !is_missed(tensor)))
    }

    /// What readers need, given what they were known to need.
    fn observe(&self) -> Found {
        let mut found = Found::default();
        for (kernel, [reads, _]) in self.accesses.iter().enumerate() {
            let leaves_out = self.leaves_out(kernel);
            let is_masked = || {
                let under = self.under_mask(kernel);
                !under.is_empty() && !under.contains(&Under::Padded)
            };
            for read in reads {
                let Some(tensor) = Tensor::at(&read.place) else { continue };
                let Some(&width) = self.widths.get(&tensor) else { continue };
                let is_own = read.row(&self.rows) == Some(width);
                match read.role {
                    Role::Hidden if is_own && self.hides(kernel) => {}
                    Role::Row | Role::Index if is_own && leaves_out => {}
                    Role::Row if is_own && is_masked() => drop(found.zeroed.insert(tensor)),
                    Role::Row if read.is_first(&self.rows, width) => found.keeps_first = true,
                    _ => drop(found.observed.insert(tensor)),
                }
            }
        }
        found
    }

    /// Whether attention hides keys by the mask.
    fn hides(&self, kernel: usize) -> bool {
        let mut reads = self.accesses[kernel][0].iter();
        reads.any(|read| self.is_mask(&read.place) && read.is_number(&self.rows))
    }

    /// Memory that needs zeros.
    fn zeroed(&self, leaves_out: &[bool]) -> Vec<(usize, Place, usize)> {
        let mut zeroed = Vec::new();
        for (kernel, [_, writes]) in self.accesses.iter().enumerate().filter(|(kernel, _)| leaves_out[*kernel]) {
            let is_needed = |write: &&Access| match Tensor::at(&write.place) {
                Some(tensor @ Tensor::Buffer(_)) => self.found.zeroed.contains(&tensor),
                _ => true,
            };
            for write in writes.iter().filter(is_needed) {
                let width = write.row(&self.rows).unwrap_or(0);
                zeroed.push((kernel, write.place.clone(), width * write.bytes));
            }
        }
        zeroed
    }
}

/// What a value is where the mask is 0.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Under {
    /// Zero.
    Zero,
    /// It depends on rows that may be padding.
    Padded,
    /// It does not.
    Other,
}

/// What the results of a program are where the mask is 0, for numbers that are finite.
fn under(program: &RowProgram, inputs: &[Under]) -> Vec<Under> {
    let mut values: Vec<Under> = Vec::with_capacity(program.nodes.len());
    for node in &program.nodes {
        let of = |id: u16| values[usize::from(id)];
        values.push(match *node {
            RowNode::Input(i) => inputs[usize::from(i)],
            RowNode::Constant(0.0) => Under::Zero,
            RowNode::Binary(BinaryOp::Mul, a, b) if [of(a), of(b)].contains(&Under::Zero) => Under::Zero,
            RowNode::Binary(BinaryOp::Ne, a, b) if [of(a), of(b)] == [Under::Zero; 2] => Under::Zero,
            RowNode::Select(c, _, otherwise) if of(c) == Under::Zero => of(otherwise),
            _ if node.operands().any(|id| of(id) == Under::Padded) => Under::Padded,
            _ => Under::Other,
        });
    }
    program.stores.iter().map(|&id| values[usize::from(id)]).collect()
}
