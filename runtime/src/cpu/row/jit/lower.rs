//! Lowering: a row program becomes phases of vector code.
//!
//! A phase is a preamble of values that are the same for the whole row and a loop body; its loop
//! feeds the reductions whose results the next preamble uses. Values are lowered on demand from the
//! reductions and stores of a phase, so nothing dead is made, and loads stand next to their users.

use castiron_ir::op::{BinaryOp, UnaryOp};

use super::builder::{Builder, Val};
use super::expand;
use super::stash::{self, Stash};
use super::vector::{Block, Fused, Lane2, Row, VectorOp};
use crate::program::row::{Access, Level, RowNode, RowNodeId, RowProgram, RowReduce};

/// A reduction at the end of a phase.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reduction {
    /// What is computed.
    pub(super) kind: RowReduce,
    /// Frame slot of the result.
    pub(super) slot: u16,
}

/// A loop over the row, and what precedes it.
#[derive(Debug, Default)]
pub(super) struct Phase {
    /// Executed once; what later blocks use is kept in frame slots.
    pub(super) preamble: Block,
    /// Executed for every eight elements.
    pub(super) body: Block,
    /// Numbered as in the body.
    pub(super) reductions: Vec<Reduction>,
}

/// A row program as vector code.
#[derive(Debug, Default)]
pub(super) struct VectorProgram {
    /// In order of execution.
    pub(super) phases: Vec<Phase>,
    /// Number of frame slots that `Keep` and `Kept` name.
    pub(super) slots: u16,
    /// Uniform outputs and the slots of their values, stored at the very end.
    pub(super) results: Vec<(u16, u16)>,
}

/// Lowers a valid program.
pub(super) fn lower(program: &RowProgram) -> VectorProgram {
    let mut lowering = Lowering::new(program);
    let last = program.stores.iter().map(|&n| lowering.level(n).phase).max().unwrap_or(0);
    let mut lowered = VectorProgram::default();
    for phase in 0..=last {
        let reductions = lowering.reductions();
        if phase == last {
            lowered.results = lowering.stores();
        } else {
            lowering.stash();
        }
        let (preamble, body) = lowering.end_phase();
        lowered.phases.push(Phase { preamble, body, reductions });
    }
    lowered.slots = lowering.builder.slots();
    lowered
}

/// State of lowering one program.
struct Lowering<'a> {
    program: &'a RowProgram,
    levels: Vec<Level>,
    uses: Vec<u16>,
    stashes: Vec<Stash>,
    builder: Builder,
    phase: u16,
    /// Values of the current phase, and kept values of earlier ones.
    values: Vec<Option<Val>>,
    /// Masks of booleans in the current phase.
    masks: Vec<Option<Val>>,
}

