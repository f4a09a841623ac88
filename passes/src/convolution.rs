//! Convolutions in plain ops: windows are views, and what they see is contracted with the kernel.
//!
//! `conv %x, %w` → `dot (reshape (transpose (window (pad %x)))), (reshape %w)`, transposed back
//!
//! - The kernel is known: the product of `[positions, channels·taps]` with the packed matrix `[o, channels·taps]`.
//!   It has the channels last; elementwise ops that follow are computed before the transpose, where they are
//!   its epilogue.
//! - In groups, or with a kernel that is computed: a product of activations for each group.
//! - A channel for each group: a sum of shifted inputs times weights, elementwise.

use std::collections::HashMap;

use castiron_ir::op::{Conv, Dot, Op};
use castiron_ir::{BuildError, Dim, Node, Region, Value, ValueId};

use crate::rewrite::{Rewriter, rebuild};
use crate::weights::weight_expressions;

/// Most taps of a convolution that is a sum of shifted inputs.
const MOST_SHIFTS: usize = 64;

/// Writes each convolution in plain ops.
///
/// # Errors
/// As [`rebuild`].
pub fn run(region: &Region) -> Result<Region, BuildError> {
    let known = weight_expressions(region);
    let mut last = ChannelsLast::default();
    rebuild(region, |rewriter, node| match &node.op {
        Op::Conv(conv) => {
            let [x, w] = [0, 1].map(|i| rewriter.get(node.operands[i]));
            let geometry = Geometry::new(conv, &x, &w)?;
            let is_known = known[node.operands[1].index()];
            Some(vec![match () {
                () if geometry.channels == Dim::from(1) && geometry.taps() <= MOST_SHIFTS => geometry.shifted(&x, &w),
                () if geometry.groups == 1 && is_known => last.keep(geometry.packed(&x, &w)),
                () => geometry.grouped(&x, &w),
            }])
        }
        Op::Unary(_) | Op::Binary(_) | Op::Select(_) | Op::Cast(_) => Some(vec![last.through(rewriter, node)?]),
        _ => None,
    })
}

/// Extents of a convolution.
struct Geometry<'a> {
    conv: &'a Conv,
    groups: usize,
    /// Input channels of a group.
    channels: Dim,
    /// Output channels of a group.
    outputs: Dim,
    /// Taps along each spatial axis.
    kernel: Vec<usize>,
}

/// A windowed input, with its axes of positions and of taps.
struct Windows {
    value: Value,
    positions: Vec<usize>,
    taps: Vec<usize>,
}

