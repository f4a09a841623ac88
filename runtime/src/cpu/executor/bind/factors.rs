//! Products of activations, and attention.

use castiron_ir::DType;

use super::{Binder, check_hazards};
use crate::bind::BindFault;
use crate::bind::hazard::{self, Span};
use crate::bind::view::FlatView;
use crate::cpu::attention::Attention;
use crate::cpu::executor::kernels::{AttentionKernel, BoundKernel, Factor, Keys, ProductKernel};
use crate::cpu::executor::operand::Address;
use crate::cpu::matmul::batched::Batched;
use crate::program::view::View;
use crate::program::{AttentionKernel as AttentionBody, Product as ProductBody};

impl Binder<'_> {
    pub(super) fn product(&mut self, product: &ProductBody, label: &str) -> Result<(), BindFault> {
        let Some(extents) = self.space(&product.space)? else { return Ok(()) };
        let k = self.resolver.dim(&product.k)?;
        let (batch, [m, n]) = extents.split_at(extents.len() - 2) else { return Ok(()) };
        let (m, n) = (*m, *n);
        if k == 0 {
            return Err(BindFault::Empty("the contracted axis"));
        }
        if k > super::MAX_EXTENT {
            return Err(BindFault::TooLarge("the contracted axis"));
        }
        let over = |rows: usize| -> Vec<usize> { batch.iter().copied().chain([rows, k]).collect() };
        let (lhs_extents, rhs_extents) = (over(m), over(n));
        let lhs = self.resolver.view("the left operand", &product.lhs, &lhs_extents)?;
        let rhs = self.resolver.view("the right operand", &product.rhs, &rhs_extents)?;
        self.touch(&lhs, &lhs_extents);
        self.touch(&rhs, &rhs_extents);
        let flat = self.operands(&product.epilogue, 1, &extents)?;
        let factors = [("the left operand", &lhs, &*lhs_extents), ("the right operand", &rhs, &*rhs_extents)];
        check_hazards(&flat, &factors)?;
        let lhs = self.factor(lhs, &lhs_extents, label)?;
        let rhs = self.factor(rhs, &rhs_extents, label)?;
        let origin = self.origin(label, &flat);
        let batch: Box<[usize]> = batch.into();
        let epilogue = self.epilogue(&product.epilogue, 1, flat, extents.clone())?;
        self.scratch.0 = self.scratch.0.max(Batched::scratch_bytes(m, n, k));
        self.count(extents.iter().product(), k, 2);
        let kernel = ProductKernel { isa: self.isa, batch, m, n, k, lhs, rhs, epilogue };
        self.push(BoundKernel::Product(kernel), origin);
        Ok(())
    }

    /// An operand in f32 at addresses that follow from the index, copied if it is not.
    fn factor(&mut self, view: FlatView, extents: &[usize], label: &str) -> Result<Factor, BindFault> {
        let view = self.plain(view, extents, label)?;
        let (batch, [stride, step]) = view.strides.split_at(extents.len() - 2) else {
            return Err(BindFault::Empty("an operand of a product"));
        };
        Ok(Factor { address: self.element(&view), batch: batch.into(), stride: *stride, step: *step })
    }

    /// An operand in f32, copied if it is not.
    pub(super) fn plain(&mut self, view: FlatView, extents: &[usize], label: &str) -> Result<FlatView, BindFault> {
        if view.is_plain(DType::F32) { Ok(view) } else { self.copied(view, extents, label) }
    }

    pub(super) fn attention(&mut self, body: &AttentionBody, label: &str) -> Result<(), BindFault> {
        let extents = self.resolver.dims(&body.extents)?;
        let Ok(extents @ [b, g, r, s, t, d, e]) = <[usize; 7]>::try_from(extents) else { return Ok(()) };
        if self.space(&body.extents)?.is_none() {
            return if [b, g, r, s, e].contains(&0) { Ok(()) } else { Err(BindFault::Empty("keys or their width")) };
        }
        let over_scores = [b, g, r, s, t];
        let mut operands: Vec<(&str, FlatView, Vec<usize>)> = Vec::new();
        let mut read = |name: &'static str, view: Option<&View>, over: &[usize]| -> Result<(), BindFault> {
            let Some(view) = view else { return Ok(()) };
            operands.push((name, self.resolver.view(name, view, over)?, over.to_vec()));
            Ok(())
        };
        read("q", Some(&body.q), &[b, g, r, s, d])?;
        read("k", Some(&body.k), &[b, g, t, d])?;
        read("v", Some(&body.v), &[b, g, t, e])?;
        for scale in body.scales.iter().flatten() {
            read("the scales", Some(scale), &[b, g, t])?;
        }
        read("the bias", body.bias.as_ref(), &over_scores)?;
        read("the sinks", body.sinks.as_ref(), &[b, g, r, s])?;
        read("the past", body.past.as_ref(), &[b])?;
        read("the mask", body.mask.as_ref(), &[b, t])?;
        let out = self.resolver.view("the result", &body.out, &[b, g, r, s, e])?;
        let spans: Vec<Span<'_>> =
            operands.iter().map(|(name, view, extents)| Span { name, view, extents, in_place: false }).collect();
        hazard::check(&spans, &[Span { name: "the result", view: &out, extents: &[b, g, r, s, e], in_place: false }])?;
        operands.iter().for_each(|(_, view, extents)| self.touch(view, extents));
        self.touch(&out, &[b, g, r, s, e]);
        let mut operands = operands.into_iter();
        let mut next = |is_there: bool| if is_there { operands.next() } else { None };
        let [q, k, v] = [next(true), next(true), next(true)];
        let scales = body.scales.as_ref().map(|_| [next(true), next(true)]);
        let (bias, sinks) = (next(body.bias.is_some()), next(body.sinks.is_some()));
        let (past, mask) = (next(body.past.is_some()), next(body.mask.is_some()));
        let floats = Attention::shared_floats(&extents, self.workers);
        let shared = self.temporary(DType::F32, &[floats])?;
        let kernel = AttentionKernel {
            isa: self.isa,
            extents,
            q: self.required(q, label)?,
            k: self.keys(k, label)?,
            v: self.keys(v, label)?,
            scales: match scales {
                Some([k, v]) => Some([self.required(k, label)?, self.required(v, label)?]),
                None => None,
            },
            out: (self.element(&out), fixed(&out)),
            past: past.map(|(_, view, _)| (self.element(&view), fixed(&view))),
            mask: mask.map(|(_, view, _)| (self.element(&view), fixed(&view))),
            bias: bias.map(|bias| self.required(Some(bias), label)).transpose()?,
            sinks: sinks.map(|sinks| self.required(Some(sinks), label)).transpose()?,
            scale: body.scale,
            soft_cap: body.soft_cap,
            causal: body.causal,
            window: body.window,
            is_live: self.is_live(),
            shared: (self.element(&shared), floats),
        };
        self.scratch.0 = self.scratch.0.max(Attention::scratch_bytes(&extents));
        self.count(b * g * r * s, t, 2 * (d + e));
        let origin = self.origin_of(label, Vec::new());
        self.push(BoundKernel::Attention(Box::new(kernel)), origin);
        Ok(())
    }

    /// Keys or values of attention: f16 and bytes stay where they lie.
    fn keys(&mut self, operand: Option<(&str, FlatView, Vec<usize>)>, label: &str) -> Result<Keys, BindFault> {
        match operand {
            Some((_, view, _)) if view.is_plain(DType::F16) || view.is_plain(DType::I8) => {
                Ok(Keys { span: (self.element(&view), fixed(&view)), dtype: view.dtype })
            }
            operand => Ok(Keys { span: self.required(operand, label)?, dtype: DType::F32 }),
        }
    }

    /// An operand of attention in plain f32.
    fn required<const N: usize>(
        &mut self,
        operand: Option<(&str, FlatView, Vec<usize>)>,
        label: &str,
    ) -> Result<(Address, [usize; N]), BindFault> {
        let Some((_, view, extents)) = operand else { return Err(BindFault::Empty("an operand of attention")) };
        let view = self.plain(view, &extents, label)?;
        Ok((self.element(&view), fixed(&view)))
    }
}

/// Strides of a view over so many axes.
pub(super) fn fixed<const N: usize>(view: &FlatView) -> [usize; N] {
    let mut strides = [0; N];
    strides.iter_mut().zip(&view.strides).for_each(|(to, &stride)| *to = stride);
    strides
}
