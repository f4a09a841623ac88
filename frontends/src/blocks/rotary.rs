//! Rotary positions (RoFormer, arXiv:2104.09864): frequencies at build time, angles in the graph.

use castiron_ir::op::BinaryOp;
use castiron_ir::op::UnaryOp::{Cos, Sin};
use castiron_ir::{DType, Dim, Value};

use super::{ModelBuilder, Tokens};

/// How positions turn into rotations of channel pairs.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotary {
    /// Radians per position of each pair, rounded as torch rounds them.
    pub frequencies: Vec<f32>,
    /// Factor of cosines and sines.
    pub scale: f64,
    /// Lowers the frequencies of sequences beyond a length.
    pub growth: Option<Growth>,
}

/// Dynamic NTK scaling: beyond `positions`, frequency `j` of `d/2` is multiplied by
/// `(factor · length / positions - (factor - 1))^(-2j/(d-2))`.
///
/// That is transformers' `base · (…)^(d/(d-2))` with the base taken out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// Growth of the context that the scaling aims at.
    pub factor: f64,
    /// Length up to which nothing changes.
    pub positions: usize,
}

/// Cosines and sines of every position's angles, `[b or 1, s, 1, 1, d/2]`: they broadcast to
/// queries `[b, s, g, r, d/2]`.
#[derive(Clone)]
pub struct RotaryTables {
    /// Cosines.
    pub cos: Value,
    /// Sines.
    pub sin: Value,
}

impl RotaryTables {
    /// The same tables with one axis less, for keys `[b, s, g, d]`.
    pub(super) fn without_group(&self) -> RotaryTables {
        let drop_axis = |table: &Value| {
            let mut shape = table.ty().shape;
            shape.remove(2);
            table.reshape(shape)
        };
        RotaryTables { cos: drop_axis(&self.cos), sin: drop_axis(&self.sin) }
    }
}

impl ModelBuilder<'_> {
    /// The same builder for layers that rotate queries and keys by the tokens' positions.
    pub fn with_rotary(&self, rotary: &Rotary, tokens: &Tokens) -> Self {
        let mut frequencies = self.builder.vector(rotary.frequencies.iter().map(|&f| f.into()).collect());
        if let Some(growth) = rotary.growth {
            frequencies = frequencies * growth.factors(rotary.frequencies.len(), &tokens.length);
        }
        let at = &tokens.positions;
        let one = || Dim::from(1);
        let angles = at.cast(DType::F32).reshape([at.dim(0), at.dim(1), one(), one(), one()]) * frequencies;
        let scaled = |table: Value| if rotary.scale == 1.0 { table } else { table * rotary.scale };
        let tables = RotaryTables { cos: scaled(angles.unary(Cos)), sin: scaled(angles.unary(Sin)) };
        self.with_context(super::Context { rotary: Some(tables), ..self.context.clone() })
    }
}

impl Growth {
    /// What each of `pairs` frequencies is multiplied by at the lengths `i32[b]`: `[b, 1, 1, 1, pairs]`.
    /// Each row goes by its own length, so that rows of a batch do not depend on one another.
    fn factors(self, pairs: usize, length: &Value) -> Value {
        let positions = self.positions as f64;
        let length = length.binary(BinaryOp::Max, &length.constant(positions)).cast(DType::F32);
        let one = || Dim::from(1);
        let length = length.reshape([length.dim(0), one(), one(), one(), one()]);
        let stretch = length * self.factor / positions - (self.factor - 1.0);
        let exponent = |j: usize| -2.0 * j as f64 / (2 * pairs - 2) as f64;
        stretch.binary(BinaryOp::Pow, &stretch.builder().vector((0..pairs).map(exponent).collect()))
    }
}
