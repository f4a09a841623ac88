//! Elementwise ops. Operands broadcast by NumPy's rule: shapes align at the last axis, and an extent
//! of 1, or a missing axis, repeats.

use super::attributes::attributes;
use super::movement::broadcast_shapes;
use super::{BinaryOp, OpDef, Syntax, TypeError, UnaryOp, operands, require};
use crate::interpret::{EvalError, Frame};
use crate::tensor::{Tensor, round_to};
use crate::text::{Cursor, ParseError};
use crate::types::{DType, Type};

/// A function of one tensor; its text name is the function's: `silu %x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unary(pub UnaryOp);

impl OpDef for Unary {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn result_types(&self, types: &[Type]) -> Result<Vec<Type>, TypeError> {
        let [x] = operands(types)?;
        let keeps_integers = matches!(self.0, UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Sign | UnaryOp::Relu);
        let accepted = match self.0 {
            UnaryOp::Not => x.dtype == DType::Bool,
            _ => x.dtype.is_float() || (keeps_integers && x.dtype != DType::Bool),
        };
        require!(accepted, "has no meaning for {x}");
        Ok(vec![x.clone()])
    }
    fn evaluate(&self, operands: &[&Tensor], _: &mut Frame<'_>) -> Result<Vec<Tensor>, EvalError> {
        let x = operands[0];
        Ok(vec![Tensor::new(x.dtype, x.shape.clone(), x.data.iter().map(|&v| self.0.f64(v)).collect())])
    }
}

impl Syntax for Unary {
    fn print_attributes(&self, _: &mut String) {}
    fn parse_attributes(name: &str, cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        UnaryOp::from_name(name).map(Unary).ok_or_else(|| cursor.error(format!("`{name}` is not a function")))
    }
}

/// A function of two tensors; its text name is the function's: `add %a, %b`. Integer division and
/// `mod` round toward negative infinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binary(pub BinaryOp);

impl OpDef for Binary {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn result_types(&self, types: &[Type]) -> Result<Vec<Type>, TypeError> {
        let [a, b] = operands(types)?;
        require!(a.dtype == b.dtype, "operands differ in element type: {a} and {b}");
        let logic = matches!(self.0, BinaryOp::And | BinaryOp::Or);
        require!(logic == (a.dtype == DType::Bool) || self.0 == BinaryOp::Eq, "has no meaning for {a}");
        let dtype = if self.0.is_predicate() { DType::Bool } else { a.dtype };
        Ok(vec![Type { dtype, shape: broadcast_shapes(&[a, b])? }])
    }
    fn evaluate(&self, operands: &[&Tensor], _: &mut Frame<'_>) -> Result<Vec<Tensor>, EvalError> {
        let (a, b) = (operands[0], operands[1]);
        let dtype = if self.0.is_predicate() { DType::Bool } else { a.dtype };
        let value = |x: f64, y: f64| match self.0.f64(x, y) {
            v if a.dtype.is_float() => v,
            v => round_to(dtype, v.floor()),
        };
        Ok(vec![broadcast_map(dtype, &[a, b], |v| value(v[0], v[1]))])
    }
}

impl Syntax for Binary {
    fn print_attributes(&self, _: &mut String) {}
    fn parse_attributes(name: &str, cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        BinaryOp::from_name(name).map(Binary).ok_or_else(|| cursor.error(format!("`{name}` is not a function")))
    }
}

/// `condition ? a : b`: operands `bool`, `T`, `T` → `T`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Select;

impl OpDef for Select {
    fn name(&self) -> &'static str {
        "select"
    }
    fn result_types(&self, types: &[Type]) -> Result<Vec<Type>, TypeError> {
        let [c, a, b] = operands(types)?;
        require!(c.dtype == DType::Bool, "the condition is {c}, not bool");
        require!(a.dtype == b.dtype, "operands differ in element type: {a} and {b}");
        Ok(vec![Type { dtype: a.dtype, shape: broadcast_shapes(&[c, a, b])? }])
    }
    fn evaluate(&self, operands: &[&Tensor], _: &mut Frame<'_>) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![broadcast_map(operands[1].dtype, operands, |v| if v[0] != 0.0 { v[1] } else { v[2] })])
    }
}

impl Syntax for Select {
    fn print_attributes(&self, _: &mut String) {}
    fn parse_attributes(_: &str, _: &mut Cursor<'_>) -> Result<Self, ParseError> {
        Ok(Select)
    }
}

/// Conversion to another element type, as [`Tensor::cast`] defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cast {
    /// Element type of the result.
    pub to: DType,
}
attributes!(Cast { to: DType });

impl OpDef for Cast {
    fn name(&self) -> &'static str {
        "cast"
    }
    fn result_types(&self, types: &[Type]) -> Result<Vec<Type>, TypeError> {
        let [x] = operands(types)?;
        Ok(vec![x.with_dtype(self.to)])
    }
    fn evaluate(&self, operands: &[&Tensor], _: &mut Frame<'_>) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![operands[0].cast(self.to)])
    }
}

/// Applies a function to broadcast operands.
fn broadcast_map(dtype: DType, operands: &[&Tensor], f: impl Fn(&[f64]) -> f64) -> Tensor {
    let rank = operands.iter().map(|t| t.shape.len()).max().unwrap_or(0);
    let mut shape = vec![1; rank];
    for t in operands {
        let lead = rank - t.shape.len();
        for (axis, &n) in t.shape.iter().enumerate().filter(|&(_, &n)| n != 1) {
            shape[lead + axis] = n;
        }
    }
    let mut values = vec![0.0; operands.len()];
    Tensor::from_fn(dtype, &shape, |index| {
        for (v, t) in values.iter_mut().zip(operands) {
            *v = t.at_broadcast(index);
        }
        f(&values)
    })
}