impl<'a> Geometry<'a> {
    /// `None` for extents of the kernel that do not divide or are not known.
    fn new(conv: &'a Conv, x: &Value, w: &Value) -> Option<Geometry<'a>> {
        let groups = conv.groups.unwrap_or(1);
        let extent = |d: &Dim| d.as_constant().and_then(|k| usize::try_from(k).ok());
        let kernel = w.ty().shape[2..].iter().map(extent).collect::<Option<_>>()?;
        let per_group = |channels: Dim| channels.divide(&groups.into());
        Some(Geometry { conv, groups, channels: per_group(x.dim(1))?, outputs: per_group(w.dim(0))?, kernel })
    }

    fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Elements that an output is a sum over.
    fn summed(&self) -> Dim {
        self.channels.clone() * self.taps().into()
    }

    /// The input with its zeros: between the elements, before and after; `first` is its first spatial axis.
    fn padded(&self, x: &Value, first: usize) -> Value {
        let mut x = x.clone();
        for (axis, &(before, after)) in self.conv.padding.iter().enumerate() {
            x = spread(&x, first + axis, self.conv.expand(axis));
            if before + after > 0 {
                x = x.pad(first + axis, before, after);
            }
        }
        x
    }

    /// What the kernel sees at each position; `first` is the first spatial axis.
    fn windows(&self, x: &Value, first: usize) -> Windows {
        let mut windows = Windows { value: self.padded(x, first), positions: Vec::new(), taps: Vec::new() };
        let mut axis = first;
        for (spatial, (&taps, &stride)) in self.kernel.iter().zip(&self.conv.stride).enumerate() {
            windows.positions.push(axis);
            if taps > 1 || stride > 1 {
                windows.value = windows.value.window(axis, taps, stride, self.conv.dilation(spatial));
                windows.taps.push(axis + 1);
                axis += 1;
            }
            axis += 1;
        }
        windows
    }

    /// `[n, positions.., o]` by a matrix that is known, and the axes that bring the channels to their place.
    fn packed(&self, x: &Value, w: &Value) -> (Value, Vec<usize>) {
        let windows = self.windows(x, 2);
        let mut columns = windows.value.transpose(&[&[0], &*windows.positions, &[1], &windows.taps].concat());
        let kept = 1 + windows.positions.len();
        if !windows.taps.is_empty() {
            let shape = columns.ty().shape;
            columns = columns.reshape(shape[..kept].iter().cloned().chain([self.summed()]));
        }
        let matrix = w.reshape([w.dim(0), self.summed()]);
        let result = columns.apply(Dot { batch: vec![], contract: vec![(kept, 1)] }, &[&matrix]);
        (result, [0, kept].into_iter().chain(1..kept).collect())
    }

    /// A product for each group of `[o, channels·taps]` with `[channels·taps, n·positions]`.
    fn grouped(&self, x: &Value, w: &Value) -> Value {
        let shape = x.ty().shape;
        let split = [&[shape[0].clone(), self.groups.into(), self.channels.clone()], &shape[2..]].concat();
        let windows = self.windows(&x.reshape(split), 3);
        let order = [&[1, 2], &*windows.taps, &[0], &windows.positions].concat();
        let columns = windows.value.transpose(&order);
        let kept = columns.ty().shape[2 + windows.taps.len()..].to_vec();
        let columns = columns.reshape([self.groups.into(), self.summed(), Dim::product(&kept)]);
        let matrix = w.reshape([self.groups.into(), self.outputs.clone(), self.summed()]);
        let result = matrix.apply(Dot { batch: vec![(0, 0)], contract: vec![(2, 1)] }, &[&columns]);
        let result = result.reshape([&[self.groups.into(), self.outputs.clone()], &*kept].concat());
        let order: Vec<usize> = [2, 0, 1].into_iter().chain(3..2 + kept.len()).collect();
        result.transpose(&order).reshape([&[kept[0].clone(), w.dim(0)], &kept[1..]].concat())
    }

    /// `Σ_t x[.. + t]·w[t]` for one input channel in each group.
    fn shifted(&self, x: &Value, w: &Value) -> Value {
        let (shape, spatial) = (x.ty().shape, self.kernel.len());
        // Several outputs of one channel are an axis of their own.
        let several = (self.outputs != Dim::from(1)).then(|| self.outputs.clone());
        let first = 2 + usize::from(several.is_some());
        let split: Vec<Dim> = [&shape[..2], &vec![1.into(); first - 2], &shape[2..]].concat();
        let windows = self.windows(&x.reshape(split), first);
        let seen = windows.value.ty().shape;
        let lead = seen[..first].iter().chain(windows.positions.iter().map(|&a| &seen[a])).cloned();
        let lead: Vec<Dim> = lead.collect();
        // A tap's weights lie one after the other, where a batch axis is broadcast to.
        let channels: Vec<Dim> = [Dim::from(self.groups)].into_iter().chain(several.clone()).collect();
        let taps = [Dim::from(self.taps())];
        let weights = w.reshape(channels.iter().chain(&taps).cloned());
        let order: Vec<usize> = [channels.len()].into_iter().chain(0..channels.len()).collect();
        let units = vec![Dim::from(1); spatial];
        let weights = weights.transpose(&order).reshape([&taps[..], &channels, &units].concat());
        let shift = |tap: usize| {
            let mut x = windows.value.clone();
            let mut rest = tap;
            for &axis in windows.taps.iter().rev() {
                let taps = seen[axis].as_constant().map_or(1, |n| n as usize);
                x = x.slice(axis, rest % taps, rest % taps + 1);
                rest /= taps;
            }
            x.reshape(lead.clone()) * weights.slice(0, tap, tap + 1)
        };
        let sum = (1..self.taps()).fold(shift(0), |sum, tap| sum + shift(tap));
        let out = windows.positions.iter().map(|&a| seen[a].clone());
        if several.is_some() { sum.reshape([shape[0].clone(), w.dim(0)].into_iter().chain(out)) } else { sum }
    }
}

/// Zeros between elements, which are then `distance` apart.
fn spread(x: &Value, axis: usize, distance: usize) -> Value {
    if distance == 1 {
        return x.clone();
    }
    let shape = x.ty().shape;
    let (mut split, mut joined) = (shape.clone(), shape.clone());
    split.insert(axis + 1, 1.into());
    joined[axis] = shape[axis].clone() * distance.into();
    let end = (shape[axis].clone() - 1.into()) * distance.into() + 1.into();
    x.reshape(split).pad(axis + 1, 0, distance - 1).reshape(joined).slice(axis, 0, end)
}

/// Values that are transposes of what has its channels last.
#[derive(Default)]
struct ChannelsLast(HashMap<ValueId, (Value, Vec<usize>)>);

impl ChannelsLast {
    /// Transposes a value, and remembers that.
    fn keep(&mut self, (value, axes): (Value, Vec<usize>)) -> Value {
        let transposed = value.transpose(&axes);
        self.0.insert(transposed.id(), (value, axes));
        transposed
    }

    /// `f(transpose a, b) = transpose f(a, transpose⁻¹ b)`, if an operand of the shape of the result is one
    /// of these transposes.
    fn through(&mut self, rewriter: &Rewriter<'_>, node: &Node) -> Option<Value> {
        let operands = rewriter.get_all(&node.operands);
        let shape = &rewriter.old.type_of(node.results[0]).shape;
        let axes =
            operands.iter().find_map(|o| Some(self.0.get(&o.id())?.1.clone()).filter(|_| o.ty().shape == *shape));
        let axes = axes?;
        let mut inverse = vec![0; axes.len()];
        axes.iter().enumerate().for_each(|(to, &from)| inverse[from] = to);
        let before = |operand: &Value| match self.0.get(&operand.id()) {
            Some((value, by)) if *by == axes => value.clone(),
            _ if operand.rank() == 0 => operand.clone(),
            _ => {
                let units = vec![Dim::from(1); axes.len() - operand.rank()];
                let whole = if units.is_empty() {
                    operand.clone()
                } else {
                    operand.reshape(units.into_iter().chain(operand.ty().shape))
                };
                whole.transpose(&inverse)
            }
        };
        let operands: Vec<Value> = operands.iter().map(before).collect();
        let value = rewriter.new.apply(node.op.clone(), &operands.iter().collect::<Vec<_>>());
        Some(self.keep((value, axes)))
    }
}
