//! Regions: movement ops become views, clusters become kernels.

use std::collections::HashMap;

use castiron_ir::op::{ClusterKind, Op};
use castiron_ir::{Node, OpDef, Region, ValueId};
use castiron_runtime::program::row::{RowNode, RowProgram};
use castiron_runtime::program::{KernelBody, RowOperands, Rows, Step};

use super::body::Body;
use super::recurrence::as_scans;
use super::rows::access;
use super::scan::linear_recurrence_of;
use super::view::ValueView;
use super::{LowerError, Lowering};

/// Where values are wanted.
pub(super) type Targets = HashMap<ValueId, ValueView>;

/// A region while it is lowered.
pub(super) struct Scope<'a> {
    pub region: &'a Region,
    /// The fused ops of scans, by their places.
    pub recurrences: HashMap<usize, Op>,
    /// Nodes that use each value.
    pub uses: Vec<Vec<usize>>,
    /// Where each value lies, once it is known.
    pub views: Vec<Option<ValueView>>,
    pub targets: Targets,
}

impl Scope<'_> {
    pub fn view(&self, value: ValueId) -> &ValueView {
        self.views[value.index()].as_ref().expect("values are defined before their uses")
    }

    /// Finds more values that are wanted somewhere, from the last node to the first: what only becomes
    /// a wanted value, by a reshape, a transpose or a loop.
    fn aim(&mut self) {
        for node in self.region.nodes.iter().rev() {
            match &node.op {
                Op::Reshape(_) => self.aim_at_reshape(node),
                Op::Transpose(transpose) => self.aim_at_transpose(node, &transpose.axes),
                Op::Repeat(repeat) => self.aim_at_loop(node, repeat.carried),
                Op::Scan(scan) => self.aim_at_loop(node, scan.carried),
                _ => {}
            }
        }
    }

    fn aim_at_reshape(&mut self, node: &Node) {
        let operand = node.operands[0];
        let target = self.targets.get(&node.results[0]).filter(|_| self.is_used_once(operand));
        if let Some(target) = target.and_then(|t| t.reshape(&self.region.type_of(operand).shape)) {
            self.targets.entry(operand).or_insert(target);
        }
    }

    fn aim_at_transpose(&mut self, node: &Node, axes: &[usize]) {
        let target = self.targets.get(&node.results[0]).filter(|_| self.is_used_once(node.operands[0]));
        if let Some(target) = target {
            let mut inverse = vec![0; axes.len()];
            axes.iter().enumerate().for_each(|(to, &from)| inverse[from] = to);
            let target = target.transpose(&inverse);
            self.targets.entry(node.operands[0]).or_insert(target);
        }
    }

    /// Whether the only result of a node is read by scans alone, which take weights as they lie.
    fn only_scans_read(&self, node: &Node) -> bool {
        let [result] = node.results[..] else { return false };
        let reads = |&user: &usize| match &self.region.nodes[user].op {
            Op::Scan(scan) => !self.region.nodes[user].operands[..scan.carried].contains(&result),
            _ => false,
        };
        self.uses[result.index()].iter().all(reads) && !self.region.results.contains(&result)
    }

    /// Whether one node uses a value, and nothing else.
    pub fn is_used_once(&self, value: ValueId) -> bool {
        self.uses[value.index()].len() == 1 && !self.region.results.contains(&value)
    }

    /// The permutation that every use of a value applies to it, if it matters how the value is laid out: long
    /// convolutions take their operands either way.
    fn common_transpose(&self, value: ValueId) -> Option<&[usize]> {
        let nodes = &self.region.nodes;
        let convolves = |&node: &usize| matches!(&nodes[node].op, Op::Cluster(c) if c.kind == ClusterKind::FftConv);
        let users = |value: &ValueId| &self.uses[value.index()];
        let is_convolved = |result: &ValueId| !users(result).is_empty() && users(result).iter().all(convolves);
        if users(&value).iter().flat_map(|&user| &nodes[user].results).all(is_convolved) {
            return None;
        }
        let mut common = None;
        for &user in &self.uses[value.index()] {
            let Op::Transpose(transpose) = &self.region.nodes[user].op else { return None };
            if common.is_some_and(|axes| axes != transpose.axes) {
                return None;
            }
            common = Some(transpose.axes.as_slice());
        }
        common.filter(|_| !self.region.results.contains(&value))
    }
}

