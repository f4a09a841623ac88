//! Ops that hold a region: layers repeated, steps scanned, ops clustered into one kernel.

use super::attributes::{named_enum, parse_field, print_field};
use super::{OpDef, Syntax, TypeError, require};
use crate::dim::Dim;
use crate::graph::Region;
use crate::interpret::{EvalError, Frame};
use crate::tensor::Tensor;
use crate::text::{Cursor, ParseError};
use crate::types::Type;

/// The same region several times, as the layers of a model: one region however deep the model is.
///
/// The first `carried` operands are replaced by the region's results from iteration to iteration;
/// the others are the same in each. Names of params and state inside are templates over `index`.
#[derive(Clone, Debug, PartialEq)]
pub struct Repeat {
    /// Number of iterations.
    pub count: usize,
    /// Name of the iteration's number in templates.
    pub index: String,
    /// How many operands are carried.
    pub carried: usize,
    /// What is repeated.
    pub body: Region,
}

impl OpDef for Repeat {
    fn name(&self) -> &'static str {
        "repeat"
    }
    fn result_types(&self, types: &[Type]) -> Result<Vec<Type>, TypeError> {
        require!(self.carried <= types.len(), "carries {} of {} operands", self.carried, types.len());
        check_arguments(&self.body, types)?;
        let results = self.body.types_of(&self.body.results);
        require!(results == types[..self.carried], "the region's results differ in type from what is carried");
        Ok(results)
    }
    fn evaluate(&self, operands: &[&Tensor], frame: &mut Frame<'_>) -> Result<Vec<Tensor>, EvalError> {
        let mut arguments: Vec<Tensor> = operands.iter().map(|&t| t.clone()).collect();
        for i in 0..self.count {
            let results = frame.with_index(&self.index, i, |f| f.run(&self.body, &arguments))?;
            arguments[..self.carried].clone_from_slice(&results);
        }
        arguments.truncate(self.carried);
        Ok(arguments)
    }
    fn region(&self) -> Option<&Region> {
        Some(&self.body)
    }
    fn region_mut(&mut self) -> Option<&mut Region> {
        Some(&mut self.body)
    }
}

impl Syntax for Repeat {
    fn print_attributes(&self, out: &mut String) {
        print_field("count", &self.count, out);
        print_field("index", &self.index, out);
        print_field("carried", &self.carried, out);
    }
    fn parse_attributes(_: &str, c: &mut Cursor<'_>) -> Result<Self, ParseError> {
        Ok(Repeat {
            count: parse_field("count", c)?,
            index: parse_field("index", c)?,
            carried: parse_field("carried", c)?,
            body: Region::default(),
        })
    }
}

/// A region applied along an axis, step by step, with carried values: a recurrence.
///
/// Operands are `carried` initial values, then `sequences` tensors that are cut along `axis`, then
/// values that every step sees. The region gets one slice of each sequence, without the axis. It
/// returns the carried values and any number of outputs, which are stacked along `axis`.
#[derive(Clone, Debug, PartialEq)]
pub struct Scan {
    /// The axis of steps, in sequences and stacked outputs.
    pub axis: usize,
    /// How many operands are carried.
    pub carried: usize,
    /// How many operands are cut into steps, at least one.
    pub sequences: usize,
    /// Whether the last step comes first.
    pub reverse: bool,
    /// One step.
    pub body: Region,
}

impl Scan {
    fn steps<'a>(&self, types: &'a [Type]) -> Result<&'a Dim, TypeError> {
        let count = self.carried.saturating_add(self.sequences);
        require!(self.sequences > 0 && count <= types.len(), "{count} of {} operands", types.len());
        let first = &types[self.carried];
        for ty in &types[self.carried..count] {
            require!(self.axis < ty.rank(), "axis {} of {ty}", self.axis);
            require!(ty.shape[self.axis] == first.shape[self.axis], "{first} and {ty} differ in steps");
        }
        Ok(&first.shape[self.axis])
    }
}

