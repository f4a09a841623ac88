//! Which axes of a scan's step are the same axis: a union of the axes of all its values.
//!
//! `%2 = dot %state, %k batch=[(0,0),(1,1)] contract=[(2,2)]` says that axes 0 to 2 of the state are those
//! of the key, that axis 3 of the state is axis 2 of the result, and that the step sums over axis 2.
//! Axes of extent 1 are no axes here: they broadcast.

use castiron_ir::op::{Dot, Op};
use castiron_ir::{Dim, Node, OpDef, Region, ValueId};

use super::LowerError;
use super::body::Body;

/// The axes of a step's values, in classes that are walked together.
pub(super) struct Axes {
    /// For each value, where its axes begin in `parents`.
    starts: Vec<usize>,
    parents: Vec<usize>,
    extents: Vec<Dim>,
    /// Arguments that are carried.
    carried: Vec<ValueId>,
    /// For each value, the argument that it is a movement of.
    sources: Vec<Option<usize>>,
}

impl Axes {
    /// Unites the axes of a step whose first `carried` arguments its first results replace.
    ///
    /// # Errors
    /// An op that cannot be part of a step, or that needs one axis to be two.
    pub fn new(body: &Body, carried: usize) -> Result<Axes, LowerError> {
        let region = &body.region;
        let (mut starts, mut extents) = (Vec::new(), Vec::new());
        for value in values(region) {
            starts.push(extents.len());
            extents.extend(region.type_of(value).shape.iter().cloned());
        }
        let (parents, sources) = ((0..extents.len()).collect(), sources(region, carried));
        let mut axes = Axes { starts, parents, extents, carried: region.arguments[..carried].to_vec(), sources };
        for node in &region.nodes {
            if axes.is_computed(body, node.results[0]) {
                axes.node(region, node)?;
            }
        }
        for (&argument, &result) in region.arguments[..carried].iter().zip(&region.results) {
            axes.aligned(region, argument, result);
        }
        axes.check(body)?;
        Ok(axes)
    }

    /// The class of each axis of a value; nothing for axes of extent 1.
    pub fn of(&self, region: &Region, value: ValueId) -> Vec<Option<usize>> {
        (0..region.type_of(value).rank()).map(|axis| self.class(value, axis)).collect()
    }

    /// The extent of a class.
    pub fn extent(&self, class: usize) -> &Dim {
        &self.extents[class]
    }

    /// The number of the argument, not one that is carried, that a value is a movement of.
    pub fn source(&self, value: ValueId) -> Option<usize> {
        self.sources[value.index()]
    }

    /// The number of the carried argument that a value is.
    pub fn carried(&self, value: ValueId) -> Option<usize> {
        self.carried.iter().position(|&argument| argument == value)
    }

    /// Classes that the node of a value sums over.
    pub fn reduced(&self, body: &Body, value: ValueId) -> Vec<usize> {
        let Some(node) = body.producer(value).filter(|_| self.is_computed(body, value)) else { return Vec::new() };
        let axes = match &node.op {
            Op::Reduce(reduce) => reduce.axes.clone(),
            Op::Dot(dot) => dot.contract.iter().map(|pair| pair.0).collect(),
            _ => Vec::new(),
        };
        axes.into_iter().filter_map(|axis| self.class(node.operands[0], axis)).collect()
    }

    /// Whether a value is computed in the step: not known before, and no movement of what lies in memory.
    fn is_computed(&self, body: &Body, value: ValueId) -> bool {
        !body.known[value.index()] && self.source(value).is_none() && body.producer(value).is_some()
    }

    fn class(&self, value: ValueId, axis: usize) -> Option<usize> {
        let at = self.starts[value.index()] + axis;
        (self.extents[at] != Dim::from(1)).then(|| self.root(at))
    }

    fn root(&self, mut at: usize) -> usize {
        while self.parents[at] != at {
            at = self.parents[at];
        }
        at
    }

    fn unite(&mut self, (a, axis): (ValueId, usize), (b, other): (ValueId, usize)) {
        if let (Some(x), Some(y)) = (self.class(a, axis), self.class(b, other)) {
            let (first, last) = (x.min(y), x.max(y));
            self.parents[last] = first;
        }
    }

