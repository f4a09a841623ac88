//! Row programs as WGSL expressions. Values with several users get a name, others stand in place.

use castiron_ir::op::{BinaryOp, UnaryOp};
use castiron_runtime::program::row::{Level, RowNode, RowNodeId, RowProgram};

use super::WgslFault;
use super::library::Function;
use super::operand::literal;
use super::shader::Writer;

/// Where inputs of a row program come from.
pub(super) trait Inputs {
    /// The value of an input at the current position of the row.
    fn input(&self, w: &mut Writer<'_>, number: usize) -> Result<String, WgslFault>;
}

/// A row program being written, phase by phase.
pub(super) struct Expressions<'a> {
    pub program: &'a RowProgram,
    pub levels: Vec<Level>,
    uses: Vec<u16>,
    /// Whether a node is the same for the whole row, and used where values vary.
    feeds_varying: Vec<bool>,
    /// Values that are the same for the whole row and have been written.
    uniform: Vec<Option<String>>,
    /// Values at the current position.
    current: Vec<Option<String>>,
    /// How position and length are written.
    pub position: String,
    pub length: String,
}

impl<'a> Expressions<'a> {
    pub fn new(program: &'a RowProgram, position: &str, length: &str) -> Expressions<'a> {
        let count = program.nodes.len();
        let levels = program.levels();
        let mut feeds_varying = vec![false; count];
        let walks = |(node, level): &(&RowNode, &Level)| level.varies || matches!(node, RowNode::Reduce(..));
        for (node, _) in program.nodes.iter().zip(&levels).filter(walks) {
            node.operands()
                .for_each(|operand| feeds_varying[usize::from(operand)] |= !levels[usize::from(operand)].varies);
        }
        Expressions {
            program,
            feeds_varying,
            levels,
            uses: program.uses(),
            uniform: vec![None; count],
            current: vec![None; count],
            position: format!("f32({position})"),
            length: format!("f32({length})"),
        }
    }

    /// Writes the values of a phase that are the same for the whole row, before its loop.
    pub fn hoist(&mut self, w: &mut Writer<'_>, phase: u16, from: &dyn Inputs) -> Result<(), WgslFault> {
        for at in 0..self.program.nodes.len() {
            let (level, is_used) = (self.levels[at], self.uses[at] > 0);
            let is_leaf = matches!(self.program.nodes[at], RowNode::Constant(_) | RowNode::Length);
            if level.varies || level.phase > phase || !is_used || is_leaf || self.uniform[at].is_some() {
                continue;
            }
            if self.uses[at] > 1 || self.feeds_varying[at] {
                let text = self.node(w, self.program.nodes[at], from)?;
                w.line(format!("let t{at} = {text};"));
                self.uniform[at] = Some(format!("t{at}"));
            }
        }
        Ok(())
    }

    /// Forgets the values that belong to a position.
    pub fn leave_position(&mut self) {
        self.current.fill(None);
    }

    /// Gives a reduction the name of its result.
    pub fn set_reduced(&mut self, node: usize, name: String) {
        self.uniform[node] = Some(name);
    }

    /// Whether a node varies along the row.
    pub fn varies(&self, id: RowNodeId) -> bool {
        self.levels[usize::from(id)].varies
    }

    /// The value of a node; statements that it needs are written first.
    pub fn value(&mut self, w: &mut Writer<'_>, id: RowNodeId, from: &dyn Inputs) -> Result<String, WgslFault> {
        let at = usize::from(id);
        let known = if self.varies(id) { &self.current[at] } else { &self.uniform[at] };
        if let Some(known) = known {
            return Ok(known.clone());
        }
        let node = self.program.nodes[at];
        let mut text = self.node(w, node, from)?;
        let is_leaf = matches!(node, RowNode::Constant(_) | RowNode::Position | RowNode::Length);
        if self.uses[at] > 1 && !is_leaf {
            w.line(format!("let t{id} = {text};"));
            text = format!("t{id}");
            let slot = if self.varies(id) { &mut self.current[at] } else { &mut self.uniform[at] };
            *slot = Some(text.clone());
        }
        Ok(text)
    }

    fn node(&mut self, w: &mut Writer<'_>, node: RowNode, from: &dyn Inputs) -> Result<String, WgslFault> {
        Ok(match node {
            RowNode::Input(i) => from.input(w, usize::from(i))?,
            RowNode::Constant(c) => literal(w, c),
            RowNode::Position => self.position.clone(),
            RowNode::Length => self.length.clone(),
            RowNode::Unary(op, a) => {
                let a = self.value(w, a, from)?;
                unary(w, op, &a)
            }
            RowNode::Binary(op, a, b) => {
                let (a, b) = (self.value(w, a, from)?, self.value(w, b, from)?);
                binary(w, op, &a, &b)
            }
            RowNode::Select(c, a, b) => {
                let (a, b) = (self.value(w, a, from)?, self.value(w, b, from)?);
                let c = self.value(w, c, from)?;
                format!("select({b}, {a}, {c} != 0.0)")
            }
            // Its phase has been written before any user's.
            RowNode::Reduce(..) => return Err(WgslFault::Order),
        })
    }
}

fn unary(w: &mut Writer<'_>, op: UnaryOp, a: &str) -> String {
    if let Some(function) = Function::of(op) {
        return format!("{}({a})", w.function(function));
    }
    match op {
        UnaryOp::Neg => format!("(-{a})"),
        UnaryOp::Rsqrt => format!("inverseSqrt({a})"),
        UnaryOp::Reciprocal => format!("(1.0 / {a})"),
        UnaryOp::Not => format!("select(0.0, 1.0, {a} == 0.0)"),
        UnaryOp::Relu => format!("max({a}, 0.0)"),
        UnaryOp::Relu2 => format!("(max({a}, 0.0) * max({a}, 0.0))"),
        // Absolute value, exponential, logarithm, root, floor, rounding to even and sign.
        _ => format!("{}({a})", op.name()),
    }
}

fn binary(w: &mut Writer<'_>, op: BinaryOp, a: &str, b: &str) -> String {
    let truth = |text: String| format!("select(0.0, 1.0, {text})");
    match op {
        BinaryOp::Add => format!("({a} + {b})"),
        BinaryOp::Sub => format!("({a} - {b})"),
        BinaryOp::Mul => format!("({a} * {b})"),
        BinaryOp::Div => format!("({a} / {b})"),
        BinaryOp::Pow => format!("{}({a}, {b})", w.function(Function::Power)),
        BinaryOp::Mod => format!("{}({a}, {b})", w.function(Function::Modulo)),
        BinaryOp::Max => format!("max({a}, {b})"),
        BinaryOp::Min => format!("min({a}, {b})"),
        BinaryOp::Eq => truth(format!("{a} == {b}")),
        BinaryOp::Ne => truth(format!("{a} != {b}")),
        BinaryOp::Lt => truth(format!("{a} < {b}")),
        BinaryOp::Le => truth(format!("{a} <= {b}")),
        BinaryOp::Gt => truth(format!("{a} > {b}")),
        BinaryOp::Ge => truth(format!("{a} >= {b}")),
        BinaryOp::And => truth(format!("({a} != 0.0) && ({b} != 0.0)")),
        BinaryOp::Or => truth(format!("({a} != 0.0) || ({b} != 0.0)")),
    }
}
