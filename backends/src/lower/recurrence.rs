//! Fused recurrences: lowered as the scans that define them, which every executor has a kernel for, with the
//! op on the same memory for those that have a better one.

use std::borrow::Cow;
use std::collections::HashMap;

use castiron_ir::op::{Op, fused};
use castiron_ir::{Node, OpDef, Region};
use castiron_runtime::program::view::View;
use castiron_runtime::program::{Recurrence, RecurrenceKind};

use super::LowerError;
use super::align::Walk;
use super::scan::Target;
use super::view::ValueView;

/// A fused op with its operands, the sequences over time.
pub(super) struct Fused<'a> {
    pub op: &'a Op,
    pub operands: Vec<ValueView>,
}

/// A region in which fused recurrences are the scans that define them, each in its place; and the ops.
pub(super) fn as_scans(region: &Region) -> Result<(Cow<'_, Region>, HashMap<usize, Op>), LowerError> {
    let places = region.nodes.iter().enumerate().filter(|(_, node)| kind(&node.op).is_some());
    let ops: HashMap<usize, Op> = places.map(|(at, node)| (at, node.op.clone())).collect();
    if ops.is_empty() {
        return Ok((Cow::Borrowed(region), ops));
    }
    let mut scans = region.clone();
    for (&at, op) in &ops {
        scans.nodes[at].op = definition(op, region, &region.nodes[at])?;
    }
    Ok((Cow::Owned(scans), ops))
}

fn kind(op: &Op) -> Option<RecurrenceKind> {
    match op {
        Op::LinearAttention(op) => {
            Some(RecurrenceKind::LinearAttention { decay: op.decay, delta: op.delta, before: op.before })
        }
        Op::SelectiveScan(_) => Some(RecurrenceKind::SelectiveScan),
        _ => None,
    }
}

/// The one node of an op's definition.
fn definition(op: &Op, region: &Region, node: &Node) -> Result<Op, LowerError> {
    let unsupported = |what: String| LowerError::unsupported(op.name(), what);
    let fused_op = op.as_fused().ok_or_else(|| unsupported("it has no definition".into()))?;
    let definition =
        fused::expansion(fused_op, &region.types_of(&node.operands)).map_err(|e| unsupported(e.to_string()))?;
    let scan = definition.nodes.into_iter().find(|node| matches!(node.op, Op::Scan(_)));
    scan.map(|node| node.op).ok_or_else(|| unsupported("it is not defined as a scan".into()))
}

impl Fused<'_> {
    /// The op on the memory of a kernel that carries the state and writes what is read.
    pub fn on_views(&self, walk: &Walk<'_>, places: &[ValueView], targets: &[Option<Target>]) -> Option<Recurrence> {
        let (kind, [place]) = (kind(self.op)?, places) else { return None };
        let [state, out] = kind.results();
        let (first, sequences) = self.operands.split_first()?;
        // The state's own axes, among those that the kernel walks.
        let argument = *walk.step.body.region.arguments.first()?;
        let classes = walk.axes.of(&walk.step.body.region, argument);
        let stride = |class: &Option<usize>| {
            let axis = walk.classes.iter().position(|other| class.is_some() && other == class);
            axis.map_or(0.into(), |axis| place.strides[axis + 1].clone())
        };
        let carried = place.over(classes.iter().map(stride).collect());
        let mut extents = vec![1.into(); kind.rank()];
        state.iter().zip(&first.shape).for_each(|(&axis, extent)| extents[axis] = extent.clone());
        extents[1] = walk.step.steps.clone();
        let shape = |axes: &[usize]| axes.iter().map(|&axis| extents[axis].clone()).collect::<Vec<_>>();
        let mut result = targets.get(1)?.as_ref().map(|target| (target.view.clone(), target.time.clone()))?;
        result.0.shape.insert(1, walk.step.steps.clone());
        result.0.strides.insert(1, result.1?);
        let view =
            |(operand, axes): (&ValueView, &[usize])| -> View { operand.broadcast(&shape(axes)).over_own_axes() };
        let operands = sequences.iter().zip(kind.operands()).map(view).collect();
        Some(Recurrence { kind, state: carried, operands, out: view((&result.0, out)), extents: extents.clone() })
    }
}
