//! Loops: a carried value lies at one place in all iterations, and is replaced there.

use castiron_ir::op::{Op, Repeat};
use castiron_ir::{Node, Region, Type, ValueId};
use castiron_runtime::program::Step;
use castiron_runtime::program::view::Place;

use super::region::{Scope, Targets};
use super::view::ValueView;
use super::{LowerError, Lowering};
use crate::weights::LoopIndex;

impl Scope<'_> {
    /// A loop's result that is wanted somewhere is carried there, and begins there if only the loop
    /// uses its first value.
    pub(super) fn aim_at_loop(&mut self, node: &Node, carried: usize) {
        for (result, &initial) in node.results.iter().zip(&node.operands).take(carried) {
            // A loop works on what it carries in every iteration, so that has to lie as if it were its own.
            let target = self.targets.get(result).filter(|target| target.is_contiguous()).cloned();
            if let (Some(target), true) = (target, self.is_used_once(initial)) {
                self.targets.entry(initial).or_insert(target);
            }
        }
    }

    /// Whether a loop may overwrite what lies at the place of its operand: nobody reads it later.
    pub(super) fn may_overwrite(&self, at: usize, operand: ValueId) -> bool {
        let view = self.view(operand);
        let shares = |v: &ValueId| self.views[v.index()].as_ref().is_some_and(|other| other.place == view.place);
        let is_later = |v: &ValueId| self.uses[v.index()].iter().any(|&user| user > at);
        let values = || (0..self.region.value_count() as u32).map(ValueId);
        let operands = self.region.nodes[at].operands.iter().filter(|o| shares(o)).count();
        let is_owned = matches!(view.place, Place::Buffer(_) | Place::Output(_)) && is_whole(view);
        is_owned && operands == 1 && !values().any(|v| shares(&v) && (is_later(&v) || self.region.results.contains(&v)))
    }
}

fn is_whole(view: &ValueView) -> bool {
    view.offset.as_constant() == Some(0) && view.is_contiguous()
}

impl Lowering<'_> {
    pub(super) fn repeat(
        &mut self,
        scope: &mut Scope<'_>,
        at: usize,
        repeat: &Repeat,
        steps: &mut Vec<Step>,
    ) -> Result<(), LowerError> {
        if self.index.is_some() {
            return Err(LowerError::NestedLoops);
        }
        let node = &scope.region.nodes[at];
        let mut arguments: Vec<ValueView> = node.operands.iter().map(|&o| scope.view(o).clone()).collect();
        for (i, argument) in arguments.iter_mut().enumerate().take(repeat.carried) {
            let wanted = scope.targets.get(&node.results[i]).filter(|t| *t != argument && t.is_contiguous()).cloned();
            if wanted.is_some() || !scope.may_overwrite(at, node.operands[i]) {
                let target = wanted.unwrap_or_else(|| self.buffer(scope.region.type_of(node.operands[i])));
                steps.push(self.copy(argument, &target));
                *argument = target;
            }
        }
        let carried = arguments[..repeat.carried].to_vec();
        let start = self.kernels.count();
        self.index = Some(LoopIndex { name: repeat.index.clone(), count: repeat.count });
        let targets = replaced_in_place(&repeat.body, &carried);
        let (mut body, results) = self.region(&repeat.body, arguments, targets)?;
        self.replace(&results, &carried, &mut body);
        self.index = None;
        self.kernels.end_loop(start);
        steps.push(Step::Repeat { count: repeat.count as u32, body });
        for (&result, view) in node.results.iter().zip(carried) {
            scope.views[result.index()] = Some(view);
        }
        Ok(())
    }

    /// Copies results to where they are carried, through other buffers if a copy would overwrite
    /// what another one reads.
    fn replace(&mut self, results: &[ValueView], carried: &[ValueView], steps: &mut Vec<Step>) {
        let moved: Vec<usize> = (0..results.len()).filter(|&i| results[i] != carried[i]).collect();
        let is_carried = |view: &ValueView| carried.iter().any(|c| c.place == view.place);
        let mut sources = results.to_vec();
        for &i in moved.iter().filter(|&&i| is_carried(&results[i])) {
            sources[i] = self.buffer(&Type { dtype: results[i].dtype, shape: results[i].shape.clone() });
            steps.push(self.copy(&results[i], &sources[i]));
        }
        for i in moved {
            steps.push(self.copy(&sources[i], &carried[i]));
        }
    }
}

/// The results of a loop's body that may be computed right where the old value lies, because nothing
/// reads that any more.
fn replaced_in_place(body: &Region, carried: &[ValueView]) -> Targets {
    let (uses, definitions) = (body.uses(), body.definitions());
    let mut targets = Targets::new();
    for (i, (&result, place)) in body.results.iter().zip(carried).enumerate() {
        let Some(definition) = definitions[result.index()] else { continue };
        let is_kernel = matches!(body.nodes[definition].op, Op::Cluster(_));
        let is_free = last_use(body, &uses, body.arguments[i])
            .is_none_or(|last| last < definition || last == definition && is_updated(body, last, body.arguments[i]));
        let is_single = body.results.iter().filter(|&&r| r == result).count() == 1;
        if is_kernel && is_free && is_single && !body.results.contains(&body.arguments[i]) {
            targets.insert(result, place.clone());
        }
    }
    targets
}

/// Whether a cluster reads a value only to compute, from each of its elements, the one at the same place of
/// its only result: `x + f(y)` may be written over `x`, unless `f` reads `x` too.
fn is_updated(body: &Region, at: usize, value: ValueId) -> bool {
    let node = &body.nodes[at];
    let Op::Cluster(cluster) = &node.op else { return false };
    let mut positions = (0..node.operands.len()).filter(|&p| node.operands[p] == value);
    let (Some(position), None, [result]) = (positions.next(), positions.next(), &cluster.body.results[..]) else {
        return false;
    };
    let (inner, uses) = (&cluster.body, cluster.body.uses());
    let mut pending = vec![inner.arguments[position]];
    while let Some(value) = pending.pop() {
        if inner.type_of(value).shape != inner.type_of(*result).shape {
            return false;
        }
        for &user in &uses[value.index()] {
            if !matches!(inner.nodes[user].op, Op::Unary(_) | Op::Binary(_) | Op::Select(_) | Op::Cast(_)) {
                return false;
            }
            pending.extend(&inner.nodes[user].results);
        }
    }
    true
}

/// The last node that reads a value, directly or through views.
pub(super) fn last_use(body: &Region, uses: &[Vec<usize>], value: ValueId) -> Option<usize> {
    let through = |&user: &usize| {
        let node = &body.nodes[user];
        let is_view =
            matches!(node.op, Op::Reshape(_) | Op::Transpose(_) | Op::Broadcast(_) | Op::Slice(_) | Op::Window(_));
        let further = if is_view { last_use(body, uses, node.results[0]) } else { None };
        let escapes = is_view && body.results.contains(&node.results[0]);
        if escapes { usize::MAX } else { further.unwrap_or(user).max(user) }
    };
    uses[value.index()].iter().map(through).max()
}
