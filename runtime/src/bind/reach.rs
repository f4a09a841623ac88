//! How far the addresses of kernels reach, for executors whose code computes addresses itself.

use super::view::{Memory, Resolver};
use super::{BindFault, check_row};
use crate::program::row::Access;
use crate::program::view::View;
use crate::program::{AttentionKernel, FftConv, Kernel, KernelBody, Matmul, Product, RowOperands, TopK};

/// Checks the addresses of a kernel against the memory they fall in, and that numbers up to `most`
/// count the elements of its operands and the indices of its iteration space.
///
/// # Errors
/// Addresses outside their memory, and sizes that do not fit.
pub(crate) fn check(resolver: &Resolver<'_>, kernel: &Kernel, most: usize) -> Result<(), BindFault> {
    let reach = Reach { resolver, most };
    match &kernel.body {
        KernelBody::Rows(rows) => {
            let space = resolver.dims(&rows.space)?;
            if reach.space(&space)? { reach.operands(&rows.operands, 0, &space) } else { Ok(()) }
        }
        KernelBody::Matmul(matmul) => reach.matmul(matmul),
        KernelBody::Product(product) => reach.product(product),
        KernelBody::Attention(attention) => reach.attention(attention),
        KernelBody::Scan(scan) => {
            let walk = resolver.dims(&scan.walk())?;
            if reach.space(&walk)? { reach.operands(&scan.operands, scan.carried, &walk) } else { Ok(()) }
        }
        KernelBody::TopK(top) => reach.top_k(top),
        KernelBody::FftConv(convolution) => reach.fft_conv(convolution),
    }
}

struct Reach<'a> {
    resolver: &'a Resolver<'a>,
    most: usize,
}

