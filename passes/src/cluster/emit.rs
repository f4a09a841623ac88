//! The clustered region from its partition.

use std::collections::HashMap;

use castiron_ir::op::{Cluster, ClusterKind, Op};
use castiron_ir::{BuildError, Builder, Region, Value, ValueId};

use super::partition::Partition;
use super::roles::{Role, needs_buffer};
use crate::rewrite::Rewriter;

/// Writes the groups in an order in which each comes after what it waits for.
///
/// # Errors
/// As [`Rewriter::finish`].
pub fn write(partition: &Partition<'_>) -> Result<Region, BuildError> {
    let region = partition.chains.region;
    let mut writer = Writer { partition, outer: Rewriter::new(region), done: vec![false; region.nodes.len()] };
    for (i, _) in region.nodes.iter().enumerate() {
        let group = partition.group(i);
        // A group stands where its last member stood, or earlier if another group waits for it.
        if partition.members(group).last() == Some(&i) && partition.roles[i] != Role::Leaf {
            writer.group(group)?;
        }
    }
    for &result in &region.results {
        writer.buffer(result)?;
    }
    writer.outer.finish()
}

struct Writer<'a> {
    partition: &'a Partition<'a>,
    outer: Rewriter<'a>,
    done: Vec<bool>,
}

impl Writer<'_> {
    fn group(&mut self, group: usize) -> Result<(), BuildError> {
        if std::mem::replace(&mut self.done[group], true) {
            return Ok(());
        }
        for before in self.partition.waits_for(group) {
            self.group(before)?;
        }
        match self.partition.kind(group) {
            Some(kind) => self.cluster(group, kind),
            None => self.apart(group),
        }
    }

    /// A node between clusters: its operands are buffers.
    fn apart(&mut self, group: usize) -> Result<(), BuildError> {
        let node = &self.partition.chains.region.nodes[group];
        node.operands.iter().try_for_each(|&o| self.buffer(o).map(drop))?;
        let results = self.outer.emit(node.op.clone(), &node.operands);
        self.outer.set_results(node, results);
        Ok(())
    }

    fn cluster(&mut self, group: usize, kind: ClusterKind) -> Result<(), BuildError> {
        let partition = self.partition;
        let members = || partition.members(group).iter().map(|&m| &partition.chains.region.nodes[m]);
        let mut body = Body::new();
        for node in members() {
            for (i, &o) in node.operands.iter().enumerate() {
                if self.is_buffer(group, &node.op, i, o) {
                    body.argument(o, self.buffer(o)?);
                }
            }
        }
        for node in members() {
            let operand = |(i, &o): (usize, &ValueId)| match self.is_buffer(group, &node.op, i, o) {
                true => body.arguments[&o].clone(),
                false => body.copy(partition, o),
            };
            let operands: Vec<Value> = node.operands.iter().enumerate().map(operand).collect();
            let results = body.inner.apply_all(node.op.clone(), &operands.iter().collect::<Vec<_>>());
            node.results.iter().zip(results).for_each(|(&r, v)| drop(body.values.insert(r, v)));
        }
        let results = partition.results(group);
        for (result, value) in results.iter().zip(body.finish(partition, kind, &results, &self.outer.new)?) {
            self.outer.set(*result, value);
        }
        Ok(())
    }

    /// Whether an operand of a group's member comes from outside, and not as a copied leaf.
    fn is_buffer(&self, group: usize, op: &Op, position: usize, operand: ValueId) -> bool {
        match self.partition.chains.definition(operand) {
            None => true,
            Some(node) if self.partition.roles[node] == Role::Leaf => needs_buffer(op, position),
            Some(node) => self.partition.group(node) != group,
        }
    }

    /// A value as a buffer; a leaf gets a cluster that yields it.
    fn buffer(&mut self, value: ValueId) -> Result<Value, BuildError> {
        if let Some(known) = self.outer.find(value) {
            return Ok(known.clone());
        }
        let results = Body::new().finish(self.partition, ClusterKind::Map, &[value], &self.outer.new)?;
        results.into_iter().for_each(|v| self.outer.set(value, v));
        Ok(self.outer.get(value))
    }
}

/// A cluster's body under construction.
struct Body {
    inner: Builder,
    values: HashMap<ValueId, Value>,
    arguments: HashMap<ValueId, Value>,
    operands: Vec<Value>,
}

impl Body {
    fn new() -> Body {
        Body { inner: Builder::new(), values: HashMap::new(), arguments: HashMap::new(), operands: Vec::new() }
    }

    /// Adds the argument that stands for a buffer, once.
    fn argument(&mut self, old: ValueId, buffer: Value) {
        if !self.arguments.contains_key(&old) {
            let argument = self.inner.argument(&format!("a{}", self.operands.len()), buffer.ty());
            self.arguments.insert(old, argument);
            self.operands.push(buffer);
        }
    }

    /// The body's own value for an old one; leaves are copied into the body.
    fn copy(&mut self, partition: &Partition<'_>, old: ValueId) -> Value {
        if let Some(known) = self.values.get(&old) {
            return known.clone();
        }
        let node = partition.chains.producer(old).expect("a leaf is defined by a node");
        let operands: Vec<Value> = node.operands.iter().map(|&o| self.copy(partition, o)).collect();
        let value = self.inner.apply(node.op.clone(), &operands.iter().collect::<Vec<_>>());
        self.values.insert(old, value.clone());
        value
    }

    /// Writes the cluster; gives its results.
    fn finish(
        mut self,
        partition: &Partition<'_>,
        kind: ClusterKind,
        results: &[ValueId],
        outer: &Builder,
    ) -> Result<Vec<Value>, BuildError> {
        let results: Vec<Value> = results.iter().map(|&r| self.copy(partition, r)).collect();
        let body = self.inner.finish(&results.iter().collect::<Vec<_>>())?;
        Ok(outer.apply_all(Cluster { kind, body }, &self.operands.iter().collect::<Vec<_>>()))
    }
}
