//! Def-use chains of a region that does not change.

use castiron_ir::op::{Constant, Op};
use castiron_ir::{Node, Region, ValueId};

/// Who defines and who uses each value.
pub struct Chains<'a> {
    /// The region.
    pub region: &'a Region,
    definitions: Vec<Option<usize>>,
    uses: Vec<Vec<usize>>,
    returned: Vec<bool>,
}

impl<'a> Chains<'a> {
    /// The chains of a region.
    pub fn new(region: &'a Region) -> Chains<'a> {
        let mut returned = vec![false; region.value_count()];
        region.results.iter().for_each(|r| returned[r.index()] = true);
        Chains { region, definitions: region.definitions(), uses: region.uses(), returned }
    }

    /// Index of the node that defines a value; `None` for an argument.
    pub fn definition(&self, value: ValueId) -> Option<usize> {
        self.definitions[value.index()]
    }

    /// The node that defines a value; `None` for an argument.
    pub fn producer(&self, value: ValueId) -> Option<&'a Node> {
        self.definition(value).map(|i| &self.region.nodes[i])
    }

    /// The constant that a value is, if it is one.
    pub fn constant(&self, value: ValueId) -> Option<&'a Constant> {
        match &self.producer(value)?.op {
            Op::Constant(c) => Some(c),
            _ => None,
        }
    }

    /// Indices of the nodes that use a value, one per use.
    pub fn users(&self, value: ValueId) -> &[usize] {
        &self.uses[value.index()]
    }

    /// Whether the region returns a value.
    pub fn is_returned(&self, value: ValueId) -> bool {
        self.returned[value.index()]
    }

    /// The only node that uses a value; `None` when there are several or the region returns it.
    pub fn only_user(&self, value: ValueId) -> Option<usize> {
        let (first, rest) = self.users(value).split_first()?;
        (rest.iter().all(|u| u == first) && !self.is_returned(value)).then_some(*first)
    }
}