impl Lowering<'_> {
    /// Lowers a region with its arguments at given places. Gives the steps and where the results lie;
    /// a result that `targets` names lies there if a kernel computes it.
    pub(super) fn region(
        &mut self,
        region: &Region,
        arguments: Vec<ValueView>,
        targets: Targets,
    ) -> Result<(Vec<Step>, Vec<ValueView>), LowerError> {
        let (region, recurrences) = as_scans(region)?;
        let region = &*region;
        let views = vec![None; region.value_count()];
        let mut scope = Scope { region, recurrences, uses: region.uses(), views, targets };
        self.aim_at_states(&mut scope)?;
        scope.aim();
        for (&argument, view) in region.arguments.iter().zip(arguments) {
            scope.views[argument.index()] = Some(view);
        }
        let mut steps = Vec::new();
        for at in 0..region.nodes.len() {
            self.node(&mut scope, at, &mut steps)?;
        }
        let results = region.results.iter().map(|&r| scope.view(r).clone()).collect();
        Ok((steps, results))
    }

    fn node(&mut self, scope: &mut Scope<'_>, at: usize, steps: &mut Vec<Step>) -> Result<(), LowerError> {
        let region = scope.region;
        let node = &region.nodes[at];
        let result = node.results[0];
        let view = match &node.op {
            Op::Cluster(cluster) => {
                let operands = node.operands.iter().map(|&o| scope.view(o).clone()).collect();
                let body = Body::new(&cluster.body, operands, self.index.as_ref())?;
                if body.known[body.region.results[0].index()] && scope.only_scans_read(node) {
                    scope.views[result.index()] = Some(self.operand(&body, body.region.results[0])?);
                    return Ok(());
                }
                let targets = self.destinations(scope, &node.results, &body)?;
                if let Some(op) = linear_recurrence_of(&body, cluster.kind) {
                    self.linear_recurrence(&body, op, &targets[0], steps)?;
                } else if !body.is_written(&targets[0]) {
                    match cluster.kind {
                        ClusterKind::Matmul => self.contraction(&body, &targets, steps)?,
                        ClusterKind::Attention => self.attention(&body, &targets[0], steps)?,
                        ClusterKind::TopK => self.top_k(&body, &targets, steps)?,
                        ClusterKind::FftConv => self.fft_conv(&body, &targets[0], steps)?,
                        ClusterKind::Map | ClusterKind::Row => self.rows(&body, &targets, steps)?,
                    }
                }
                for (&r, target) in node.results.iter().zip(targets) {
                    scope.views[r.index()] = Some(target);
                }
                return Ok(());
            }
            Op::Repeat(repeat) => return self.repeat(scope, at, repeat, steps),
            Op::Scan(scan) => return self.scan(scope, at, scan, steps),
            Op::StateRead(read) => self.state(&read.state)?,
            Op::Transpose(transpose) => scope.view(node.operands[0]).transpose(&transpose.axes),
            Op::Broadcast(_) => scope.view(node.operands[0]).broadcast(&region.type_of(result).shape),
            Op::Slice(slice) => {
                let step = slice.step.unwrap_or(1) as i64;
                scope.view(node.operands[0]).slice(slice.axis, &slice.start, &slice.end, step)
            }
            Op::Window(window) => scope.view(node.operands[0]).window(window, &region.type_of(result).shape),
            Op::Reshape(_) => {
                let shape = &region.type_of(result).shape;
                match scope.view(node.operands[0]).reshape(shape) {
                    Some(view) => view,
                    None => {
                        let source = scope.view(node.operands[0]).clone();
                        let whole = self.buffer(region.type_of(node.operands[0]));
                        steps.push(self.copy(&source, &whole));
                        whole.reshape(shape).expect("a row-major tensor takes any shape")
                    }
                }
            }
            op => return Err(LowerError::unsupported(op.name(), "it stands outside a cluster")),
        };
        scope.views[result.index()] = Some(view);
        Ok(())
    }

    /// Where the results of a cluster go.
    fn destinations(
        &mut self,
        scope: &Scope<'_>,
        results: &[ValueId],
        body: &Body,
    ) -> Result<Vec<ValueView>, LowerError> {
        let mut targets = Vec::new();
        for (i, &result) in results.iter().enumerate() {
            targets.push(match body.updated_state(i) {
                Some(state) => self.state(state)?,
                None => self.destination(scope, result),
            });
        }
        Ok(targets)
    }

    /// Where a result goes that is no state: where it is wanted, or in a new buffer.
    pub(super) fn destination(&mut self, scope: &Scope<'_>, result: ValueId) -> ValueView {
        if let Some(target) = scope.targets.get(&result) {
            return target.clone();
        }
        let buffer = self.buffer(scope.region.type_of(result));
        match scope.common_transpose(result) {
            Some(axes) => buffer.laid_out_for_transpose(axes),
            None => buffer,
        }
    }

    /// A kernel that copies a tensor.
    pub(super) fn copy(&mut self, from: &ValueView, to: &ValueView) -> Step {
        let mut space = to.shape.clone();
        let (mut source, mut target) = (from.over_own_axes(), to.over_own_axes());
        if space.is_empty() {
            space.push(1.into());
            source.strides.push(0.into());
            target.strides.push(0.into());
        }
        let access = access(&source);
        let program = RowProgram { inputs: vec![access], nodes: vec![RowNode::Input(0)], stores: vec![0] };
        let operands = RowOperands { program, inputs: vec![source], outputs: vec![target] };
        self.kernels.push("copy".to_owned(), KernelBody::Rows(Rows { space, operands }))
    }
}
