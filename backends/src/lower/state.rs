//! State that a scan carries: it is replaced where it lies, if nobody needs the old value later.

use castiron_ir::op::{Op, StateWrite};
use castiron_ir::{Node, ValueId};

use super::region::Scope;
use super::repeat::last_use;
use super::{LowerError, Lowering};

impl Lowering<'_> {
    /// What a scan carries and a state gets is wanted in the state.
    pub(super) fn aim_at_states(&self, scope: &mut Scope<'_>) -> Result<(), LowerError> {
        let region = scope.region;
        let definitions = region.definitions();
        for node in &region.nodes {
            let Some((write, value)) = lone_write(node) else { continue };
            let Some(scan) = definitions[value.index()] else { continue };
            let is_carried = carries(&region.nodes[scan], value, |initial| {
                let holds = |at| holds_state(&region.nodes[at], initial, &write.state);
                definitions[initial.index()].is_some_and(holds) && is_last_use(scope, initial, scan)
            });
            if is_carried && scope.is_used_once(value) && is_read_before(scope, &write.state, scan) {
                let state = self.state(&write.state)?;
                scope.targets.entry(value).or_insert(state);
            }
        }
        Ok(())
    }
}

/// Whether a value lies in a state: it was read from there, or has just been written there.
fn holds_state(node: &Node, value: ValueId, state: &str) -> bool {
    match &node.op {
        Op::StateRead(read) => read.state == state,
        Op::Cluster(cluster) => {
            let result = node.results.iter().position(|&result| result == value).map(|i| cluster.body.results[i]);
            let is_write = |inner: &Node| matches!(&inner.op, Op::StateWrite(write) if write.state == state);
            cluster.body.nodes.iter().any(|inner| is_write(inner) && result == Some(inner.results[0]))
        }
        _ => false,
    }
}

/// Whether nothing uses a value after a node.
fn is_last_use(scope: &Scope<'_>, value: ValueId, node: usize) -> bool {
    !scope.region.results.contains(&value) && last_use(scope.region, &scope.uses, value).is_none_or(|last| last <= node)
}

/// The value that a cluster writes to a state as it is.
fn lone_write(node: &Node) -> Option<(&StateWrite, ValueId)> {
    let Op::Cluster(cluster) = &node.op else { return None };
    let ([inner], [argument]) = (cluster.body.nodes.as_slice(), cluster.body.arguments.as_slice()) else {
        return None;
    };
    match &inner.op {
        Op::StateWrite(write) if inner.operands == [*argument] => Some((write, node.operands[0])),
        _ => None,
    }
}

/// Whether a value is what a scan carries, beginning with a value of which something is true, and nothing
/// else that the scan uses is that.
fn carries(node: &Node, value: ValueId, is_first: impl Fn(ValueId) -> bool) -> bool {
    let Op::Scan(scan) = &node.op else { return false };
    let number = node.results.iter().position(|&result| result == value).filter(|&i| i < scan.carried);
    let uses = node.operands.iter().filter(|&&operand| is_first(operand)).count();
    number.is_some_and(|i| is_first(node.operands[i])) && uses == 1
}

/// Whether all uses of a state's value are over when a node is executed.
fn is_read_before(scope: &Scope<'_>, state: &str, node: usize) -> bool {
    let region = scope.region;
    let reads = region.nodes.iter().filter(|n| matches!(&n.op, Op::StateRead(read) if read.state == state));
    { reads }.all(|read| is_last_use(scope, read.results[0], node))
}
