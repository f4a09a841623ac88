//! KV caches of 16 or 8 bits: keys and values are rounded when they are written, and widened when they are
//! read.
//!
//! `%1 = state_update %k, %past .. : f32[..]` → `%1 = state_update %k, %past .. : f16[..]; %2 = cast %1 to=f32`
//!
//! Of 8 bits, a token of one head has a scale, which is a state beside the cache: the scale is `max |k| / 127`,
//! and what is written `round(k / scale)`.
//! `%1 = state_update %k, %past ..` → `%1 = state_update %rounded, %past .. : i8[..];
//! %2 = state_update %scale, %past .. : f32[..,1]; %3 = mul (cast %1 to=f32), %2`
//!
//! This changes what a model computes, so that it is no pass of the pipeline: it is done to the graph, if
//! it is asked for, before all passes. These take the conversion into `attention`, which reads the cache as
//! it lies.

use std::collections::BTreeMap;

use castiron_ir::op::{BinaryOp, Op, ReduceKind, StateUpdate, UnaryOp};
use castiron_ir::{BuildError, DType, Entry, Module, Node, OpDef, Region, State, Type, Value};

use crate::PassError;
use crate::chains::Chains;
use crate::cluster::is_view;
use crate::rewrite::{Rewriter, each_region, rebuild};

/// What the elements of KV caches are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheFormat {
    /// f32.
    #[default]
    F32,
    /// f16.
    F16,
    /// i8, with an f32 scale for each token of a head.
    Q8,
}

impl CacheFormat {
    fn dtype(self) -> DType {
        match self {
            CacheFormat::F32 => DType::F32,
            CacheFormat::F16 => DType::F16,
            CacheFormat::Q8 => DType::I8,
        }
    }
}

/// Largest number of a cache of 8 bits.
const LARGEST: f64 = 127.0;
/// Least maximum of a row, so that one of zeros has a scale to be divided by.
const LEAST: f64 = 1e-30;

/// Gives every KV cache of f32 another format: every state that is appended to and then read by
/// nothing but attention, as fused op or as products. Other states stay what they are.
///
/// # Errors
/// An op that does not take the new types, which is a fault of this function.
pub fn narrow(module: &mut Module, to: CacheFormat) -> Result<(), PassError> {
    if to == CacheFormat::F32 {
        return Ok(());
    }
    let mut states = BTreeMap::new();
    module.entries.iter().for_each(|entry| note_uses(&entry.body, &mut states));
    let is_cache = |state: &str| states.get(state) == Some(&true);
    for entry in &mut module.entries {
        let rule = |rewriter: &Rewriter<'_>, node: &Node| narrowed(rewriter, node, to, &is_cache);
        entry.body = each_region(&entry.body, &|_| true, &|region: &Region| rebuild(region, rule)).map_err(
            |source: BuildError| PassError::Build { pass: "narrow caches", entry: entry.name.clone(), source },
        )?;
        declare(entry, to, &is_cache);
    }
    Ok(())
}

/// Declares the caches of an entry as they are now.
fn declare(entry: &mut Entry, to: CacheFormat, is_cache: &dyn Fn(&str) -> bool) {
    let mut scales = Vec::new();
    for state in entry.states.iter_mut().filter(|state| is_cache(&state.name)) {
        if to == CacheFormat::Q8 {
            scales.push(State { name: scale_of(&state.name), ty: one_a_row(&state.ty), ..state.clone() });
        }
        state.ty.dtype = to.dtype();
    }
    entry.states.extend(scales);
}

/// Name of the state that holds the scales of a cache.
fn scale_of(state: &str) -> String {
    format!("{state}_scale")
}

/// Type of one number for each row of a tensor.
fn one_a_row(ty: &Type) -> Type {
    let mut shape = ty.shape.clone();
    shape[ty.rank() - 1] = 1.into();
    ty.with_shape(shape)
}

/// Notes of every state that a region uses whether all uses are those of a cache.
fn note_uses(region: &Region, states: &mut BTreeMap<String, bool>) {
    let chains = Chains::new(region);
    for node in &region.nodes {
        let (state, is_cache) = match &node.op {
            Op::StateUpdate(update) => {
                let has_rows = update.ty.dtype == DType::F32 && update.axis + 1 < update.ty.rank();
                (&update.state, has_rows && is_attended_to(&chains, node))
            }
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
fn narrowed(
    rewriter: &Rewriter<'_>,
    node: &Node,
    to: CacheFormat,
    is_cache: &dyn Fn(&str) -> bool,
) -> Option<Vec<Value>> {
    let Op::StateUpdate(update) = &node.op else { return None };
    if !is_cache(&update.state) {
        return None;
    }
    let (rows, position) = (rewriter.get(node.operands[0]), rewriter.get(node.operands[1]));
    let narrow = StateUpdate { ty: update.ty.with_dtype(to.dtype()), ..update.clone() };
    if to != CacheFormat::Q8 {
        return Some(vec![rows.apply(narrow, &[&position]).cast(DType::F32)]);
    }
    let largest = rows.unary(UnaryOp::Abs).reduce(ReduceKind::Max, &[rows.rank() - 1]);
    let scale = largest.binary(BinaryOp::Max, &largest.constant(LEAST)) * (1.0 / LARGEST);
    let whole = (&rows / &scale).unary(UnaryOp::Round).cast(to.dtype());
    let scales = StateUpdate { state: scale_of(&update.state), ty: one_a_row(&update.ty), ..update.clone() };
    let (cache, scales) = (whole.apply(narrow, &[&position]), scale.apply(scales, &[&position]));
    Some(vec![cache.cast(DType::F32) * scales])
}
