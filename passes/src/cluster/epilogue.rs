//! Epilogues: elementwise ops join the contraction whose result they alone use.
//!
//! `%1 = dot %x, %w; %2 = add %1, %r` → one `matmul` cluster: the tile is still in registers when the
//! residual is added.

use castiron_ir::op::ClusterKind;

use super::partition::Partition;
use super::roles::is_elementwise;

/// Grows every contraction by what follows it. Since a value with one user is replaced by that
/// user's, nothing can stand between, and no cycle can come about.
pub fn grow(partition: &mut Partition<'_>) {
    let region = partition.chains.region;
    for (start, node) in region.nodes.iter().enumerate() {
        if partition.kind(partition.group(start)) != Some(ClusterKind::Matmul) || partition.group(start) != start {
            continue;
        }
        let mut value = node.results[0];
        let shape = &region.type_of(value).shape;
        while let Some(user) = partition.chains.only_user(value) {
            let next = &region.nodes[user];
            let fits = is_elementwise(&next.op) && region.type_of(next.results[0]).shape == *shape;
            let free = partition.members(partition.group(user)) == [user];
            if !fits || !free {
                break;
            }
            partition.merge(user, start, ClusterKind::Matmul);
            value = next.results[0];
        }
    }
}
