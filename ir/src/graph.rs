//! Modules, entry points and regions: the containers of ops.
//!
//! A [`Region`] is a list of nodes in evaluation order. Regions are closed: a nested region sees
//! only its own arguments, so whatever it needs from outside is passed to it by the op that holds
//! it. Every region can therefore be rewritten alone.

use crate::op::{Op, OpDef};
use crate::types::Type;

/// A value of a region: an argument or a result of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

impl ValueId {
    /// Position in tables indexed by value.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// An op applied to operands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What is computed.
    pub op: Op,
    /// Operands, all defined before this node.
    pub operands: Vec<ValueId>,
    /// Results, in the op's order.
    pub results: Vec<ValueId>,
}

/// A closed list of nodes with arguments and results.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Region {
    /// Argument values; their types are in the table of types.
    pub arguments: Vec<ValueId>,
    /// Name of each argument, unique within the region.
    pub argument_names: Vec<String>,
    /// Nodes in evaluation order.
    pub nodes: Vec<Node>,
    /// Values that the region returns.
    pub results: Vec<ValueId>,
    types: Vec<Type>,
}

impl Region {
    /// Type of a value.
    pub fn type_of(&self, value: ValueId) -> &Type {
        &self.types[value.index()]
    }

    /// Number of values, which is one more than the largest [`ValueId`].
    pub fn value_count(&self) -> usize {
        self.types.len()
    }

    /// Types of several values.
    pub fn types_of(&self, values: &[ValueId]) -> Vec<Type> {
        values.iter().map(|&v| self.type_of(v).clone()).collect()
    }

    /// Adds an argument.
    pub fn push_argument(&mut self, name: &str, ty: Type) -> ValueId {
        let value = self.new_value(ty);
        self.arguments.push(value);
        self.argument_names.push(name.to_owned());
        value
    }

    /// Appends a node whose result types are known.
    pub fn push_node(&mut self, op: Op, operands: Vec<ValueId>, result_types: Vec<Type>) -> &[ValueId] {
        let results = result_types.into_iter().map(|ty| self.new_value(ty)).collect();
        self.nodes.push(Node { op, operands, results });
        &self.nodes[self.nodes.len() - 1].results
    }

    fn new_value(&mut self, ty: Type) -> ValueId {
        let value = ValueId(self.types.len() as u32);
        self.types.push(ty);
        value
    }

    /// For each value, the index of the node that defines it; `None` for arguments.
    pub fn definitions(&self) -> Vec<Option<usize>> {
        let mut definitions = vec![None; self.types.len()];
        for (i, node) in self.nodes.iter().enumerate() {
            for r in &node.results {
                definitions[r.index()] = Some(i);
            }
        }
        definitions
    }

    /// For each value, the indices of the nodes that use it, one per use.
    pub fn uses(&self) -> Vec<Vec<usize>> {
        let mut uses = vec![Vec::new(); self.types.len()];
        for (i, node) in self.nodes.iter().enumerate() {
            for o in &node.operands {
                uses[o.index()].push(i);
            }
        }
        uses
    }

    /// Number of ops, those of nested regions included.
    pub fn op_count(&self) -> usize {
        self.nodes.iter().map(|n| 1 + n.op.region().map_or(0, Region::op_count)).sum()
    }
}

/// Runtime state of an entry: a tensor that outlives a call, such as one layer's KV cache.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Name; a template such as `layers.{i}.key` when there are several instances.
    pub name: String,
    /// Number of instances, `{i}` running from 0; `None` for a single one without template.
    pub instances: Option<usize>,
    /// Type of one instance.
    pub ty: Type,
}

/// A function that can be called on an artifact.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Name, such as `forward`.
    pub name: String,
    /// State that the entry reads and updates; entries with a state of the same name share it.
    pub states: Vec<State>,
    /// Name of each result of the body.
    pub outputs: Vec<String>,
    /// Arguments are the entry's inputs.
    pub body: Region,
}

/// A compiled model's entries. Parameters are shared by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Module {
    /// Entries, with distinct names.
    pub entries: Vec<Entry>,
}

impl Module {
    /// The entry of that name.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.name == name)
    }
}
