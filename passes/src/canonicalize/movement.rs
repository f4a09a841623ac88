//! Movement that does nothing, or does in two steps what one can do.

use castiron_ir::op::{Op, Reduce, Slice, Transpose};
use castiron_ir::{Dim, Value};

use super::{Rule, Site};

/// The rules of `reshape`.
pub(super) const RESHAPE: &[Rule] = &[
    // reshape x to its own shape = x
    |s| s.keep(0),
    // reshape (reshape x) = reshape x
    |s| match s.operands[0].producer()? {
        (Op::Reshape(_), inner) => Some(inner[0].reshape(s.ty.shape.iter())),
        _ => None,
    },
    // reshape (iota [n]) to [1,n,1] = iota [1,n,1]
    reshaped_iota,
    // reshape of a constant = the constant with another shape
    |s| match s.operands[0].producer()? {
        (Op::Constant(mut c), _) => {
            c.ty = s.ty.clone();
            Some(s.builder.apply(c, &[]))
        }
        _ => None,
    },
];

fn reshaped_iota(s: &Site) -> Option<Value> {
    let (Op::Iota(mut iota), _) = s.operands[0].producer()? else { return None };
    let one = Dim::from(1);
    let extent = iota.ty.shape[iota.axis].clone();
    if *iota.ty.shape.iter().chain(&s.ty.shape).find(|d| **d != one)? != extent || s.ty.elements() != extent {
        return None;
    }
    iota.axis = s.ty.shape.iter().position(|d| *d != one)?;
    iota.ty = s.ty.clone();
    Some(s.builder.apply(iota, &[]))
}

/// The rules of `transpose`.
pub(super) const TRANSPOSE: &[Rule] = &[
    // transpose by the identity = x
    |s| match &s.op {
        Op::Transpose(Transpose { axes }) if axes.is_sorted() => s.keep(0),
        _ => None,
    },
    // transpose (transpose x) = transpose x by the composed permutation
    |s| match (&s.op, s.operands[0].producer()?) {
        (Op::Transpose(outer), (Op::Transpose(inner), x)) => {
            let axes: Vec<usize> = outer.axes.iter().map(|&a| inner.axes[a]).collect();
            Some(x[0].transpose(&axes))
        }
        _ => None,
    },
];

/// The rules of `broadcast`.
pub(super) const BROADCAST: &[Rule] = &[
    // broadcast x to its own shape = x
    |s| s.keep(0),
    // broadcast (broadcast x) = broadcast x
    |s| match s.operands[0].producer()? {
        (Op::Broadcast(_), inner) => Some(inner[0].broadcast(s.ty.shape.iter())),
        _ => None,
    },
];

/// The rules of `slice`.
pub(super) const SLICE: &[Rule] = &[
    // x[0..n] along an axis of n = x
    |s| match &s.op {
        Op::Slice(slice) if slice.step.unwrap_or(1) == 1 => s.keep(0),
        _ => None,
    },
    slice_of_slice,
    slice_of_concat,
];

/// `x[a..b][c..d] = x[a+c..a+d]`, unless other slices of `x[a..b]` would lose what they share.
fn slice_of_slice(s: &Site) -> Option<Value> {
    let (Op::Slice(outer), (Op::Slice(inner), x)) = (&s.op, s.operands[0].producer()?) else { return None };
    if s.shared || outer.axis != inner.axis || inner.step.is_some() {
        return None;
    }
    let (start, end) = (inner.start.clone() + outer.start.clone(), inner.start + outer.end.clone());
    Some(x[0].apply(Slice { axis: outer.axis, start, end, step: outer.step }, &[]))
}

/// `concat(.., p, ..)[range within p] = p[range]`
fn slice_of_concat(s: &Site) -> Option<Value> {
    let (Op::Slice(slice), (Op::Concat(concat), parts)) = (&s.op, s.operands[0].producer()?) else { return None };
    if slice.axis != concat.axis {
        return None;
    }
    let mut before = Dim::from(0);
    for part in parts {
        let after = before.clone() + part.dim(concat.axis);
        if slice.start.at_least(&before) == Some(true) && after.at_least(&slice.end) == Some(true) {
            let (start, end) = (slice.start.clone() - before.clone(), slice.end.clone() - before);
            return Some(part.apply(Slice { start, end, ..slice.clone() }, &[]));
        }
        before = after;
    }
    None
}

/// The rules of `concat`.
pub(super) const CONCAT: &[Rule] = &[
    // concat of one = that one
    |s| if s.operands.len() == 1 { s.keep(0) } else { None },
    // concat(concat(a, b), c) = concat(a, b, c)
    |s| {
        let Op::Concat(outer) = &s.op else { return None };
        let mut parts = Vec::new();
        for operand in &s.operands {
            match operand.producer() {
                Some((Op::Concat(inner), inner_parts)) if inner == *outer => parts.extend(inner_parts),
                _ => parts.push(operand.clone()),
            }
        }
        let longer = parts.len() > s.operands.len();
        longer.then(|| s.builder.concat(outer.axis, &parts.iter().collect::<Vec<_>>()))
    },
];

/// The rules of `pad`.
pub(super) const PAD: &[Rule] = &[
    // pad by nothing = x
    |s| s.keep(0),
];

/// The rules of `reduce`.
pub(super) const REDUCE: &[Rule] = &[
    // a reduction over axes of extent 1 = x
    |s| s.keep(0),
    // Σ over a (Σ over b) = Σ over both
    |s| match (&s.op, s.operands[0].producer()?) {
        (Op::Reduce(outer), (Op::Reduce(inner), x)) if outer.kind == inner.kind => {
            let mut axes = [outer.axes.as_slice(), &inner.axes].concat();
            axes.sort_unstable();
            axes.dedup();
            Some(x[0].apply(Reduce { kind: outer.kind, axes }, &[]))
        }
        _ => None,
    },
];
