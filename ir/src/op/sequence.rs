//! Sequence primitives with closed forms: linear recurrence and long convolution.

use super::attributes::attributes;
use super::movement::broadcast_shapes;
use super::{OpDef, TypeError, operands, require};
use crate::dim::Dim;
use crate::interpret::{EvalError, Frame};
use crate::tensor::Tensor;
use crate::types::Type;

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

/// Causal convolution as long as the sequence: `y_t = Σ_{j ≤ t} k_j · u_{t-j}` along the last axis.
///
/// `u: [.., t]`, `k: [.., t]`, leading axes broadcasting. Executors use an FFT of length ≥ 2t.
#[derive(Clone, Debug, PartialEq)]
pub struct FftConv {}
attributes!(FftConv {});

impl OpDef for FftConv {
    fn name(&self) -> &'static str {
        "fft_conv"
    }
    fn result_types(&self, types: &[Type]) -> Result<Vec<Type>, TypeError> {
        let [u, k] = operands(types)?;
        require!(u.dtype == k.dtype && u.dtype.is_float(), "convolves {u} with {k}");
        require!(u.rank() > 0 && u.shape.last() == k.shape.last(), "{u} and {k} differ in length");
        Ok(vec![u.with_shape(broadcast_shapes(&[u, k])?)])
    }
    fn evaluate(&self, operands: &[&Tensor], frame: &mut Frame<'_>) -> Result<Vec<Tensor>, EvalError> {
        let (u, k) = (operands[0], operands[1]);
        let types = [u, k].map(|t| Type::new(t.dtype, t.shape.iter().copied()));
        let shape = self.result_types(&types).map_err(EvalError::from)?.remove(0).shape;
        let shape = frame.dims(&shape)?;
        let last = shape.len() - 1;
        Ok(vec![Tensor::from_fn(u.dtype, &shape, |index| {
            let (mut at_u, mut at_k) = (index.to_vec(), index.to_vec());
            let tap = |j| {
                (at_k[last], at_u[last]) = (j, index[last] - j);
                k.at_broadcast(&at_k) * u.at_broadcast(&at_u)
            };
            (0..=index[last]).map(tap).sum()
        })])
    }
}
