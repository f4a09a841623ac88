//! KV caches in half precision: keys and values are rounded when they are written, and widened when they
//! are read.
//!
//! `%1 = state_update %k, %past .. : f32[..]` → `%1 = state_update %k, %past .. : f16[..]; %2 = cast %1 to=f32`
//!
//! This changes what a model computes, so that it is no pass of the pipeline: it is done to the graph, if
//! it is asked for, before all passes. These take the conversion into `attention`, which reads the cache as
//! it lies.

use std::collections::BTreeMap;

use castiron_ir::op::{Op, StateUpdate};
use castiron_ir::{BuildError, DType, Module, Node, OpDef, Region, Value};

use crate::PassError;
use crate::chains::Chains;
use crate::cluster::is_view;
use crate::rewrite::{Rewriter, each_region, rebuild};

/// Gives every KV cache of f32 another float type: every state that is appended to and then read by
/// nothing but attention, as fused op or as products. Other states stay what they are.
///
/// # Errors
/// An op that does not take the new types, which is a fault of this function.
pub fn narrow(module: &mut Module, to: DType) -> Result<(), PassError> {
    let mut states = BTreeMap::new();
    module.entries.iter().for_each(|entry| note_uses(&entry.body, &mut states));
    let is_cache = |state: &str| states.get(state) == Some(&true);
    for entry in &mut module.entries {
        let rule = |rewriter: &Rewriter<'_>, node: &Node| narrowed(rewriter, node, to, &is_cache);
        entry.body = each_region(&entry.body, &|_| true, &|region: &Region| rebuild(region, rule)).map_err(
            |source: BuildError| PassError::Build { pass: "narrow caches", entry: entry.name.clone(), source },
        )?;
        for state in entry.states.iter_mut().filter(|state| is_cache(&state.name)) {
            state.ty.dtype = to;
        }
    }
    Ok(())
}

/// Notes of every state that a region uses whether all uses are those of a cache.
fn note_uses(region: &Region, states: &mut BTreeMap<String, bool>) {
    let chains = Chains::new(region);
    for node in &region.nodes {
        let (state, is_cache) = match &node.op {
            Op::StateUpdate(update) => (&update.state, update.ty.dtype == DType::F32 && is_attended_to(&chains, node)),
            Op::StateRead(read) => (&read.state, false),
            Op::StateWrite(write) => (&write.state, false),
            op => {
                op.region().into_iter().for_each(|inner| note_uses(inner, states));
                continue;
            }
        };
        *states.entry(state.clone()).or_insert(true) &= is_cache;
    }
}

/// Whether results of a node, or views of them, meet nothing but queries and weights of attention.
fn is_attended_to(chains: &Chains<'_>, node: &Node) -> bool {
    node.results.iter().all(|&result| {
        let meets_queries = |&user: &usize| match &chains.region.nodes[user] {
            user if is_view(&user.op) => is_attended_to(chains, user),
            user => matches!(user.op, Op::Dot(_) | Op::Attention(_)),
        };
        !chains.is_returned(result) && chains.users(result).iter().all(meets_queries)
    })
}

/// An update of a narrower cache, and its value in the type that the users expect.
fn narrowed(rewriter: &Rewriter<'_>, node: &Node, to: DType, is_cache: &dyn Fn(&str) -> bool) -> Option<Vec<Value>> {
    let Op::StateUpdate(update) = &node.op else { return None };
    if !is_cache(&update.state) {
        return None;
    }
    let update = StateUpdate { ty: update.ty.with_dtype(to), ..update.clone() };
    let cache = rewriter.emit(update.into(), &node.operands);
    Some(cache.iter().map(|cache| cache.cast(DType::F32)).collect())
}
