//! Scans: one kernel for the results over the same lanes, with what they need carried in it.

use castiron_ir::op::{Binary, BinaryOp, ClusterKind, LinearRecurrence, Op, Scan};
use castiron_ir::{DType, Dim, OpDef, Region, Type, ValueId};
use castiron_runtime::program::row::Access;
use castiron_runtime::program::{self, KernelBody};

use super::align::{Aligned, Walk};
use super::axes::Axes;
use super::body::{Body, Operand, Store, Stored};
use super::recurrence::Fused;
use super::region::Scope;
use super::rows::RowBuilder;
use super::view::ValueView;
use super::{LowerError, Lowering};

/// One step of a recurrence with its operands.
pub(super) struct Step<'a> {
    /// What is computed; its operands lie where they do in the first step.
    pub body: &'a Body,
    /// For each argument that moves along time, the elements from step to step.
    pub time: Vec<Option<Dim>>,
    /// How many arguments are carried.
    pub carried: usize,
    /// Number of steps.
    pub steps: Dim,
    /// Whether the last step comes first.
    pub reverse: bool,
    /// The op that the step is the definition of.
    pub fused: Option<Fused<'a>>,
}

/// Where a result of a step goes; `time` are the elements from step to step of what is stacked.
pub(super) struct Target {
    pub view: ValueView,
    pub time: Option<Dim>,
}

/// Results that one kernel computes.
struct Group {
    /// Classes of axes that are independent of one another.
    lanes: Vec<usize>,
    /// The class of the row; `None` if rows are of one element.
    row: Option<usize>,
    results: Vec<usize>,
    /// What is carried to compute them.
    carried: Vec<usize>,
}

