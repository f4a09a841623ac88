//! Common subexpressions: equal ops on equal operands are computed once.
//!
//! `%1 = exp %x; %2 = exp %x; %3 = add %1, %2` → `%1 = exp %x; %3 = add %1, %1`

use std::collections::HashMap;

use castiron_ir::op::Op;
use castiron_ir::{BuildError, Node, OpDef, Region, Value, ValueId};

use crate::dce::has_effect;
use crate::rewrite::rebuild;

/// Larger constants are not compared: their text would cost more than they do.
const LARGEST_CONSTANT: usize = 64;

/// Computes equal nodes once.
///
/// # Errors
/// As [`rebuild`].
pub fn run(region: &Region) -> Result<Region, BuildError> {
    let mut known: HashMap<(String, Vec<ValueId>), Vec<Value>> = HashMap::new();
    rebuild(region, |rewriter, node| {
        let key = key(region, node)?;
        let operands = rewriter.get_all(&node.operands).iter().map(Value::id).collect();
        let emit = || rewriter.emit(node.op.clone(), &node.operands);
        Some(known.entry((key, operands)).or_insert_with(emit).clone())
    })
}

/// Text that two nodes share exactly if their ops and result types are equal; `None` for nodes that
/// are not compared.
fn key(region: &Region, node: &Node) -> Option<String> {
    let large = matches!(&node.op, Op::Constant(c) if c.values.len() > LARGEST_CONSTANT);
    if large || node.op.region().is_some() || has_effect(&node.op) {
        return None;
    }
    let mut key = node.op.name().to_owned();
    node.op.print_attributes(&mut key);
    for &r in &node.results {
        key.push_str(&format!(" : {}", region.type_of(r)));
    }
    Some(key)
}