impl OpDef for Scan {
    fn name(&self) -> &'static str {
        "scan"
    }
    fn result_types(&self, types: &[Type]) -> Result<Vec<Type>, TypeError> {
        let steps = self.steps(types)?;
        check_arguments(&self.body, &self.region_argument_types(types)?)?;
        let mut results = self.body.types_of(&self.body.results);
        let carried = results.len() >= self.carried && results[..self.carried] == types[..self.carried];
        require!(carried, "the region's results differ in type from what is carried");
        for ty in &mut results[self.carried..] {
            require!(self.axis <= ty.rank(), "cannot stack {ty} along axis {}", self.axis);
            ty.shape.insert(self.axis, steps.clone());
        }
        Ok(results)
    }
    fn evaluate(&self, operands: &[&Tensor], frame: &mut Frame<'_>) -> Result<Vec<Tensor>, EvalError> {
        let (initial, rest) = operands.split_at(self.carried);
        let (sequences, shared) = rest.split_at(self.sequences);
        let steps = sequences[0].shape[self.axis];
        let mut carried: Vec<Tensor> = initial.iter().map(|&t| t.clone()).collect();
        let mut outputs: Vec<Tensor> = Vec::new();
        for step in 0..steps {
            let t = if self.reverse { steps - 1 - step } else { step };
            let mut arguments = carried;
            arguments.extend(sequences.iter().map(|s| slice_at(s, self.axis, t)));
            arguments.extend(shared.iter().map(|&s| s.clone()));
            carried = frame.run(&self.body, &arguments)?;
            for (i, slice) in carried.split_off(self.carried).into_iter().enumerate() {
                if step == 0 {
                    let mut shape = slice.shape.clone();
                    shape.insert(self.axis, steps);
                    outputs.push(Tensor::from_fn(slice.dtype, &shape, |_| 0.0));
                }
                store_at(&mut outputs[i], &slice, self.axis, t);
            }
        }
        carried.extend(outputs);
        Ok(carried)
    }
    fn region(&self) -> Option<&Region> {
        Some(&self.body)
    }
    fn region_mut(&mut self) -> Option<&mut Region> {
        Some(&mut self.body)
    }
    fn region_argument_types(&self, types: &[Type]) -> Result<Vec<Type>, TypeError> {
        self.steps(types)?;
        let mut types = types.to_vec();
        for ty in &mut types[self.carried..self.carried + self.sequences] {
            ty.shape.remove(self.axis);
        }
        Ok(types)
    }
}

impl Syntax for Scan {
    fn print_attributes(&self, out: &mut String) {
        print_field("axis", &self.axis, out);
        print_field("carried", &self.carried, out);
        print_field("sequences", &self.sequences, out);
        print_field("reverse", &self.reverse, out);
    }
    fn parse_attributes(_: &str, c: &mut Cursor<'_>) -> Result<Self, ParseError> {
        Ok(Scan {
            axis: parse_field("axis", c)?,
            carried: parse_field("carried", c)?,
            sequences: parse_field("sequences", c)?,
            reverse: parse_field("reverse", c)?,
            body: Region::default(),
        })
    }
}

fn slice_at(x: &Tensor, axis: usize, at: usize) -> Tensor {
    let mut shape = x.shape.clone();
    shape.remove(axis);
    Tensor::from_fn(x.dtype, &shape, |index| x.at(&[&index[..axis], &[at], &index[axis..]].concat()))
}

fn store_at(x: &mut Tensor, slice: &Tensor, axis: usize, at: usize) {
    crate::tensor::for_each_index(&slice.shape, |index| {
        *x.at_mut(&[&index[..axis], &[at], &index[axis..]].concat()) = slice.at(index);
    });
}

named_enum! {
    /// The op that gives a cluster its loop structure; everything else in it is elementwise.
    ClusterKind {
        /// Elementwise ops and movement alone.
        Map => "map",
        /// Reductions over the last axis: norms, softmax.
        Row => "row",
        /// A contraction, with what follows it as its epilogue.
        Matmul => "matmul",
        /// Attention.
        Attention => "attention",
        /// The largest elements of rows.
        TopK => "top_k",
        /// A convolution as long as the sequence.
        FftConv => "fft_conv",
    }
}

/// Ops that become one kernel. Its meaning is its body's.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Kernel archetype.
    pub kind: ClusterKind,
    /// The ops.
    pub body: Region,
}
impl OpDef for Cluster {
    fn name(&self) -> &'static str {
        "cluster"
    }
    fn result_types(&self, types: &[Type]) -> Result<Vec<Type>, TypeError> {
        check_arguments(&self.body, types)?;
        Ok(self.body.types_of(&self.body.results))
    }
    fn evaluate(&self, operands: &[&Tensor], frame: &mut Frame<'_>) -> Result<Vec<Tensor>, EvalError> {
        let arguments: Vec<Tensor> = operands.iter().map(|&t| t.clone()).collect();
        frame.run(&self.body, &arguments)
    }
    fn region(&self) -> Option<&Region> {
        Some(&self.body)
    }
    fn region_mut(&mut self) -> Option<&mut Region> {
        Some(&mut self.body)
    }
}

impl Syntax for Cluster {
    fn print_attributes(&self, out: &mut String) {
        print_field("kind", &self.kind, out);
    }
    fn parse_attributes(_: &str, c: &mut Cursor<'_>) -> Result<Self, ParseError> {
        Ok(Cluster { kind: parse_field("kind", c)?, body: Region::default() })
    }
}

fn check_arguments(body: &Region, types: &[Type]) -> Result<(), TypeError> {
    let arguments = body.types_of(&body.arguments);
    require!(arguments == types, "the region's arguments differ in type from the operands");
    Ok(())
}
