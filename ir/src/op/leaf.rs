//! Leaves: values that depend on no operand.

use super::attributes::{AttributeValue, attributes, parse_field, print_field};
use super::{OpDef, Syntax, TypeError, operands, require};
use crate::dim::Dim;
use crate::interpret::{EvalError, Frame};
use crate::tensor::{Tensor, round_to};
use crate::text::{Cursor, ParseError};
use crate::types::{DType, Type};

/// A tensor of the checkpoint, by name: `param "model.layers.{i}.mlp.up_proj.weight" : f32[1536,576]`.
///
/// The type is the logical one: a half-precision or quantised tensor is an `f32` param too. A stack of tensors
/// of one shape is one param, whose name counts them: `param "experts.{e}.up.weight" stack="e" : f32[8,64,32]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// Name in the checkpoint; a template inside `repeat`.
    pub name: String,
    /// The index in the name that counts axis 0, where the tensor is a stack of one tensor for each.
    pub stack: Option<String>,
    /// How the checkpoint stores it, where that matters: params stored in different ways are not merged.
    /// See [`crate::storage::annotate`].
    pub stored: Option<String>,
    /// Logical type.
    pub ty: Type,
}

impl OpDef for Param {
    fn name(&self) -> &'static str {
        "param"
    }
    fn result_types(&self, types: &[Type]) -> Result<Vec<Type>, TypeError> {
        operands::<0>(types)?;
        require!(
            self.ty.shape.iter().all(|d| d.as_constant().is_some()),
            "a param has a constant shape, not {}",
            self.ty
        );
        require!(self.stack.is_none() || self.ty.rank() > 0, "a stack has an axis, {} has none", self.ty);
        Ok(vec![self.ty.clone()])
    }
    fn evaluate(&self, _: &[&Tensor], frame: &mut Frame<'_>) -> Result<Vec<Tensor>, EvalError> {
        let shape = frame.shape(&self.ty)?;
        let Some(index) = &self.stack else { return Ok(vec![self.read(frame, &shape)?]) };
        let mut data = Vec::new();
        for i in 0..shape[0] {
            data.extend(frame.with_index(index, i, |frame| self.read(frame, &shape[1..]))?.data);
        }
        Ok(vec![Tensor::new(self.ty.dtype, shape, data)])
    }
    fn set_declared_type(&mut self, ty: &Type) {
        self.ty = ty.clone();
    }
}

impl Param {
    /// One tensor of the checkpoint.
    fn read(&self, frame: &Frame<'_>, shape: &[usize]) -> Result<Tensor, EvalError> {
        let tensor = frame.param(&self.name)?;
        if tensor.shape != shape {
            let name = self.name.clone();
            return Err(EvalError::ParamShape { name, found: tensor.shape, expected: shape.to_vec() });
        }
        Ok(tensor.cast(self.ty.dtype))
    }

    /// How many tensors it is a stack of; one if it is none.
    pub fn count(&self) -> usize {
        let first = self.stack.as_ref().and(self.ty.shape.first());
        first.and_then(|dim| usize::try_from(dim.as_constant()?).ok()).unwrap_or(1)
    }
}

impl Syntax for Param {
    fn print_attributes(&self, out: &mut String) {
        out.push_str(&format!(" {:?}", self.name));
        print_field("stack", &self.stack, out);
        print_field("stored", &self.stored, out);
    }
    fn parse_attributes(_: &str, cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let name = cursor.string()?;
        let (stack, stored) = (parse_field("stack", cursor)?, parse_field("stored", cursor)?);
        Ok(Param { name, stack, stored, ty: Type::f32([0; 0]) })
    }
}

/// A literal: `constant 0.5 : f32[]`, `constant [1,2,3] : i32[3]`. One value fills any shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    /// One value for every element, or as many as there are elements.
    pub values: Vec<f64>,
    /// Type of the result.
    pub ty: Type,
}

