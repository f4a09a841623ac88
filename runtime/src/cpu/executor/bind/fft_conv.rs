//! Binding long convolutions: which rows form blocks, and how they are computed.

use castiron_ir::DType;

use super::Binder;
use crate::bind::BindFault;
use crate::bind::hazard::{self, Span};
use crate::bind::view::FlatView;
use crate::cpu::convolution::Transform;
use crate::cpu::executor::fft_conv::{FftConvKernel, PAST, Past, Rows};
use crate::cpu::executor::kernels::BoundKernel;
use crate::program::FftConv;

/// Longest row: transforms count their elements, and twice as many, without overflow.
const MAX_ROW: usize = 1 << 28;

impl Binder<'_> {
    pub(super) fn fft_conv(&mut self, body: &FftConv, label: &str) -> Result<(), BindFault> {
        let Some(outer) = self.space(&body.space)? else { return Ok(()) };
        let [length, inputs, taps] = [&body.length, &body.inputs, &body.taps].map(|dim| self.resolver.dim(dim));
        let (length, inputs, taps) = (length?, inputs?, taps?);
        if length == 0 {
            return Ok(());
        }
        if taps == 0 || inputs == 0 {
            return Err(BindFault::Empty("an operand of a convolution"));
        }
        if length > inputs {
            let operand = "the results of a convolution".to_owned();
            return Err(BindFault::Bounds { operand, needed: length, available: inputs });
        }
        let rows: usize = outer.iter().product();
        let longest = inputs.max(taps);
        if longest > MAX_ROW || rows.checked_mul(longest).is_none() {
            return Err(BindFault::TooLarge("a row of a convolution"));
        }
        let over = |row: usize| -> Vec<usize> { outer.iter().copied().chain([row]).collect() };
        let (over_u, over_k, over_out) = (over(inputs), over(taps), over(length));
        let u = self.resolver.view("the sequence", &body.u, &over_u)?;
        let k = self.resolver.view("the kernel", &body.k, &over_k)?;
        let out = self.resolver.view("the result", &body.out, &over_out)?;
        let first = outer.get(..1).unwrap_or_default().to_vec();
        let past = body.past.as_ref().map(|view| self.resolver.view("the past", view, &first)).transpose()?;
        let span = |name, view, extents| Span { name, view, extents, in_place: false };
        let mut reads = vec![span("the sequence", &u, &over_u), span("the kernel", &k, &over_k)];
        reads.extend(past.as_ref().map(|view| span("the past", view, &first)));
        hazard::check(&reads, &[span("the result", &out, &over_out)])?;
        self.touch(&u, &over_u);
        self.touch(&k, &over_k);
        self.touch(&out, &over_out);
        let u = if u.is_plain(DType::F32) { u } else { self.copied(u, &over_u, label)? };
        let k = if k.is_plain(DType::F32) { k } else { self.copied(k, &over_k, label)? };
        let axis = closest(&outer, &out, &u);
        let transform = Transform::of(inputs, taps, length);
        let without = |values: &[usize]| -> Box<[usize]> {
            values.iter().enumerate().filter(|&(i, _)| Some(i) != axis).map(|(_, &x)| x).collect()
        };
        let lanes = axis.map_or(1, |axis| outer[axis]);
        let past = past.map(|view| Past {
            address: self.element(&view),
            stride: view.strides.first().map_or(0, |stride| stride * view.dtype.size()),
            axis: (axis != Some(0)).then_some(0),
        });
        let kernel = FftConvKernel {
            lanes,
            block: FftConvKernel::block(rows, lanes, inputs, self.workers),
            u: self.rows_of(&u, axis, inputs),
            k: self.rows_of(&k, axis, taps),
            out: self.rows_of(&out, axis, length),
            others: without(&outer),
            past,
            transform,
        };
        self.scratch.0 = self.scratch.0.max(kernel.scratch_bytes());
        let each = match &kernel.transform {
            Some(transform) => 5 * 3 * transform.bins().ilog2() as usize,
            None => 2 * taps.min(inputs),
        };
        self.count(rows, if kernel.transform.is_some() { inputs } else { length }, each);
        let mut indices = vec![String::new(); PAST];
        indices.extend(
            body.past
                .as_ref()
                .map(|view| self.resolver.memory(&view.place))
                .transpose()?
                .map(|memory| self.source(memory)),
        );
        let origin = self.origin_of(label, indices);
        self.push(BoundKernel::FftConv(Box::new(kernel)), origin);
        Ok(())
    }

    /// A view as rows whose blocks lie along an axis.
    fn rows_of(&self, view: &FlatView, axis: Option<usize>, count: usize) -> Rows {
        let mut strides: Vec<usize> = view.strides.iter().map(|stride| stride * size_of::<f32>()).collect();
        let step = strides.pop().unwrap_or(0);
        let lane = axis.map_or(0, |axis| strides.remove(axis));
        Rows { address: self.element(view), lane, others: strides.into(), step, count }
    }
}

/// The outer axis along which neighbours of the result lie closest, and of the sequence.
fn closest(outer: &[usize], out: &FlatView, u: &FlatView) -> Option<usize> {
    let moving = (0..outer.len()).filter(|&axis| outer[axis] > 1);
    moving.min_by_key(|&axis| out.strides[axis].saturating_add(u.strides[axis]))
}
