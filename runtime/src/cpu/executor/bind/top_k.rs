//! Binding of `top_k`.

use castiron_ir::DType;

use super::Binder;
use crate::bind::hazard::{self, Span};
use crate::bind::view::FlatView;
use crate::bind::{BindFault, check_row};
use crate::cpu::executor::kernels::BoundKernel;
use crate::cpu::executor::top_k::{Results, Row, TopKKernel, scratch_bytes};
use crate::program::TopK;

impl Binder<'_> {
    pub(super) fn top_k(&mut self, top: &TopK, label: &str) -> Result<(), BindFault> {
        let Some(outer) = self.space(&top.space)? else { return Ok(()) };
        let (n, k) = (self.resolver.dim(&top.n)?, top.k as usize);
        check_row(n, top.k)?;
        // Indices have 32 bits.
        if n > i32::MAX as usize || outer.iter().product::<usize>().checked_mul(n).is_none() {
            return Err(BindFault::TooLarge("a row"));
        }
        let over = |row: usize| -> Vec<usize> { outer.iter().copied().chain([row]).collect() };
        let (over_x, over_results) = (over(n), over(k));
        let x = self.resolver.view("the operand", &top.x, &over_x)?;
        let mut results: Vec<(&str, FlatView)> = Vec::new();
        for (name, view) in [("the elements", &top.values), ("the indices", &top.indices)] {
            if let Some(view) = view {
                results.push((name, self.resolver.view(name, view, &over_results)?));
            }
        }
        let span = |name, view, extents| Span { name, view, extents, in_place: false };
        let writes: Vec<Span<'_>> = results.iter().map(|(name, view)| span(name, view, &over_results[..])).collect();
        hazard::check(&[span("the operand", &x, &over_x)], &writes)?;
        drop(writes);
        self.touch(&x, &over_x);
        results.iter().for_each(|(_, view)| self.touch(view, &over_results));
        let is_row = x.is_plain(DType::F32) && (n == 1 || x.strides[outer.len()] == 1);
        let x = if is_row { x } else { self.copied(x, &over_x, label)? };
        let mut results = results.into_iter();
        let mut next = |is_there: bool| if is_there { results.next().map(|(_, view)| self.row(&view)) } else { None };
        let (values, indices) = (next(top.values.is_some()), next(top.indices.is_some()));
        let results = Results { values, indices };
        self.scratch.0 = self.scratch.0.max(scratch_bytes(n, k));
        self.count(outer.iter().product(), n, 1);
        let kernel = TopKKernel { x: self.row(&x), outer: outer.into(), n, k, results };
        let origin = self.origin_of(label, Vec::new());
        self.push(BoundKernel::TopK(kernel), origin);
        Ok(())
    }

    /// A view as rows in bytes.
    fn row(&self, view: &FlatView) -> Row {
        let size = view.dtype.size();
        let mut strides: Vec<usize> = view.strides.iter().map(|stride| stride.saturating_mul(size)).collect();
        let step = strides.pop().unwrap_or(0);
        Row { address: self.element(view), strides: strides.into(), step, dtype: view.dtype }
    }
}