impl Lowering<'_> {
    pub(super) fn scan(
        &mut self,
        scope: &mut Scope<'_>,
        at: usize,
        scan: &Scan,
        steps: &mut Vec<program::Step>,
    ) -> Result<(), LowerError> {
        let node = &scope.region.nodes[at];
        let mut operands: Vec<ValueView> = node.operands.iter().map(|&o| scope.view(o).clone()).collect();
        let fused = scope.recurrences.get(&at).map(|op| Fused { op, operands: operands.clone() });
        let count = operands[scan.carried].shape[scan.axis].clone();
        let mut time = vec![None; operands.len()];
        let sequences = scan.carried..scan.carried + scan.sequences;
        for (view, time) in operands[sequences.clone()].iter_mut().zip(&mut time[sequences]) {
            *time = Some(without_axis(view, scan.axis));
        }
        let initial = operands[..scan.carried].to_vec();
        let body = Body::new(&scan.body, operands, self.index.as_ref())?;
        let mut targets = Vec::new();
        for (i, &result) in node.results.iter().enumerate() {
            let is_wanted = !scope.uses[result.index()].is_empty() || scope.region.results.contains(&result);
            let place = match (is_wanted, initial.get(i)) {
                (false, _) => None,
                (true, Some(initial)) => Some(self.carried_place(scope, at, i, initial)),
                (true, None) => Some(self.destination(scope, result)),
            };
            scope.views[result.index()] = place.clone();
            targets.push(place.map(|mut view| {
                let time = (i >= scan.carried).then(|| without_axis(&mut view, scan.axis));
                Target { view, time }
            }));
        }
        let (carried, reverse) = (scan.carried, scan.reverse);
        let step = Step { body: &body, time, carried, steps: count, reverse, fused };
        self.recurrence(&step, &initial, &targets, steps)
    }

    /// A linear recurrence as a scan of `h ← a·h + b`.
    pub(super) fn linear_recurrence(
        &mut self,
        body: &Body,
        op: &LinearRecurrence,
        target: &ValueView,
        steps: &mut Vec<program::Step>,
    ) -> Result<(), LowerError> {
        let result = body.region.results[0];
        let node = body.producer(result).ok_or_else(|| LowerError::unsupported(op.name(), "it is an argument"))?;
        let mut operands = Vec::new();
        for operand in [node.operands[2], node.operands[0], node.operands[1]] {
            operands.push(self.operand(body, operand)?);
        }
        let count = operands[1].shape[op.axis].clone();
        let mut time: Vec<_> = operands.iter_mut().map(|view| Some(without_axis(view, op.axis))).collect();
        time[0] = None;
        let ty = Type { dtype: body.ty(result).dtype, shape: operands[0].shape.clone() };
        let mut region = Region::default();
        let [h, a, b] = ["h", "a", "b"].map(|name| region.push_argument(name, ty.clone()));
        let decayed = region.push_node(Binary(BinaryOp::Mul).into(), vec![a, h], vec![ty.clone()])[0];
        let next = region.push_node(Binary(BinaryOp::Add).into(), vec![decayed, b], vec![ty])[0];
        region.results = vec![next, next];
        let initial = [operands[0].clone()];
        let step = Body::of_parts(region, operands, op.name().to_owned(), self.index.as_ref());
        let mut view = target.clone();
        let along = without_axis(&mut view, op.axis);
        let targets = [None, Some(Target { view, time: Some(along) })];
        let step = Step { body: &step, time, carried: 1, steps: count, reverse: false, fused: None };
        self.recurrence(&step, &initial, &targets, steps)
    }

    /// Where a carried value lies: where its result is wanted, or where its first value is if nothing else
    /// needs that, or in a new buffer. The first value is copied there by the caller.
    fn carried_place(&mut self, scope: &Scope<'_>, at: usize, i: usize, initial: &ValueView) -> ValueView {
        let node = &scope.region.nodes[at];
        let wanted = scope.targets.get(&node.results[i]).filter(|target| target.dtype == DType::F32);
        match wanted {
            Some(target) => target.clone(),
            None if initial.dtype == DType::F32 && scope.may_overwrite(at, node.operands[i]) => initial.clone(),
            None => self.buffer(scope.region.type_of(node.results[i])),
        }
    }

    /// Kernels for the results that have a target.
    fn recurrence(
        &mut self,
        step: &Step<'_>,
        initial: &[ValueView],
        targets: &[Option<Target>],
        steps: &mut Vec<program::Step>,
    ) -> Result<(), LowerError> {
        let axes = Axes::new(step.body, step.carried)?;
        let wanted: Vec<usize> = (0..targets.len()).filter(|&i| targets[i].is_some()).collect();
        let groups = groups(step, &axes, &wanted)?;
        let mut walks = Vec::new();
        for group in &groups {
            let classes = group.lanes.iter().copied().map(Some).chain([group.row]).collect();
            let walk = Walk { step, axes: &axes, classes };
            let mut places = Vec::new();
            for &i in &group.carried {
                let value = step.body.region.arguments[i];
                let own = axes.of(&step.body.region, value);
                let first = walk.place(&initial[i], &own, None);
                let is_owned = group.results.contains(&i);
                let place = match targets[i].as_ref().filter(|_| is_owned) {
                    Some(target) => walk.place(&target.view, &own, None),
                    None => self.lanes_buffer(&walk, value),
                };
                if place != first {
                    steps.push(self.copy(&first.broadcast(&place.shape), &place));
                }
                places.push(place);
            }
            walks.push((walk, places));
        }
        for (group, (walk, places)) in groups.iter().zip(&walks) {
            let kernel = self.scan_kernel(group, walk, places, targets)?;
            steps.push(self.kernels.push(step.body.label.clone(), kernel));
        }
        Ok(())
    }

    /// A buffer for a carried value that is not wanted itself, with a row for each lane.
    fn lanes_buffer(&mut self, walk: &Walk<'_>, value: ValueId) -> ValueView {
        let mut ty = walk.ty(value);
        let space = walk.space();
        let lanes = space.len() - 1;
        ty.shape[1..=lanes].clone_from_slice(&space[..lanes]);
        self.buffer(&ty)
    }

    fn scan_kernel(
        &mut self,
        group: &Group,
        walk: &Walk<'_>,
        places: &[ValueView],
        targets: &[Option<Target>],
    ) -> Result<KernelBody, LowerError> {
        let (step, region) = (walk.step, &walk.step.body.region);
        let outputs = group.results.iter().filter(|&&i| i >= step.carried);
        let results: Vec<usize> = group.carried.iter().chain(outputs).copied().collect();
        let needed = group.carried.iter().map(|&i| region.arguments[i]);
        let wanted: Vec<ValueId> = needed.chain(results.iter().map(|&i| region.results[i])).collect();
        let Aligned { body, values } = self.align(walk, &wanted)?;
        let over: Vec<Dim> = std::iter::once(step.steps.clone()).chain(walk.space()).collect();
        let mut rows = RowBuilder::new(&body, self.weights, self.index.as_ref(), &over, false);
        for (&i, place) in group.carried.iter().zip(places) {
            let is_row = place.shape.last().is_some_and(|extent| *extent != Dim::from(1));
            let node = rows.given(if is_row { Access::Element } else { Access::Uniform })?;
            rows.bind(values[&region.arguments[i]], node);
        }
        for (n, &i) in results.iter().enumerate() {
            let view = match places.get(n) {
                Some(place) => place.clone(),
                None => {
                    let own = walk.axes.of(region, region.results[i]);
                    let target = targets[i].as_ref();
                    let target = target.ok_or_else(|| LowerError::unsupported("scan", "a result without place"))?;
                    walk.place(&target.view, &own, target.time.as_ref())
                }
            };
            let stored = Stored::Value(values[&region.results[i]]);
            rows.store(&Store { stored, target: Operand { view, gathered: None }, turn: 0 })?;
        }
        let (mut space, operands) = rows.finish()?;
        let steps = space.remove(0);
        let (carried, reverse) = (group.carried.len(), step.reverse);
        let fused = step.fused.as_ref().and_then(|fused| fused.on_views(walk, places, targets));
        Ok(KernelBody::Scan(program::Scan { steps, reverse, space, carried, operands, fused: fused.map(Box::new) }))
    }
}

