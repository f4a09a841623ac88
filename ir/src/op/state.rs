//! Runtime state: tensors that outlive a call.
//!
//! Discipline, checked by the verifier: a state is written at most once per iteration, and no read
//! comes after the write. A read gives the value from before the call; the result of an update is
//! the value after it. An executor may therefore update in place.

use super::attributes::{AttributeValue, attributes, parse_field, print_field};
use super::{OpDef, Syntax, TypeError, operands, require};
use crate::interpret::{EvalError, Frame};
use crate::tensor::{Tensor, for_each_index, round_to};
use crate::text::{Cursor, ParseError};
use crate::types::{DType, Type};

/// The value of a state: `state_read "layers.{i}.conv" : f32[b,64,3]`.
#[derive(Clone, Debug, PartialEq)]
pub struct StateRead {
    /// Name as declared by the entry.
    pub state: String,
    /// Type of the instance.
    pub ty: Type,
}

impl OpDef for StateRead {
    fn name(&self) -> &'static str {
        "state_read"
    }
    fn result_types(&self, types: &[Type]) -> Result<Vec<Type>, TypeError> {
        operands::<0>(types)?;
        Ok(vec![self.ty.clone()])
    }
    fn evaluate(&self, _: &[&Tensor], frame: &mut Frame<'_>) -> Result<Vec<Tensor>, EvalError> {
        let shape = frame.shape(&self.ty)?;
        Ok(vec![frame.state(&self.state, &shape, self.ty.dtype)?.clone()])
    }
    fn set_declared_type(&mut self, ty: &Type) {
        self.ty = ty.clone();
    }
}

impl Syntax for StateRead {
    fn print_attributes(&self, out: &mut String) {
        out.push_str(&format!(" {:?}", self.state));
    }
    fn parse_attributes(_: &str, cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        Ok(StateRead { state: cursor.string()?, ty: Type::f32([0; 0]) })
    }
}

/// Replaces a state: operand and result have the state's type.
#[derive(Clone, Debug, PartialEq)]
pub struct StateWrite {
    /// Name as declared by the entry.
    pub state: String,
}
attributes!(StateWrite { state: String });

impl OpDef for StateWrite {
    fn name(&self) -> &'static str {
        "state_write"
    }
    fn result_types(&self, types: &[Type]) -> Result<Vec<Type>, TypeError> {
        let [value] = operands(types)?;
        Ok(vec![value.clone()])
    }
    fn evaluate(&self, operands: &[&Tensor], frame: &mut Frame<'_>) -> Result<Vec<Tensor>, EvalError> {
        let value = operands[0];
        *frame.state(&self.state, &value.shape, value.dtype)? = value.clone();
        Ok(vec![value.clone()])
    }
}

/// Writes rows into a state at a position of their own for each batch entry, and gives the whole
/// state after it: the append to a KV cache.
///
/// `rows: [b, …, s, …]`, `position: i32[b]` → state `[b, …, c, …]` with
/// `state[n, …, position[n] + j, …] = rows[n, …, j, …]` along `axis`. A state of another float type than
/// the rows rounds them when they are written.
#[derive(Clone, Debug, PartialEq)]
pub struct StateUpdate {
    /// Name as declared by the entry.
    pub state: String,
    /// The axis of positions, not 0.
    pub axis: usize,
    /// Type of the state.
    pub ty: Type,
}

impl OpDef for StateUpdate {
    fn name(&self) -> &'static str {
        "state_update"
    }
    fn result_types(&self, types: &[Type]) -> Result<Vec<Type>, TypeError> {
        let [rows, position] = operands(types)?;
        let (axis, state) = (self.axis, &self.ty);
        require!(
            0 < axis && axis < state.rank() && rows.rank() == state.rank(),
            "rows {rows} into {state} at axis {axis}"
        );
        let same = (0..state.rank()).all(|a| a == axis || rows.shape[a] == state.shape[a]);
        require!(same, "rows {rows} differ from {state} outside axis {axis}");
        let is_rounded = rows.dtype.is_float() && state.dtype.is_float();
        require!(is_rounded || rows.dtype == state.dtype, "rows {rows} differ from {state} in element type");
        let wanted = Type { dtype: DType::I32, shape: vec![state.shape[0].clone()] };
        require!(*position == wanted, "position is {position}, not {wanted}");
        Ok(vec![state.clone()])
    }
    fn evaluate(&self, operands: &[&Tensor], frame: &mut Frame<'_>) -> Result<Vec<Tensor>, EvalError> {
        let (rows, position) = (operands[0], operands[1]);
        let (shape, dtype) = (frame.shape(&self.ty)?, self.ty.dtype);
        let state = frame.state(&self.state, &shape, dtype)?;
        for &p in &position.data {
            let (last, extent) = (p + rows.shape[self.axis] as f64, shape[self.axis]);
            if p < 0.0 || last > extent as f64 {
                return Err(EvalError::Index { index: last as i64 - 1, extent });
            }
        }
        for_each_index(&rows.shape, |index| {
            let mut target = index.to_vec();
            target[self.axis] += position.data[index[0]] as usize;
            *state.at_mut(&target) = round_to(dtype, rows.at(index));
        });
        Ok(vec![state.clone()])
    }
    fn set_declared_type(&mut self, ty: &Type) {
        self.ty = ty.clone();
    }
}

impl Syntax for StateUpdate {
    fn print_attributes(&self, out: &mut String) {
        out.push_str(&format!(" state={}", self.state.print()));
        print_field("axis", &self.axis, out);
    }
    fn parse_attributes(_: &str, cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let state = parse_field("state", cursor)?;
        Ok(StateUpdate { state, axis: parse_field("axis", cursor)?, ty: Type::f32([0; 0]) })
    }
}
