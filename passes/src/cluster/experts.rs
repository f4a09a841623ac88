//! Experts: a gather of weight matrices joins the product that alone uses it.
//!
//! `%1 = gather %w, %i axis=0; %2 = dot %x, %1` → one `matmul` cluster, whose kernel takes each row's matrix where
//! it lies. Alone, the gather would copy a matrix for each row.

use castiron_ir::DType;
use castiron_ir::op::{ClusterKind, Op};

use super::partition::Partition;
use super::roles::Role;

/// Merges such gathers into their products.
pub fn absorb(partition: &mut Partition<'_>) {
    for product in 0..partition.chains.region.nodes.len() {
        if let Some(gather) = gathered(partition, product) {
            partition.merge(gather, product, ClusterKind::Matmul);
        }
    }
}

/// The gather whose matrices a product takes.
fn gathered(partition: &Partition<'_>, product: usize) -> Option<usize> {
    let (chains, region) = (&partition.chains, partition.chains.region);
    let node = &region.nodes[product];
    let Op::Dot(dot) = &node.op else { return None };
    let is_weight = |node: Option<usize>| node.is_some_and(|node| partition.roles[node] == Role::Leaf);
    let rank = |value| region.type_of(value).rank();
    (0..2).find_map(|side| {
        let (matrices, rows) = (node.operands[side], node.operands[1 - side]);
        let at = chains.definition(matrices)?;
        let Op::Gather(gather) = &region.nodes[at].op else { return None };
        let [stack, indices] = region.nodes[at].operands[..] else { return None };
        let is_stack = is_weight(chains.definition(stack)) && rank(stack) == 3;
        let is_plain = gather.axis == 0 && gather.batch.unwrap_or(0) == 0;
        let is_fit = is_stack && is_plain && region.type_of(indices).dtype == DType::I32;
        let is_alone = chains.only_user(matrices) == Some(product) && !is_weight(chains.definition(rows));
        dot.over_gathered(side, rank(rows), rank(indices)).filter(|_| is_fit && is_alone).map(|_| at)
    })
}