/// Takes an axis away; gives its stride.
fn without_axis(view: &mut ValueView, axis: usize) -> Dim {
    view.shape.remove(axis);
    view.strides.remove(axis)
}

/// What a result depends on: values of the step, and what is carried.
struct Cone {
    carried: Vec<usize>,
    /// Classes that are summed over, with the op that does.
    reduced: Vec<(usize, &'static str)>,
}

fn cone(step: &Step<'_>, axes: &Axes, result: usize) -> Cone {
    let body = step.body;
    let mut seen = vec![false; body.region.value_count()];
    let mut cone = Cone { carried: Vec::new(), reduced: Vec::new() };
    let mut pending = vec![body.region.results[result]];
    if result < step.carried {
        pending.push(body.region.arguments[result]);
    }
    while let Some(value) = pending.pop() {
        if std::mem::replace(&mut seen[value.index()], true) || body.known[value.index()] {
            continue;
        }
        if let Some(i) = axes.carried(value) {
            cone.carried.push(i);
            pending.push(body.region.results[i]);
        } else if let (None, Some(node)) = (axes.source(value), body.producer(value)) {
            let summed = axes.reduced(body, value);
            cone.reduced.extend(summed.into_iter().map(|class| (class, node.op.name())));
            pending.extend(&node.operands);
        }
    }
    cone.carried.sort_unstable();
    cone
}

/// Divides results into groups of the same lanes and row. Reductions say which axis is the row; without,
/// it is one that another result's reductions ask for, or the last.
fn groups(step: &Step<'_>, axes: &Axes, wanted: &[usize]) -> Result<Vec<Group>, LowerError> {
    let region = &step.body.region;
    let mut cones = Vec::new();
    for &result in wanted {
        let cone = cone(step, axes, result);
        if let Some(&(row, _)) = cone.reduced.first()
            && let Some((_, name)) = cone.reduced.iter().find(|(class, _)| *class != row)
        {
            return Err(LowerError::unsupported(name, "a step of a scan reduces along two axes"));
        }
        cones.push(cone);
    }
    let rows: Vec<usize> = cones.iter().filter_map(|cone| Some(cone.reduced.first()?.0)).collect();
    let mut groups: Vec<Group> = Vec::new();
    for (&result, cone) in wanted.iter().zip(cones) {
        let own: Vec<usize> = axes.of(region, region.results[result]).into_iter().flatten().collect();
        let row = cone.reduced.first().map(|(class, _)| *class);
        let row = row.or_else(|| rows.iter().copied().find(|row| own.contains(row))).or(own.last().copied());
        let lanes: Vec<usize> = own.into_iter().filter(|&class| Some(class) != row).collect();
        for &i in &cone.carried {
            let ty = step.body.ty(region.arguments[i]);
            if !ty.dtype.is_float() {
                return Err(LowerError::unsupported("scan", format!("it carries {ty}")));
            }
            let needed = axes.of(region, region.arguments[i]);
            if needed.iter().flatten().any(|class| Some(*class) != row && !lanes.contains(class)) {
                let what = format!("result {result} lacks an axis of what is carried for it, {ty}");
                return Err(LowerError::unsupported("scan", what));
            }
        }
        let is_same = |group: &&mut Group| {
            group.row == row && group.lanes.len() == lanes.len() && lanes.iter().all(|l| group.lanes.contains(l))
        };
        match groups.iter_mut().find(is_same) {
            Some(group) => {
                group.results.push(result);
                let new = cone.carried.into_iter().filter(|i| !group.carried.contains(i));
                let new: Vec<usize> = new.collect();
                group.carried.extend(new);
            }
            None => groups.push(Group { lanes, row, results: vec![result], carried: cone.carried }),
        }
    }
    Ok(groups)
}

/// Whether a cluster is a linear recurrence.
pub(super) fn linear_recurrence_of(body: &Body, kind: ClusterKind) -> Option<&LinearRecurrence> {
    match (kind, &body.producer(body.region.results[0])?.op) {
        (ClusterKind::Row, Op::LinearRecurrence(op)) => Some(op),
        _ => None,
    }
}
