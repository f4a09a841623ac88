//! Clusters of one `fft_conv`.

use castiron_ir::op::Op;
use castiron_runtime::program::{FftConv, KernelBody, Step};

use super::body::Body;
use super::view::ValueView;
use super::{LowerError, Lowering};

impl Lowering<'_> {
    pub(super) fn fft_conv(
        &mut self,
        body: &Body,
        target: &ValueView,
        steps: &mut Vec<Step>,
    ) -> Result<(), LowerError> {
        let Some((node, Op::FftConv(_))) = body.producer(body.region.results[0]).map(|n| (n, &n.op)) else {
            return Err(LowerError::unsupported("cluster", "an fft_conv cluster without fft_conv"));
        };
        let views = node.operands.iter().map(|&o| self.operand(body, o)).collect::<Result<Vec<_>, _>>()?;
        let [u, k, past @ ..] = views.as_slice() else {
            return Err(LowerError::unsupported("fft_conv", "an operand is missing"));
        };
        let Some((length, space)) = target.shape.split_last() else {
            return Err(LowerError::unsupported("fft_conv", "a scalar"));
        };
        let last = |view: &ValueView| view.shape[view.shape.len() - 1].clone();
        // Along the last axis each of the three has an extent of its own.
        let over = |view: &ValueView| {
            let walk: Vec<_> = space.iter().cloned().chain([last(view)]).collect();
            let mut strides = view.strides_over(&walk);
            strides[space.len()] = view.strides[view.strides.len() - 1].clone();
            view.over(strides)
        };
        let kernel = FftConv {
            space: space.to_vec(),
            length: length.clone(),
            inputs: last(u),
            taps: last(k),
            u: over(u),
            k: over(k),
            past: past.first().map(ValueView::over_own_axes),
            out: target.over_own_axes(),
        };
        steps.push(self.kernels.push(body.label.clone(), KernelBody::FftConv(kernel)));
        Ok(())
    }
}
