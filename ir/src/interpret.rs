//! The reference interpreter: slow, obvious, in double precision. The oracle of every pass and
//! backend; itself checked against transformers. Never on a product path.

use std::collections::HashMap;

use crate::dim::{Dim, DimError};
use crate::graph::{Entry, Region};
use crate::op::{OpDef, TypeError};
use crate::template::{self, TemplateError};
use crate::tensor::Tensor;
use crate::types::{DType, Type};

/// Why an evaluation has no value.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EvalError {
    /// An index outside the axis that it indexes.
    #[error("index {index} is outside an axis of extent {extent}")]
    Index {
        /// The index.
        index: i64,
        /// The axis' extent.
        extent: usize,
    },
    /// A convolution window larger than its padded input.
    #[error("a convolution window is larger than its padded input")]
    EmptyWindow,
    /// The checkpoint has no such tensor.
    #[error("parameter `{0}` is missing")]
    MissingParam(String),
    /// A parameter's shape is not the one that the graph declares.
    #[error("parameter `{name}` has shape {found:?}, the graph asks for {expected:?}")]
    ParamShape {
        /// Its name.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The declared shape.
        expected: Vec<usize>,
    },
    /// A state holds a tensor of another shape.
    #[error("state `{name}` has shape {found:?}, the graph asks for {expected:?}")]
    StateShape {
        /// Its name.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The declared shape.
        expected: Vec<usize>,
    },
    /// An input's type contradicts the entry's, or another input's extents.
    #[error("input `{name}` has shape {found:?}, the entry asks for {expected}")]
    Input {
        /// Its name.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The declared type.
        expected: String,
    },
    /// A dim without value.
    #[error(transparent)]
    Dim(#[from] DimError),
    /// A name template without expansion.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A type rule that only concrete extents can break.
    #[error(transparent)]
    Type(#[from] TypeError),
}

/// Values of the dims' symbols.
pub type Binding = HashMap<String, usize>;

/// Parameters by name.
pub type Params<'a> = dyn Fn(&str) -> Option<Tensor> + 'a;

/// What evaluation needs besides operands: parameters, state, bindings of dims and loop indices.
pub struct Frame<'a> {
    params: &'a Params<'a>,
    binding: &'a Binding,
    states: &'a mut HashMap<String, Tensor>,
    indices: Vec<(String, usize)>,
}

impl<'a> Frame<'a> {
    /// A frame outside all loops.
    pub fn new(params: &'a Params<'a>, binding: &'a Binding, states: &'a mut HashMap<String, Tensor>) -> Frame<'a> {
        Frame { params, binding, states, indices: Vec::new() }
    }

    /// Value of a dim; a symbol may be the index of an enclosing loop.
    ///
    /// # Errors
    /// An unbound symbol, or a value out of range.
    pub fn dim(&self, dim: &Dim) -> Result<usize, EvalError> {
        Ok(dim.evaluate(&|s| self.loop_index(s).or_else(|| self.binding.get(s).copied()))?)
    }

    /// Values of several dims.
    ///
    /// # Errors
    /// As [`Frame::dim`].
    pub fn dims(&self, dims: &[Dim]) -> Result<Vec<usize>, EvalError> {
        dims.iter().map(|d| self.dim(d)).collect()
    }

    /// Extents of a type.
    ///
    /// # Errors
    /// As [`Frame::dim`].
    pub fn shape(&self, ty: &Type) -> Result<Vec<usize>, EvalError> {
        self.dims(&ty.shape)
    }

    /// A name template under the current loop indices.
    fn name(&self, template: &str) -> Result<String, EvalError> {
        Ok(template::expand(template, &|index| self.loop_index(index))?)
    }

    fn loop_index(&self, name: &str) -> Option<usize> {
        self.indices.iter().rev().find(|(n, _)| n == name).map(|&(_, i)| i)
    }

    /// A parameter by name template.
    ///
    /// # Errors
    /// A parameter that does not exist.
    pub fn param(&self, template: &str) -> Result<Tensor, EvalError> {
        let name = self.name(template)?;
        (self.params)(&name).ok_or(EvalError::MissingParam(name))
    }

    /// A state by name template; zeros when it has not been written yet.
    ///
    /// # Errors
    /// A state of another shape.
    pub fn state(&mut self, template: &str, shape: &[usize], dtype: DType) -> Result<&mut Tensor, EvalError> {
        let name = self.name(template)?;
        let zeros = || Tensor::from_fn(dtype, shape, |_| 0.0);
        let state = self.states.entry(name.clone()).or_insert_with(zeros);
        if state.shape != shape {
            return Err(EvalError::StateShape { name, found: state.shape.clone(), expected: shape.to_vec() });
        }
        Ok(state)
    }

    /// Runs with a loop index set.
    ///
    /// # Errors
    /// Those of the function.
    pub fn with_index<T>(
        &mut self,
        name: &str,
        value: usize,
        run: impl FnOnce(&mut Self) -> Result<T, EvalError>,
    ) -> Result<T, EvalError> {
        self.indices.push((name.to_owned(), value));
        let result = run(self);
        self.indices.pop();
        result
    }

    /// Evaluates a region.
    ///
    /// # Errors
    /// The first op that has no value.
    pub fn run(&mut self, region: &Region, arguments: &[Tensor]) -> Result<Vec<Tensor>, EvalError> {
        let mut values: Vec<Option<Tensor>> = vec![None; region.value_count()];
        for (a, tensor) in region.arguments.iter().zip(arguments) {
            values[a.index()] = Some(tensor.clone());
        }
        let defined = "the verifier checked that every operand is defined before its use";
        for node in &region.nodes {
            let operands: Vec<&Tensor> =
                node.operands.iter().map(|o| values[o.index()].as_ref().expect(defined)).collect();
            let results = node.op.evaluate(&operands, self)?;
            for (r, tensor) in node.results.iter().zip(results) {
                values[r.index()] = Some(tensor);
            }
        }
        Ok(region.results.iter().map(|r| values[r.index()].clone().expect(defined)).collect())
    }
}

/// Runs an entry on named inputs. Symbols that are plain extents of inputs are bound by them;
/// others, such as a cache's capacity, come with `binding`.
///
/// # Errors
/// Inputs that do not fit, missing parameters, indices out of range.
pub fn run_entry(
    entry: &Entry,
    inputs: &[Tensor],
    binding: &Binding,
    params: &Params<'_>,
    states: &mut HashMap<String, Tensor>,
) -> Result<Vec<Tensor>, EvalError> {
    let mut binding = binding.clone();
    for (&argument, tensor) in entry.body.arguments.iter().zip(inputs) {
        for (dim, &extent) in entry.body.type_of(argument).shape.iter().zip(&tensor.shape) {
            if let [symbol] = dim.symbols()[..]
                && *dim == Dim::symbol(symbol)
            {
                binding.entry(symbol.to_owned()).or_insert(extent);
            }
        }
    }
    let mut frame = Frame::new(params, &binding, states);
    let mut arguments = Vec::new();
    for (i, (&argument, tensor)) in entry.body.arguments.iter().zip(inputs).enumerate() {
        let ty = entry.body.type_of(argument);
        if frame.shape(ty)? != tensor.shape {
            let name = entry.body.argument_names[i].clone();
            return Err(EvalError::Input { name, found: tensor.shape.clone(), expected: ty.to_string() });
        }
        arguments.push(tensor.cast(ty.dtype));
    }
    frame.run(&entry.body, &arguments)
}