impl<'a> Lowering<'a> {
    fn new(program: &'a RowProgram) -> Lowering<'a> {
        let levels = program.levels();
        Lowering {
            program,
            uses: program.uses(),
            stashes: stash::plan(program, &levels),
            levels,
            builder: Builder::default(),
            phase: 0,
            values: fold_constants(program),
            masks: vec![None; program.nodes.len()],
        }
    }

    fn level(&self, node: RowNodeId) -> Level {
        self.levels[usize::from(node)]
    }

    /// Lowers the reductions that end the phase.
    fn reductions(&mut self) -> Vec<Reduction> {
        let mut reductions: Vec<Reduction> = Vec::new();
        for (id, node) in self.program.nodes.iter().enumerate() {
            let RowNode::Reduce(kind, x) = *node else { continue };
            if self.uses[id] == 0 || self.levels[id].phase != self.phase + 1 {
                continue;
            }
            self.accumulate(reductions.len() as u16, kind, x);
            let slot = self.builder.new_slot();
            self.values[id] = Some(Val::Kept(slot));
            reductions.push(Reduction { kind, slot });
        }
        reductions
    }

    fn accumulate(&mut self, number: u16, kind: RowReduce, x: RowNodeId) {
        match (kind, self.product(x)) {
            (RowReduce::Sum, Some((a, b))) => self.builder.accumulate_product(number, a, b),
            _ => {
                let x = self.value(x);
                self.builder.accumulate(number, reduction_op(kind), x);
            }
        }
    }

    /// Lowers the element stores; the uniform outputs and their slots.
    fn stores(&mut self) -> Vec<(u16, u16)> {
        let mut results = Vec::new();
        let mut elements = Vec::new();
        for (output, &node) in self.program.stores.iter().enumerate() {
            let value = self.value(node);
            if self.level(node).varies {
                elements.push((output as u16, value));
            } else {
                results.push((output as u16, self.builder.keep(value)));
            }
        }
        self.store_all(elements);
        results
    }

    /// Lowers the stores of values that the last phase reads back.
    fn stash(&mut self) {
        let stashes: Vec<Stash> = self.stashes.iter().copied().filter(|s| s.phase == self.phase).collect();
        let elements = stashes.iter().map(|s| (s.output, self.value(s.node))).collect();
        self.store_all(elements);
    }

    /// Stores after all values are computed, since an output may be an input.
    fn store_all(&mut self, elements: Vec<(u16, Val)>) {
        for (output, value) in elements {
            self.builder.store(Row::Output(output), value);
        }
    }

    /// Moves the uniform values that later phases use into frame slots, and drops what only this
    /// phase could use.
    fn end_phase(&mut self) -> (Block, Block) {
        for (id, node) in self.program.nodes.iter().enumerate() {
            let later = self.levels[id].varies || self.levels[id].phase > self.phase;
            for operand in node.operands().filter(|_| later) {
                if let Some(value @ Val::Invariant(_)) = self.values[usize::from(operand)] {
                    self.values[usize::from(operand)] = Some(Val::Kept(self.builder.keep(value)));
                }
            }
        }
        for value in &mut self.values {
            *value = value.filter(|v| matches!(v, Val::Constant(_) | Val::Kept(_)));
        }
        self.masks.fill(None);
        self.phase += 1;
        self.builder.finish_phase()
    }

    /// The value of a node in the current phase.
    fn value(&mut self, id: RowNodeId) -> Val {
        if let Some(value) = self.values[usize::from(id)] {
            return value;
        }
        let value = match self.program.nodes[usize::from(id)] {
            _ if let Some(stash) = self.stashed(id) => self.builder.varying(load(Row::Output(stash.output))),
            RowNode::Input(i) => match self.program.inputs[usize::from(i)] {
                Access::Element => self.builder.varying(load(Row::Input(i))),
                Access::Uniform => self.builder.invariant(VectorOp::Uniform(i)),
            },
            RowNode::Constant(c) => Val::float(c),
            RowNode::Position => self.builder.varying(VectorOp::Position { copy: 0 }),
            RowNode::Length => self.builder.invariant(VectorOp::Length),
            RowNode::Unary(UnaryOp::Not, _) => self.truth(id),
            RowNode::Binary(op, ..) if op.is_predicate() => self.truth(id),
            RowNode::Binary(BinaryOp::Add, a, b) => self.sum(a, b),
            RowNode::Binary(BinaryOp::Sub, a, b) => self.difference(a, b),
            RowNode::Unary(op, x) => {
                let x = self.value(x);
                expand::unary(&mut self.builder, op, x)
            }
            RowNode::Binary(op, a, b) => {
                let (a, b) = (self.value(a), self.value(b));
                expand::binary(&mut self.builder, op, a, b)
            }
            RowNode::Select(c, yes, no) => {
                let (mask, yes, no) = (self.mask(c), self.value(yes), self.value(no));
                self.builder.blend(mask, yes, no)
            }
            RowNode::Reduce(..) => unreachable!("a reduction has a value from the end of its phase on"),
        };
        self.values[usize::from(id)] = Some(value);
        value
    }

    fn stashed(&self, id: RowNodeId) -> Option<Stash> {
        self.stashes.iter().copied().find(|s| s.node == id && s.phase < self.phase)
    }

    /// The factors of a node that is a product used once, so that it can join a sum.
    fn product(&mut self, id: RowNodeId) -> Option<(Val, Val)> {
        match self.program.nodes[usize::from(id)] {
            RowNode::Binary(BinaryOp::Mul, a, b)
                if self.uses[usize::from(id)] == 1 && self.level(id).varies && self.stashed(id).is_none() =>
            {
                Some((self.value(a), self.value(b)))
            }
            _ => None,
        }
    }

    fn sum(&mut self, a: RowNodeId, b: RowNodeId) -> Val {
        let (factors, term) = match self.product(a) {
            Some(factors) => (Some(factors), b),
            None => (self.product(b), a),
        };
        let term = self.value(term);
        match factors {
            Some((x, y)) => self.builder.fma(x, y, term),
            None => {
                let b = self.value(b);
                self.builder.add(term, b)
            }
        }
    }

    fn difference(&mut self, a: RowNodeId, b: RowNodeId) -> Val {
        if let Some((x, y)) = self.product(a) {
            let b = self.value(b);
            return self.builder.fused(Fused::MulSub, x, y, b);
        }
        let a = self.value(a);
        if let Some((x, y)) = self.product(b) {
            return self.builder.fused(Fused::NegMulAdd, x, y, a);
        }
        let b = self.value(b);
        self.builder.sub(a, b)
    }

    /// A boolean as 0 or 1.
    fn truth(&mut self, id: RowNodeId) -> Val {
        let mask = self.mask(id);
        expand::truth(&mut self.builder, mask)
    }

    /// A boolean as a mask: directly from comparisons and logic, else by a test against 0.
    fn mask(&mut self, id: RowNodeId) -> Val {
        if let Some(mask) = self.masks[usize::from(id)] {
            return mask;
        }
        let mask = match self.program.nodes[usize::from(id)] {
            _ if self.values[usize::from(id)].is_some() || self.stashed(id).is_some() => self.tested(id),
            RowNode::Unary(UnaryOp::Not, x) => {
                let mask = self.mask(x);
                self.builder.two(Lane2::Xor, mask, Val::Constant(u32::MAX))
            }
            RowNode::Binary(op @ (BinaryOp::And | BinaryOp::Or), a, b) => {
                let (a, b) = (self.mask(a), self.mask(b));
                self.builder.two(if op == BinaryOp::And { Lane2::And } else { Lane2::Or }, a, b)
            }
            RowNode::Binary(op, a, b) if let Some(predicate) = expand::comparison(op) => {
                let (a, b) = (self.value(a), self.value(b));
                self.builder.compare(predicate, a, b)
            }
            _ => self.tested(id),
        };
        self.masks[usize::from(id)] = Some(mask);
        mask
    }

    fn tested(&mut self, id: RowNodeId) -> Val {
        let value = self.value(id);
        expand::is_true(&mut self.builder, value)
    }
}

fn load(row: Row) -> VectorOp {
    VectorOp::Load { row, copy: 0 }
}

/// The operation that joins two partial results of a reduction.
pub(super) fn reduction_op(kind: RowReduce) -> Lane2 {
    match kind {
        RowReduce::Sum => Lane2::Add,
        RowReduce::Max => Lane2::Max,
        RowReduce::Min => Lane2::Min,
    }
}

/// The values of the nodes that depend on nothing but constants.
fn fold_constants(program: &RowProgram) -> Vec<Option<Val>> {
    let mut folded: Vec<Option<f32>> = Vec::with_capacity(program.nodes.len());
    for node in &program.nodes {
        let known = |id: RowNodeId| folded[usize::from(id)];
        let value = match *node {
            RowNode::Constant(c) => Some(c),
            RowNode::Unary(op, x) => known(x).map(|x| op.f32(x)),
            RowNode::Binary(op, a, b) => known(a).zip(known(b)).map(|(a, b)| op.f32(a, b)),
            RowNode::Select(c, yes, no) => known(c).and_then(|c| known(if c != 0.0 { yes } else { no })),
            _ => None,
        };
        folded.push(value);
    }
    folded.into_iter().map(|value| value.map(Val::float)).collect()
}
