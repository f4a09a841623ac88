//! Clusters of one `top_k`.

use castiron_ir::op::Op;
use castiron_runtime::program::{KernelBody, Step, TopK};

use super::body::Body;
use super::view::ValueView;
use super::{LowerError, Lowering, is_row_dtype};

impl Lowering<'_> {
    /// A kernel that writes the elements, their indices, or both.
    pub(super) fn top_k(
        &mut self,
        body: &Body,
        targets: &[ValueView],
        steps: &mut Vec<Step>,
    ) -> Result<(), LowerError> {
        let results = &body.region.results;
        let Some((node, Op::TopK(top))) = body.producer(results[0]).map(|n| (n, &n.op)) else {
            return Err(LowerError::unsupported("cluster", "a top_k cluster without top_k"));
        };
        let x = body.argument(node.operands[0]);
        let x = x.ok_or_else(|| LowerError::unsupported("top_k", "its operand is no buffer"))?;
        if !is_row_dtype(x.dtype) {
            return Err(LowerError::unsupported("top_k", format!("elements of {}", x.dtype)));
        }
        let Some((n, space)) = x.shape.split_last() else {
            return Err(LowerError::unsupported("top_k", "a scalar"));
        };
        let k = u32::try_from(top.k).map_err(|_| LowerError::TooLarge(body.label.clone()))?;
        if k == 0 {
            return Ok(());
        }
        let target = |of: usize| {
            let at = results.iter().position(|&r| r == node.results[of])?;
            Some(targets[at].over_own_axes())
        };
        let (values, indices) = (target(0), target(1));
        let kernel = TopK { space: space.to_vec(), n: n.clone(), k, x: x.over_own_axes(), values, indices };
        steps.push(self.kernels.push(body.label.clone(), KernelBody::TopK(kernel)));
        Ok(())
    }
}