impl Reach<'_> {
    /// Whether an iteration space has any index.
    fn space(&self, extents: &[usize]) -> Result<bool, BindFault> {
        let size = extents.iter().try_fold(1_usize, |size, &extent| size.checked_mul(extent));
        match size.filter(|&size| size <= self.most) {
            Some(size) => Ok(size > 0),
            None => Err(BindFault::TooLarge("the iteration space")),
        }
    }

    fn view(&self, operand: &str, view: &View, extents: &[usize]) -> Result<(), BindFault> {
        let flat = self.resolver.view(operand, view, extents)?;
        if matches!(flat.memory, Memory::Index(_) | Memory::Value(_)) {
            return Ok(());
        }
        match flat.last(extents).filter(|&last| last <= self.most) {
            Some(_) => Ok(()),
            None => Err(BindFault::TooFar { operand: operand.to_owned(), most: self.most }),
        }
    }

    /// Views over an iteration space of which no extent is 0. What is the same for a whole row is
    /// taken at its first element.
    fn operands(&self, operands: &RowOperands, given: usize, space: &[usize]) -> Result<(), BindFault> {
        let mut first = space.to_vec();
        first[space.len() - 1] = 1;
        for (i, (view, access)) in operands.inputs.iter().zip(&operands.program.inputs[given..]).enumerate() {
            let over = if *access == Access::Element { space } else { &first };
            self.view(&format!("input {i}"), view, over)?;
        }
        for (i, view) in operands.outputs.iter().enumerate() {
            let step = self.resolver.dim(&view.strides[space.len() - 1])?;
            let over = if step == 0 { &first } else { space };
            self.view(&format!("output {i}"), view, over)?;
        }
        Ok(())
    }

    fn matmul(&self, matmul: &Matmul) -> Result<(), BindFault> {
        let space = self.resolver.dims(&matmul.space)?;
        if !self.space(&space)? {
            return Ok(());
        }
        let (_, matrix) = self.resolver.matrices(matmul.weight)?;
        if space.last() != Some(&matrix.n) {
            let (needed, available) = (space.last().copied().unwrap_or(0), matrix.n);
            return Err(BindFault::Bounds { operand: "the columns of the product".into(), needed, available });
        }
        let mut over_x = space.clone();
        over_x[space.len() - 1] = matrix.k;
        self.view("the left operand", &matmul.x, &over_x)?;
        if let Some(chosen) = &matmul.chosen {
            over_x[space.len() - 1] = 1;
            self.view("the choice of a weight", chosen, &over_x)?;
        }
        self.operands(&matmul.epilogue, matrix.groups, &space)
    }

    fn product(&self, product: &Product) -> Result<(), BindFault> {
        let (space, k) = (self.resolver.dims(&product.space)?, self.resolver.dim(&product.k)?);
        if !self.space(&space)? {
            return Ok(());
        }
        if k == 0 {
            return Err(BindFault::Empty("the contracted axis"));
        }
        let (batch, [m, n]) = space.split_at(space.len() - 2) else { return Ok(()) };
        let over = |rows: usize| -> Vec<usize> { batch.iter().copied().chain([rows, k]).collect() };
        self.view("the left operand", &product.lhs, &over(*m))?;
        self.view("the right operand", &product.rhs, &over(*n))?;
        self.operands(&product.epilogue, 1, &space)
    }

    fn top_k(&self, top: &TopK) -> Result<(), BindFault> {
        let (outer, n) = (self.resolver.dims(&top.space)?, self.resolver.dim(&top.n)?);
        let over = |row: usize| -> Vec<usize> { outer.iter().copied().chain([row]).collect() };
        if !self.space(&outer)? {
            return Ok(());
        }
        check_row(n, top.k)?;
        self.space(&over(n))?;
        self.view("the operand", &top.x, &over(n))?;
        for (name, view) in [("the elements", &top.values), ("the indices", &top.indices)] {
            if let Some(view) = view {
                self.view(name, view, &over(top.k as usize))?;
            }
        }
        Ok(())
    }

    fn fft_conv(&self, c: &FftConv) -> Result<(), BindFault> {
        let outer = self.resolver.dims(&c.space)?;
        let [length, inputs, taps] = [&c.length, &c.inputs, &c.taps].map(|dim| self.resolver.dim(dim));
        let over = |row: usize| -> Vec<usize> { outer.iter().copied().chain([row]).collect() };
        let (over_u, over_k, over_out) = (over(inputs?), over(taps?), over(length?));
        if !self.space(&over_out)? {
            return Ok(());
        }
        if !self.space(&over_u)? || !self.space(&over_k)? {
            return Err(BindFault::Empty("an operand of a convolution"));
        }
        self.view("the sequence", &c.u, &over_u)?;
        self.view("the kernel", &c.k, &over_k)?;
        if let (Some(past), Some(&rows)) = (&c.past, outer.first()) {
            self.view("the past", past, &[rows])?;
        }
        self.view("the result", &c.out, &over_out)
    }

    fn attention(&self, body: &AttentionKernel) -> Result<(), BindFault> {
        let extents = self.resolver.dims(&body.extents)?;
        let Ok([b, g, r, s, t, d, e]) = <[usize; 7]>::try_from(extents) else { return Ok(()) };
        if !self.space(&[b, g, r, s, e])? {
            return Ok(());
        }
        if !self.space(&[b, g, t, d])? {
            return Err(BindFault::Empty("keys or their width"));
        }
        self.view("q", &body.q, &[b, g, r, s, d])?;
        self.view("k", &body.k, &[b, g, t, d])?;
        self.view("v", &body.v, &[b, g, t, e])?;
        for scale in body.scales.iter().flatten() {
            self.view("the scales", scale, &[b, g, t])?;
        }
        if let Some(bias) = &body.bias {
            self.view("the bias", bias, &[b, g, r, s, t])?;
        }
        if let Some(sinks) = &body.sinks {
            self.view("the sinks", sinks, &[b, g, r, s])?;
        }
        if let Some(past) = &body.past {
            self.view("the past", past, &[b])?;
        }
        if let Some(mask) = &body.mask {
            self.view("the mask", mask, &[b, t])?;
        }
        self.view("the result", &body.out, &[b, g, r, s, e])
    }
}
