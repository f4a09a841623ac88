//! Binding recurrences that have kernels.

use castiron_ir::DType;

use super::Binder;
use super::factors::fixed;
use crate::bind::BindFault;
use crate::bind::hazard::{self, Span};
use crate::bind::view::FlatView;
use crate::cpu::executor::kernels::{BoundKernel, Span as Place};
use crate::cpu::executor::recurrence::{LinearAttentionKernel, SelectiveScanKernel};
use crate::cpu::isa::Isa;
use crate::cpu::recurrence::{LinearAttention, SelectiveScan};
use crate::program::{Recurrence, RecurrenceKind};

/// A view with the extents that it is over.
struct Over {
    view: FlatView,
    extents: Vec<usize>,
}

impl Over {
    /// Whether neighbouring elements of the last axis are neighbours in memory.
    fn is_dense(&self) -> bool {
        let last = self.extents.len() - 1;
        self.view.is_plain(DType::F32) && (self.extents[last] == 1 || self.view.strides[last] == 1)
    }

    fn span<'a>(&'a self, name: &'a str) -> Span<'a> {
        Span { name, view: &self.view, extents: &self.extents, in_place: false }
    }
}

impl Binder<'_> {
    /// Binds a fused recurrence; says whether it could, which needs vectors and dense results.
    pub(super) fn recurrence(&mut self, fused: &Recurrence, label: &str) -> Result<bool, BindFault> {
        let Some(all) = self.space(&fused.extents)? else { return Ok(false) };
        let over = |axes: &[usize]| axes.iter().map(|&axis| all[axis]).collect::<Vec<_>>();
        let [state, out] = fused.kind.results().map(over);
        let state = Over { view: self.resolver.view("the state", &fused.state, &state)?, extents: state };
        let out = Over { view: self.resolver.view("the result", &fused.out, &out)?, extents: out };
        if self.isa == Isa::Portable || !state.view.is_plain(DType::F32) || !out.is_dense() {
            return Ok(false);
        }
        let mut operands = Vec::new();
        for (i, (view, axes)) in fused.operands.iter().zip(fused.kind.operands()).enumerate() {
            let extents = over(axes);
            operands.push(Over { view: self.resolver.view(&format!("operand {i}"), view, &extents)?, extents });
        }
        let reads: Vec<Span<'_>> = operands.iter().map(|over| over.span("an operand")).collect();
        hazard::check(&reads, &[state.span("the state"), out.span("the result")])?;
        [&state, &out].into_iter().chain(&operands).for_each(|over| self.touch(&over.view, &over.extents));
        let kernel = match fused.kind {
            RecurrenceKind::LinearAttention { delta, before, .. } => {
                self.linear_attention(&all, (&state, &out), operands, (delta, before), label)?
            }
            RecurrenceKind::SelectiveScan => self.selective_scan(&all, (&state, &out), operands, label)?,
        };
        let origin = self.origin_of(label, Vec::new());
        self.push(kernel, origin);
        Ok(true)
    }

    fn linear_attention(
        &mut self,
        all: &[usize],
        (state, out): (&Over, &Over),
        operands: Vec<Over>,
        (delta, before): (bool, bool),
        label: &str,
    ) -> Result<BoundKernel, BindFault> {
        let mut places = Vec::new();
        for (i, operand) in operands.into_iter().enumerate() {
            // Values are read as vectors, keys number by number.
            places.push(self.sequence(operand, i == 2, label)?);
        }
        let mut places = places.into_iter();
        let missing = BindFault::Empty("an operand of linear attention");
        let [Some(query), Some(key), Some(value)] = [places.next(), places.next(), places.next()] else {
            return Err(missing);
        };
        let decay = if places.len() % 2 == 1 { places.next() } else { None };
        let delta = match (delta, places.next(), places.next()) {
            (false, ..) => None,
            (true, Some(a), Some(b)) => Some([a, b]),
            _ => return Err(missing),
        };
        let mut extents = [0; 6];
        extents.copy_from_slice(all);
        let [b, s, g, r, k, e] = extents;
        self.scratch.0 = self.scratch.0.max(LinearAttention::scratch_bytes(k));
        self.count(b * s * g * r, k * e, if delta.is_some() { 9 } else { 5 });
        let (state, out) = (self.place(state), self.place(out));
        let isa = self.isa;
        let kernel = LinearAttentionKernel { isa, extents, state, query, key, value, decay, delta, before, out };
        Ok(BoundKernel::LinearAttention(Box::new(kernel)))
    }

    fn selective_scan(
        &mut self,
        all: &[usize],
        (state, out): (&Over, &Over),
        operands: Vec<Over>,
        label: &str,
    ) -> Result<BoundKernel, BindFault> {
        let missing = || BindFault::Empty("an operand of a selective scan");
        let [u, delta, b, c, a] = <[Over; 5]>::try_from(operands).map_err(|_| missing())?;
        let sequences = [
            self.sequence(u, true, label)?,
            self.sequence(delta, true, label)?,
            self.sequence(b, true, label)?,
            self.sequence(c, true, label)?,
        ];
        let a = self.sequence(a, false, label)?;
        let mut extents = [0; 4];
        extents.copy_from_slice(all);
        let [b, s, d, n] = extents;
        self.scratch.0 = self.scratch.0.max(SelectiveScan::scratch_bytes(n));
        // An exponential counts as ten operations.
        self.count(b * s, d * n, 16);
        let (state, out) = (self.place(state), self.place(out));
        let kernel = SelectiveScanKernel { isa: self.isa, extents, state, sequences, a, out };
        Ok(BoundKernel::SelectiveScan(Box::new(kernel)))
    }

    /// An operand in f32, copied if its elements have to be neighbours and are not.
    fn sequence<const N: usize>(&mut self, over: Over, dense: bool, label: &str) -> Result<Place<N>, BindFault> {
        let is_apart = dense && !over.is_dense();
        let Over { view, extents } = over;
        let view = if is_apart { self.copied(view, &extents, label)? } else { self.plain(view, &extents, label)? };
        Ok((self.element(&view), fixed(&view)))
    }

    fn place<const N: usize>(&self, over: &Over) -> Place<N> {
        (self.element(&over.view), fixed(&over.view))
    }
}