    /// Unites axes by NumPy's rule of broadcasting.
    fn aligned(&mut self, region: &Region, a: ValueId, b: ValueId) {
        let (rank, other) = (region.type_of(a).rank(), region.type_of(b).rank());
        for back in 1..=rank.min(other) {
            self.unite((a, rank - back), (b, other - back));
        }
    }

    fn node(&mut self, region: &Region, node: &Node) -> Result<(), LowerError> {
        let (result, rank) = (node.results[0], |value: ValueId| region.type_of(value).rank());
        match &node.op {
            Op::Unary(_) | Op::Binary(_) | Op::Select(_) | Op::Cast(_) | Op::Broadcast(_) | Op::Reduce(_) => {
                node.operands.iter().for_each(|&operand| self.aligned(region, operand, result));
            }
            Op::Transpose(t) => {
                t.axes.iter().enumerate().for_each(|(to, &from)| self.unite((node.operands[0], from), (result, to)));
            }
            Op::Reshape(_) => {
                let moving = |value: ValueId| -> Vec<usize> {
                    let shape = &region.type_of(value).shape;
                    (0..shape.len()).filter(|&axis| shape[axis] != Dim::from(1)).collect()
                };
                let (from, to) = (moving(node.operands[0]), moving(result));
                let extents = |value: ValueId, axes: &[usize]| -> Vec<Dim> {
                    axes.iter().map(|&axis| region.type_of(value).shape[axis].clone()).collect()
                };
                if extents(node.operands[0], &from) != extents(result, &to) {
                    return Err(LowerError::unsupported("reshape", "a step of a scan splits or merges axes"));
                }
                from.into_iter().zip(to).for_each(|(a, b)| self.unite((node.operands[0], a), (result, b)));
            }
            Op::Dot(dot) => self.dot(node, dot, rank(node.operands[0]), rank(node.operands[1])),
            Op::Constant(_) | Op::Iota(_) | Op::Extent(_) => {}
            op => return Err(LowerError::unsupported(op.name(), "a step of a scan computes rows only")),
        }
        Ok(())
    }

    fn dot(&mut self, node: &Node, dot: &Dot, lhs_rank: usize, rhs_rank: usize) {
        let (lhs, rhs, result) = (node.operands[0], node.operands[1], node.results[0]);
        for &(l, r) in dot.batch.iter().chain(&dot.contract) {
            self.unite((lhs, l), (rhs, r));
        }
        let batch = dot.batch.iter().map(|pair| (lhs, pair.0));
        let left = dot.free_lhs(lhs_rank).into_iter().map(|axis| (lhs, axis));
        let right = dot.free_rhs(rhs_rank).into_iter().map(|axis| (rhs, axis));
        let of_result: Vec<_> = batch.chain(left).chain(right).collect();
        of_result.into_iter().enumerate().for_each(|(axis, operand)| self.unite(operand, (result, axis)));
    }

    /// A value with one axis twice would be walked along its diagonal: a matrix that what is carried is
    /// multiplied by, for example, since the result is carried on.
    fn check(&self, body: &Body) -> Result<(), LowerError> {
        let is_twice = |value: &ValueId| {
            let mut classes: Vec<usize> = self.of(&body.region, *value).into_iter().flatten().collect();
            classes.sort_unstable();
            classes.windows(2).any(|pair| pair[0] == pair[1])
        };
        let computed = body.region.nodes.iter().filter(|node| self.is_computed(body, node.results[0]));
        match { computed }.find(|node| node.operands.iter().chain(&node.results).any(is_twice)) {
            Some(node) => {
                let what = "a step of a scan mixes the elements of an axis that it carries";
                Err(LowerError::unsupported(node.op.name(), what))
            }
            None => Ok(()),
        }
    }
}

fn values(region: &Region) -> impl Iterator<Item = ValueId> {
    (0..region.value_count() as u32).map(ValueId)
}

/// For each value, the argument that it is a movement of: what lies in memory, and is read there.
fn sources(region: &Region, carried: usize) -> Vec<Option<usize>> {
    let mut sources = vec![None; region.value_count()];
    for (number, argument) in region.arguments.iter().enumerate().skip(carried) {
        sources[argument.index()] = Some(number);
    }
    for node in &region.nodes {
        if matches!(node.op, Op::Reshape(_) | Op::Transpose(_) | Op::Broadcast(_) | Op::Slice(_)) {
            sources[node.results[0].index()] = sources[node.operands[0].index()];
        }
    }
    sources
}