impl Constant {
    /// A rank-0 constant.
    pub fn scalar(dtype: DType, value: f64) -> Constant {
        Constant { values: vec![round_to(dtype, value)], ty: Type { dtype, shape: vec![] } }
    }

    /// The value of every element, if they are all the same.
    pub fn splat(&self) -> Option<f64> {
        let first = *self.values.first()?;
        self.values.iter().all(|&v| v == first).then_some(first)
    }
}

impl OpDef for Constant {
    fn name(&self) -> &'static str {
        "constant"
    }
    fn result_types(&self, types: &[Type]) -> Result<Vec<Type>, TypeError> {
        operands::<0>(types)?;
        let count = Dim::from(self.values.len());
        require!(self.values.len() == 1 || self.ty.elements() == count, "{count} values for type {}", self.ty);
        Ok(vec![self.ty.clone()])
    }
    fn evaluate(&self, _: &[&Tensor], frame: &mut Frame<'_>) -> Result<Vec<Tensor>, EvalError> {
        let shape = frame.shape(&self.ty)?;
        let count: usize = shape.iter().product();
        let data = if self.values.len() == 1 { vec![self.values[0]; count] } else { self.values.clone() };
        Ok(vec![Tensor::new(self.ty.dtype, shape, data).cast(self.ty.dtype)])
    }
    fn set_declared_type(&mut self, ty: &Type) {
        self.ty = ty.clone();
    }
}

impl Syntax for Constant {
    fn print_attributes(&self, out: &mut String) {
        let text = if let [one] = self.values.as_slice() { one.print() } else { self.values.print() };
        out.push_str(&format!(" {text}"));
    }
    fn parse_attributes(_: &str, cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let values = if cursor.peek("[") { Vec::parse(cursor)? } else { vec![cursor.number()?] };
        Ok(Constant { values, ty: Type::f32([0; 0]) })
    }
}

/// Index along an axis: `iota axis=1 : i32[b,s]` is `0, 1, …, s-1` in each row.
#[derive(Clone, Debug, PartialEq)]
pub struct Iota {
    /// The axis that counts.
    pub axis: usize,
    /// Type of the result.
    pub ty: Type,
}

impl OpDef for Iota {
    fn name(&self) -> &'static str {
        "iota"
    }
    fn result_types(&self, types: &[Type]) -> Result<Vec<Type>, TypeError> {
        operands::<0>(types)?;
        require!(self.axis < self.ty.rank(), "axis {} of {}", self.axis, self.ty);
        Ok(vec![self.ty.clone()])
    }
    fn evaluate(&self, _: &[&Tensor], frame: &mut Frame<'_>) -> Result<Vec<Tensor>, EvalError> {
        let shape = frame.shape(&self.ty)?;
        Ok(vec![Tensor::from_fn(self.ty.dtype, &shape, |i| i[self.axis] as f64)])
    }
    fn set_declared_type(&mut self, ty: &Type) {
        self.ty = ty.clone();
    }
}

impl Syntax for Iota {
    fn print_attributes(&self, out: &mut String) {
        out.push_str(&format!(" axis={}", self.axis));
    }
    fn parse_attributes(_: &str, cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        Ok(Iota { axis: super::attributes::parse_field("axis", cursor)?, ty: Type::i32([0; 0]) })
    }
}

/// Value of a symbolic extent as a scalar: `extent of=s : i32[]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Extent {
    /// The extent.
    pub of: Dim,
}
attributes!(Extent { of: Dim });

impl OpDef for Extent {
    fn name(&self) -> &'static str {
        "extent"
    }
    fn result_types(&self, types: &[Type]) -> Result<Vec<Type>, TypeError> {
        operands::<0>(types)?;
        Ok(vec![Type::i32([0; 0])])
    }
    fn evaluate(&self, _: &[&Tensor], frame: &mut Frame<'_>) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![Tensor::scalar(DType::I32, frame.dim(&self.of)? as f64)])
    }
}
