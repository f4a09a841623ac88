//! A partition of a region's nodes into kernels that never waits for itself.

use std::collections::HashMap;

use castiron_ir::op::{ClusterKind, Op, StateUpdate, StateWrite};
use castiron_ir::{Region, ValueId};
use petgraph::Direction::{Incoming, Outgoing};
use petgraph::algo::has_path_connecting;
use petgraph::graphmap::DiGraphMap;

use super::roles::{Role, is_view, roles};
use crate::chains::Chains;

/// Nodes in groups; a group is named by one of its nodes.
pub struct Partition<'a> {
    /// The region.
    pub chains: Chains<'a>,
    /// What each node is.
    pub roles: Vec<Role>,
    /// The group of each node.
    group: Vec<usize>,
    /// Members of each group in order; empty for names that are gone.
    members: Vec<Vec<usize>>,
    /// Kind of each group.
    kinds: Vec<Option<ClusterKind>>,
    /// An edge where one group waits for another. Leaves wait for nothing and are left out.
    waits: DiGraphMap<usize, ()>,
}

impl<'a> Partition<'a> {
    /// Every node alone.
    pub fn new(region: &'a Region) -> Partition<'a> {
        let (chains, roles) = (Chains::new(region), roles(region));
        let count = region.nodes.len();
        let mut waits = DiGraphMap::new();
        for (i, node) in region.nodes.iter().enumerate() {
            waits.add_node(i);
            for producer in node.operands.iter().filter_map(|&o| chains.definition(o)) {
                if roles[producer] != Role::Leaf {
                    waits.add_edge(producer, i, ());
                }
            }
        }
        for (before, after) in state_order(&chains) {
            // What needs the new value too can only come later; it works on a copy of the old one.
            if !has_path_connecting(&waits, after, before, None) {
                waits.add_edge(before, after, ());
            }
        }
        let kind = |role: &Role| match role {
            Role::Kernel { kind, .. } => Some(*kind),
            _ => None,
        };
        let kinds = roles.iter().map(kind).collect();
        let members = (0..count).map(|i| vec![i]).collect();
        Partition { chains, roles, group: (0..count).collect(), members, kinds, waits }
    }

    /// The group of a node.
    pub fn group(&self, node: usize) -> usize {
        self.group[node]
    }

    /// Nodes of a group, in order.
    pub fn members(&self, group: usize) -> &[usize] {
        &self.members[group]
    }

    /// What kind of cluster a group is; `None` for what stays apart.
    pub fn kind(&self, group: usize) -> Option<ClusterKind> {
        self.kinds[group]
    }

    /// Groups that a group waits for.
    pub fn waits_for(&self, group: usize) -> Vec<usize> {
        let mut groups: Vec<usize> = self.waits.neighbors_directed(group, Incoming).collect();
        groups.sort_unstable_by_key(|&g| self.members[g].last().copied());
        groups
    }

    /// Values of a group that are used outside it, or change state.
    pub fn results(&self, group: usize) -> Vec<ValueId> {
        let nodes = &self.chains.region.nodes;
        let outside =
            |v: &ValueId| self.chains.is_returned(*v) || self.chains.users(*v).iter().any(|&u| self.group[u] != group);
        let effect = |node: usize| matches!(nodes[node].op, Op::StateUpdate(_) | Op::StateWrite(_));
        let of = |&node: &usize| nodes[node].results.iter().copied().filter(move |v| effect(node) || outside(v));
        self.members[group].iter().flat_map(of).collect()
    }

    /// Whether two groups, the second of which uses the first, can be one: no third stands between.
    pub fn can_merge(&self, producer: usize, consumer: usize) -> bool {
        let between = |g: usize| g != consumer && has_path_connecting(&self.waits, g, consumer, None);
        producer != consumer && !self.waits.neighbors_directed(producer, Outgoing).any(between)
    }

    /// Makes one group of two that can be merged.
    pub fn merge(&mut self, from: usize, into: usize, kind: ClusterKind) {
        let edges = |p: &Self, d| p.waits.neighbors_directed(from, d).filter(|&g| g != into).collect::<Vec<_>>();
        let (before, after) = (edges(self, Incoming), edges(self, Outgoing));
        self.waits.remove_node(from);
        for g in before {
            self.waits.add_edge(g, into, ());
        }
        for g in after {
            self.waits.add_edge(into, g, ());
        }
        let moved = std::mem::take(&mut self.members[from]);
        moved.iter().for_each(|&node| self.group[node] = into);
        self.members[into].extend(moved);
        self.members[into].sort_unstable();
        self.kinds[into] = Some(kind);
    }
}

/// Pairs of nodes that use what a state holds, read or written before, and then write it, so that it can be written in
/// place.
fn state_order(chains: &Chains<'_>) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    let mut reads: HashMap<&str, Vec<usize>> = HashMap::new();
    for (i, node) in chains.region.nodes.iter().enumerate() {
        match &node.op {
            Op::StateRead(read) => reads.entry(&read.state).or_default().extend(old_value_users(chains, i)),
            Op::StateUpdate(StateUpdate { state, .. }) | Op::StateWrite(StateWrite { state }) => {
                let users = reads.get(state.as_str()).into_iter().flatten();
                pairs.extend(users.filter(|&&user| user != i).map(|&user| (user, i)));
                // Users of what is written here come before the next write, not before this one.
                reads.insert(state, old_value_users(chains, i));
            }
            _ => {}
        }
    }
    pairs
}

/// A read, the views of it, and the users of these.
fn old_value_users(chains: &Chains<'_>, read: usize) -> Vec<usize> {
    let mut found = vec![read];
    let mut next = 0;
    while let Some(&i) = found.get(next) {
        let node = &chains.region.nodes[i];
        if i == read || is_view(&node.op) {
            found.extend(node.results.iter().flat_map(|&r| chains.users(r)));
        }
        next += 1;
    }
    found
}
