//! Rewriting by rebuilding: a pass walks the nodes of a region in order and writes a new region.
//!
//! Matchers look at the old region, whose def-use chains do not change under their feet; the new one
//! is written through a [`Builder`], which derives and checks every type. What becomes unused is
//! left to [`crate::dce`].

use castiron_ir::op::Op;
use castiron_ir::{BuildError, Builder, Node, OpDef, Region, Value, ValueId};

/// A region under reconstruction: the old one, the builder of the new one, and the map between.
pub struct Rewriter<'a> {
    /// The region as it was.
    pub old: &'a Region,
    /// Writes the region as it will be.
    pub new: Builder,
    values: Vec<Option<Value>>,
}

impl<'a> Rewriter<'a> {
    /// A new region with the old one's arguments.
    pub fn new(old: &'a Region) -> Rewriter<'a> {
        let new = Builder::new();
        let mut values = vec![None; old.value_count()];
        for (name, &a) in old.argument_names.iter().zip(&old.arguments) {
            values[a.index()] = Some(new.argument(name, old.type_of(a).clone()));
        }
        Rewriter { old, new, values }
    }

    /// What stands for an old value; `None` before its definition was visited.
    pub fn find(&self, old: ValueId) -> Option<&Value> {
        self.values[old.index()].as_ref()
    }

    /// What stands for an old value.
    ///
    /// # Panics
    /// Before its definition was visited.
    pub fn get(&self, old: ValueId) -> Value {
        self.find(old).cloned().expect("nodes are visited in order, so operands have been visited")
    }

    /// What stands for several old values.
    pub fn get_all(&self, old: &[ValueId]) -> Vec<Value> {
        old.iter().map(|&v| self.get(v)).collect()
    }

    /// Lets a new value stand for an old one.
    pub fn set(&mut self, old: ValueId, new: Value) {
        self.values[old.index()] = Some(new);
    }

    /// Lets the results of a node stand for an old node's.
    pub fn set_results(&mut self, node: &Node, new: Vec<Value>) {
        node.results.iter().zip(new).for_each(|(&r, v)| self.set(r, v));
    }

    /// Writes an op on the new operands of an old node.
    pub fn emit(&self, op: Op, operands: &[ValueId]) -> Vec<Value> {
        let operands = self.get_all(operands);
        self.new.apply_all(op, &operands.iter().collect::<Vec<_>>())
    }

    /// Ends the new region with the old one's results.
    ///
    /// # Errors
    /// An op that the pass applied to operands which it does not take.
    pub fn finish(self) -> Result<Region, BuildError> {
        let results = self.get_all(&self.old.results);
        self.new.finish(&results.iter().collect::<Vec<_>>())
    }
}

/// Rebuilds a region: `rule` may give new results for a node, else it is copied.
///
/// # Errors
/// As [`Rewriter::finish`].
pub fn rebuild(
    region: &Region,
    mut rule: impl FnMut(&Rewriter<'_>, &Node) -> Option<Vec<Value>>,
) -> Result<Region, BuildError> {
    let mut rewriter = Rewriter::new(region);
    for node in &region.nodes {
        let results = rule(&rewriter, node).unwrap_or_else(|| rewriter.emit(node.op.clone(), &node.operands));
        rewriter.set_results(node, results);
    }
    rewriter.finish()
}

/// Applies a function to every region that is entered, inner ones first.
///
/// # Errors
/// The first error of the function.
pub fn each_region<E>(
    region: &Region,
    enters: &dyn Fn(&Op) -> bool,
    change: &dyn Fn(&Region) -> Result<Region, E>,
) -> Result<Region, E> {
    let mut region = region.clone();
    for node in region.nodes.iter_mut().filter(|node| enters(&node.op)) {
        if let Some(inner) = node.op.region_mut() {
            *inner = each_region(inner, enters, change)?;
        }
    }
    change(&region)
}
