//! Sequence primitives with closed forms: linear recurrence and long convolution.

use super::attributes::attributes;
use super::movement::broadcast_shapes;
use super::{OpDef, TypeError, operands, require};
use crate::dim::Dim;
use crate::interpret::{EvalError, Frame};
use crate::tensor::Tensor;
use crate::types::{DType, Type};

/// First-order linear recurrence along an axis: `h_t = a_t ⊙ h_{t-1} + b_t`, all `h_t` returned.
///
/// `a, b: [.., t, ..]`, `initial: [.., 1, ..]` → `[.., t, ..]`. It has a parallel form (arXiv:1709.04057).
#[derive(Clone, Debug, PartialEq)]
pub struct LinearRecurrence {
    /// The time axis.
    pub axis: usize,
}
attributes!(LinearRecurrence { axis: usize });

impl OpDef for LinearRecurrence {
    fn name(&self) -> &'static str {
        "linear_recurrence"
    }
    fn result_types(&self, types: &[Type]) -> Result<Vec<Type>, TypeError> {
        let [a, b, initial] = operands(types)?;
        require!(a == b && a.dtype.is_float() && self.axis < a.rank(), "axis {} of {a} and {b}", self.axis);
        let mut first = a.shape.clone();
        first[self.axis] = Dim::from(1);
        let first = a.with_shape(first);
        require!(*initial == first, "the initial value is {initial}, not {first}");
        Ok(vec![a.clone()])
    }
    fn evaluate(&self, operands: &[&Tensor], _: &mut Frame<'_>) -> Result<Vec<Tensor>, EvalError> {
        let (a, b, mut h) = (operands[0], operands[1], operands[2].clone());
        let mut out = b.clone();
        for t in 0..b.shape[self.axis] {
            h = Tensor::from_fn(h.dtype, &h.shape, |index| {
                let mut at = index.to_vec();
                at[self.axis] = t;
                let value = a.at(&at) * h.at(index) + b.at(&at);
                *out.at_mut(&at) = value;
                value
            });
        }
        Ok(vec![out])
    }
}

/// Causal convolution as long as the sequence: `y_i = Σ_{j ≤ i} k_{i-j} · u_j` along the last axis.
///
/// `u: [.., t]`, `k: [.., m]`, leading axes broadcasting, → `[.., t]`. Taps beyond `t` are not used, those beyond `m`
/// are zero. Executors use an FFT of length ≥ t + min(t, m), or sum directly where that is cheaper.
///
/// With `length`, a third operand `past: i32[b]` says for each index of the first axis where the result begins:
/// `[.., length]` with `y_{past + i}` as its element `i`. Elements of `u` after the last result are not read, so that
/// `u` may be a cache that is filled as far as that.
#[derive(Clone, Debug, PartialEq)]
pub struct FftConv {
    /// Results of each row, where they are not as many as `u` has elements.
    pub length: Option<Dim>,
}
attributes!(FftConv { length: Option<Dim> });

impl OpDef for FftConv {
    fn name(&self) -> &'static str {
        "fft_conv"
    }
    fn result_types(&self, types: &[Type]) -> Result<Vec<Type>, TypeError> {
        let (u, k, past) = match types {
            [u, k] if self.length.is_none() => (u, k, None),
            [u, k, past] if self.length.is_some() => (u, k, Some(past)),
            _ => return Err(TypeError(format!("{} operands do not fit", types.len()))),
        };
        require!(u.dtype == k.dtype && u.dtype.is_float(), "convolves {u} with {k}");
        let ([leads @ .., t], [taps @ .., _]) = (&*u.shape, &*k.shape) else {
            return Err(TypeError(format!("convolves {u} with {k}")));
        };
        let (leads, taps) = (u.with_shape(leads.to_vec()), k.with_shape(taps.to_vec()));
        let mut shape = broadcast_shapes(&[&leads, &taps])?;
        if let Some(past) = past {
            let of_rows = Type::new(DType::I32, shape.first().cloned());
            require!(!shape.is_empty() && *past == of_rows, "results begin at {past}, not {of_rows}");
        }
        shape.push(self.length.as_ref().unwrap_or(t).clone());
        Ok(vec![u.with_shape(shape)])
    }
    fn evaluate(&self, operands: &[&Tensor], frame: &mut Frame<'_>) -> Result<Vec<Tensor>, EvalError> {
        let (u, k) = (operands[0], operands[1]);
        let types: Vec<Type> = operands.iter().map(|t| Type::new(t.dtype, t.shape.iter().copied())).collect();
        let shape = self.result_types(&types).map_err(EvalError::from)?.remove(0).shape;
        let shape = frame.dims(&shape)?;
        let last = shape.len() - 1;
        let (t, m) = (u.shape[u.shape.len() - 1], k.shape[k.shape.len() - 1]);
        Ok(vec![Tensor::from_fn(u.dtype, &shape, |index| {
            let past = operands.get(2).map_or(0, |past| past.at(&index[..1]) as usize);
            let place = past + index[last];
            let (mut at_u, mut at_k) = (index.to_vec(), index.to_vec());
            let tap = |j: usize| {
                (at_k[last], at_u[last]) = (place - j, j);
                k.at_broadcast(&at_k) * u.at_broadcast(&at_u)
            };
            ((place + 1).saturating_sub(m)..(place + 1).min(t)).map(tap).sum()
        })])
    }
}
