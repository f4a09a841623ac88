//! Canonical forms: of the many ways to write the same thing, one, and without ops that do nothing.
//!
//! `%1 = mul 1, %x; %2 = reshape (reshape %1)` → `%2 = reshape %x`
//!
//! The rules here are local and change no value beyond the rounding of one operation. Every pass
//! after this one can rely on the forms, and fused ops are recognised by their definitions brought
//! into the same forms.

mod arithmetic;
mod constant;
mod fused;
mod movement;

use castiron_ir::op::{Constant, Op};
use castiron_ir::{BuildError, Builder, OpDef, Region, Type, Value};

use crate::chains::Chains;
use crate::rewrite::rebuild;

/// An op with operands that are canonical already.
struct Site {
    builder: Builder,
    op: Op,
    operands: Vec<Value>,
    /// Type of the result.
    ty: Type,
    /// Whether another node uses the first operand too.
    shared: bool,
}

/// Gives another value for an op's result, if its equation applies.
type Rule = fn(&Site) -> Option<Value>;

/// How often rules are applied to the value that a rule gave.
const REPEATS: usize = 16;

/// Brings a region into canonical form.
///
/// # Errors
/// As [`rebuild`].
pub fn run(region: &Region) -> Result<Region, BuildError> {
    let chains = Chains::new(region);
    rebuild(region, |rewriter, node| {
        let [result] = node.results[..] else { return None };
        let shared = node.operands.first().is_some_and(|&o| chains.only_user(o).is_none());
        let operands = rewriter.get_all(&node.operands);
        let builder = rewriter.new.clone();
        let ty = region.type_of(result).clone();
        let mut value = Site { builder: builder.clone(), op: node.op.clone(), operands, ty, shared }.simplify()?;
        for _ in 0..REPEATS {
            let Some((op, operands)) = value.producer() else { break };
            let site = Site { builder: builder.clone(), op, operands, ty: value.ty(), shared: true };
            match site.simplify() {
                Some(next) => value = next,
                None => break,
            }
        }
        Some(vec![value])
    })
}

impl Site {
    fn simplify(&self) -> Option<Value> {
        if self.op.region().is_some() {
            return None;
        }
        constant::ANY.iter().chain(self.rules()).find_map(|rule| rule(self))
    }

    fn rules(&self) -> &'static [Rule] {
        match self.op {
            Op::Reshape(_) => movement::RESHAPE,
            Op::Transpose(_) => movement::TRANSPOSE,
            Op::Broadcast(_) => movement::BROADCAST,
            Op::Slice(_) => movement::SLICE,
            Op::Concat(_) => movement::CONCAT,
            Op::Pad(_) => movement::PAD,
            Op::Reduce(_) => movement::REDUCE,
            Op::Unary(_) => arithmetic::UNARY,
            Op::Binary(_) => arithmetic::BINARY,
            Op::Select(_) => arithmetic::SELECT,
            Op::Cast(_) => arithmetic::CAST,
            Op::Attention(_) => fused::ATTENTION,
            Op::Iota(_) | Op::Extent(_) => constant::LEAF,
            _ => &[],
        }
    }

    /// A constant of the result's type.
    fn constant(&self, values: Vec<f64>) -> Value {
        self.builder.apply(Constant { values, ty: self.ty.clone() }, &[])
    }

    /// The operand as the result, if it has the result's type.
    fn keep(&self, operand: usize) -> Option<Value> {
        let value = &self.operands[operand];
        (value.ty() == self.ty).then(|| value.clone())
    }
}

/// The value of every element, if that is known.
fn splat(value: &Value) -> Option<f64> {
    match value.producer()? {
        (Op::Constant(c), _) => c.splat(),
        _ => None,
    }
}
