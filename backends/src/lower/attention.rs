//! Attention clusters.

use castiron_ir::op::Op;
use castiron_ir::{DType, Dim, Type};
use castiron_runtime::program::view::View;
use castiron_runtime::program::{AttentionKernel, KernelBody, Step};

use super::body::Body;
use super::view::ValueView;
use super::{LowerError, Lowering};

impl Lowering<'_> {
    pub(super) fn attention(
        &mut self,
        body: &Body,
        target: &ValueView,
        steps: &mut Vec<Step>,
    ) -> Result<(), LowerError> {
        let result = body.region.results[0];
        let Some((node, Op::Attention(op))) = body.producer(result).map(|n| (n, &n.op)) else {
            return Err(LowerError::unsupported("cluster", "an attention cluster without attention"));
        };
        let views = node.operands.iter().map(|&o| self.operand(body, o)).collect::<Result<Vec<_>, _>>()?;
        let [q, k, v, rest @ ..] = views.as_slice() else {
            return Err(LowerError::unsupported("attention", "q, k or v is missing"));
        };
        let mut rest = rest.iter();
        let mut next = |wanted: bool| if wanted { rest.next() } else { None };
        let scales = next(op.scales).zip(next(op.scales)).map(|(k, v)| [k, v]);
        let (past, mask, bias, sinks) = (next(op.past), next(op.mask), next(op.bias), next(op.sinks));
        let mask = mask.map(|mask| self.mask(mask, steps));
        let [b, g, r, s, d] = [0, 1, 2, 3, 4].map(|axis| q.shape[axis].clone());
        let extents = [b, g, r, s, k.shape[2].clone(), d, v.shape[3].clone()];
        let scores: Vec<Dim> = extents[..5].to_vec();
        let over_own = |view: &ValueView| -> View { view.over_own_axes() };
        let kernel = AttentionKernel {
            q: q.over_own_axes(),
            k: k.over_own_axes(),
            v: v.over_own_axes(),
            scales: scales.map(|scales| scales.map(|view| view.over(view.strides[..3].to_vec()))),
            past: past.map(over_own),
            mask: mask.as_ref().map(over_own),
            bias: bias.map(|view| view.over(view.strides_over(&scores))),
            sinks: sinks.map(|view| view.over(view.strides_over(&scores)[..4].to_vec())),
            out: target.over_own_axes(),
            extents,
            scale: op.scale as f32,
            soft_cap: op.soft_cap.map(|cap| cap as f32),
            causal: op.causal,
            window: op.window,
        };
        steps.push(self.kernels.push(body.label.clone(), KernelBody::Attention(Box::new(kernel))));
        Ok(())
    }

    /// A mask as kernels read it: truth values of an entry's signature are bytes, and copied.
    fn mask(&mut self, mask: &ValueView, steps: &mut Vec<Step>) -> ValueView {
        if mask.dtype == DType::I32 {
            return mask.clone();
        }
        let copy = self.buffer(&Type { dtype: mask.dtype, shape: mask.shape.clone() });
        steps.push(self.copy(mask, &copy));
        copy
    }
}
