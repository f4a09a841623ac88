//! Row programs: the expression DAG that every kernel's elementwise and reducing work is written in.
//!
//! A row program is evaluated once per row of `n` elements. It has no control flow: a map is a
//! program without [`RowNode::Reduce`]; softmax or a layer norm has one or two. Code generators cut
//! it into phases at the reductions ([`RowProgram::levels`]), one loop over the row each. The same
//! program describes the epilogue of a matrix product, where the first inputs are its accumulators.

use std::hash::{Hash, Hasher};

use castiron_ir::op::{BinaryOp, UnaryOp};
use serde::{Deserialize, Serialize};

/// Index of a node within its program.
pub type RowNodeId = u16;

/// How an input varies along the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Access {
    /// One value per element, contiguous.
    Element,
    /// One value for the whole row.
    Uniform,
}

/// Reduction of a row to one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RowReduce {
    /// Σ x
    Sum,
    /// max x; -∞ for an empty row.
    Max,
    /// min x; +∞ for an empty row.
    Min,
}

/// One value of a row program. Operands precede their users. Constants are equal if their bits are,
/// so that programs can be keys.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum RowNode {
    /// Input number `.0`.
    Input(u16),
    /// A constant.
    Constant(f32),
    /// Index of the element within the row: 0, 1, 2 …
    Position,
    /// Number of elements of the row.
    Length,
    /// A function of one value.
    Unary(UnaryOp, RowNodeId),
    /// A function of two values; predicates give 0 or 1.
    Binary(BinaryOp, RowNodeId, RowNodeId),
    /// `if c ≠ 0 { a } else { b }`
    Select(RowNodeId, RowNodeId, RowNodeId),
    /// Reduction over the row; the result is uniform.
    Reduce(RowReduce, RowNodeId),
}

impl RowNode {
    /// Operands in order.
    pub fn operands(&self) -> impl Iterator<Item = RowNodeId> {
        let (a, b, c) = match *self {
            RowNode::Input(_) | RowNode::Constant(_) | RowNode::Position | RowNode::Length => (None, None, None),
            RowNode::Unary(_, a) | RowNode::Reduce(_, a) => (Some(a), None, None),
            RowNode::Binary(_, a, b) => (Some(a), Some(b), None),
            RowNode::Select(a, b, c) => (Some(a), Some(b), Some(c)),
        };
        [a, b, c].into_iter().flatten()
    }

    /// What distinguishes the node: kind, function or bits, operands.
    fn key(&self) -> (u8, u32, [RowNodeId; 3]) {
        match *self {
            RowNode::Input(i) => (0, i.into(), [0; 3]),
            RowNode::Constant(c) => (1, c.to_bits(), [0; 3]),
            RowNode::Position => (2, 0, [0; 3]),
            RowNode::Length => (3, 0, [0; 3]),
            RowNode::Unary(op, a) => (4, op as u32, [a, 0, 0]),
            RowNode::Binary(op, a, b) => (5, op as u32, [a, b, 0]),
            RowNode::Select(a, b, c) => (6, 0, [a, b, c]),
            RowNode::Reduce(kind, a) => (7, kind as u32, [a, 0, 0]),
        }
    }
}

impl PartialEq for RowNode {
    fn eq(&self, other: &RowNode) -> bool {
        self.key() == other.key()
    }
}

impl Eq for RowNode {}

impl Hash for RowNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

/// A straight-line program over one row, all values f32.
///
/// Output `i` receives node `stores[i]`: `n` values when the node varies along the row, one value
/// when it is uniform. An output may share memory with an input of the same extent: an element is
/// read before it is written, and a row of an output is written only when no input is read later.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RowProgram {
    /// Access kind of each input.
    pub inputs: Vec<Access>,
    /// Values in evaluation order.
    pub nodes: Vec<RowNode>,
    /// Node that each output receives.
    pub stores: Vec<RowNodeId>,
}

/// Why a row program is not well formed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowProgramError {
    /// A node uses a node that does not precede it.
    #[error("node {node} uses node {operand}, which does not precede it")]
    Order {
        /// The user.
        node: usize,
        /// The operand.
        operand: usize,
    },
    /// An input number without an input.
    #[error("node {node} reads input {input} of {inputs}")]
    Input {
        /// The reader.
        node: usize,
        /// The number asked for.
        input: usize,
        /// How many there are.
        inputs: usize,
    },
    /// A store of a node that does not exist.
    #[error("output {output} stores node {node}, which does not exist")]
    Store {
        /// The output.
        output: usize,
        /// The node asked for.
        node: usize,
    },
    /// More nodes, inputs or outputs than code generators accept.
    #[error("a row program has at most {MAX_NODES} nodes and {MAX_OPERANDS} inputs and outputs")]
    TooLarge,
}

/// Largest number of nodes of a row program.
pub const MAX_NODES: usize = 1024;
/// Largest number of inputs plus outputs of a row program.
pub const MAX_OPERANDS: usize = 32;

/// Where a node's value is known: how many reductions deep, and whether it varies along the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Number of reductions that must have finished before the value can be computed.
    pub phase: u16,
    /// Whether the value varies along the row.
    pub varies: bool,
}

impl RowProgram {
    /// Checks that operands precede users and that inputs and stores exist.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), RowProgramError> {
        if self.nodes.len() > MAX_NODES || self.inputs.len() + self.stores.len() > MAX_OPERANDS {
            return Err(RowProgramError::TooLarge);
        }
        for (node, n) in self.nodes.iter().enumerate() {
            if let Some(operand) = n.operands().map(usize::from).find(|&o| o >= node) {
                return Err(RowProgramError::Order { node, operand });
            }
            if let RowNode::Input(input) = *n
                && usize::from(input) >= self.inputs.len()
            {
                return Err(RowProgramError::Input { node, input: input.into(), inputs: self.inputs.len() });
            }
        }
        match self.stores.iter().position(|&n| usize::from(n) >= self.nodes.len()) {
            Some(output) => Err(RowProgramError::Store { output, node: self.stores[output].into() }),
            None => Ok(()),
        }
    }

    /// The level of every node. A value that varies along the row is recomputed in each phase that
    /// needs it, so its phase is the earliest in which it can be computed.
    pub fn levels(&self) -> Vec<Level> {
        let mut levels: Vec<Level> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let phase = node.operands().map(|o| levels[usize::from(o)].phase).max().unwrap_or(0);
            let varies = match node {
                RowNode::Input(i) => self.inputs[usize::from(*i)] == Access::Element,
                RowNode::Position => true,
                RowNode::Reduce(..) => false,
                _ => node.operands().any(|o| levels[usize::from(o)].varies),
            };
            let after_reduction = u16::from(matches!(node, RowNode::Reduce(..)));
            levels.push(Level { phase: phase + after_reduction, varies });
        }
        levels
    }

    /// How often each node is an operand or a stored value, counting only users that are needed.
    pub fn uses(&self) -> Vec<u16> {
        let mut uses = vec![0_u16; self.nodes.len()];
        self.stores.iter().for_each(|&id| uses[usize::from(id)] += 1);
        for (id, node) in self.nodes.iter().enumerate().rev() {
            if uses[id] > 0 {
                node.operands().for_each(|operand| uses[usize::from(operand)] += 1);
            }
        }
        uses
    }

    /// Whether the program has no reduction, so that a row may be cut anywhere.
    pub fn is_map(&self) -> bool {
        !self.nodes.iter().any(|n| matches!(n, RowNode::Reduce(..)))
    }
}
