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
    /// Changes the frequencies of sequences beyond a length.
    pub growth: Option<Growth>,
    /// Whether channels `2i` and `2i + 1` are a pair, rather than `i` and `i + d/2`.
    pub interleaved: bool,
}

/// How frequencies depend on the length of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Growth {
    /// They sink beyond a length.
    Dynamic(DynamicNtk),
    /// Others hold for rows longer than a length (LongRoPE, arXiv:2402.13753).
    Long {
        /// The longest row of the ordinary frequencies.
        beyond: usize,
        /// Radians per position of each pair, for longer rows.
        frequencies: Vec<f32>,
    },
}

/// Dynamic NTK scaling: beyond `positions`, frequency `j` of `d/2` is multiplied by
/// `(factor · length / positions - (factor - 1))^(-2j/(d-2))`.
///
/// That is transformers' `base · (…)^(d/(d-2))` with the base taken out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DynamicNtk {
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
    /// Whether neighbours among the channels are pairs.
    pub interleaved: bool,
}

impl RotaryTables {
    /// The same tables with one axis less, for keys `[b, s, g, d]`.
    pub(super) fn without_group(&self) -> RotaryTables {
        let drop_axis = |table: &Value| {
            let mut shape = table.ty().shape;
            shape.remove(2);
            table.reshape(shape)
        };
        RotaryTables { cos: drop_axis(&self.cos), sin: drop_axis(&self.sin), ..*self }
    }
}

impl ModelBuilder<'_> {
    /// The same builder for layers that rotate queries and keys by the tokens' positions.
    pub fn with_rotary(&self, rotary: &[Rotary], tokens: &Tokens) -> Self {
        let tables = rotary.iter().map(|r| self.rotary_tables(r, tokens)).collect();
        self.with_context(super::Context { rotary: tables, ..self.context.clone() })
    }

    fn rotary_tables(&self, rotary: &Rotary, tokens: &Tokens) -> RotaryTables {
        let vector = |frequencies: &[f32]| self.builder.vector(frequencies.iter().map(|&f| f.into()).collect());
        let mut frequencies = vector(&rotary.frequencies);
        match &rotary.growth {
            None => {}
            Some(Growth::Dynamic(growth)) => {
                frequencies = frequencies * growth.factors(rotary.frequencies.len(), &tokens.length);
            }
            Some(Growth::Long { beyond, frequencies: long }) => {
                let length = each_row(&tokens.length);
                let is_long = length.binary(BinaryOp::Gt, &length.constant(*beyond as f64));
                frequencies = is_long.select(&vector(long), &frequencies);
            }
        }
        let at = &tokens.positions;
        let one = || Dim::from(1);
        let angles = at.cast(DType::F32).reshape([at.dim(0), at.dim(1), one(), one(), one()]) * frequencies;
        let scaled = |table: Value| if rotary.scale == 1.0 { table } else { table * rotary.scale };
        RotaryTables { cos: scaled(angles.unary(Cos)), sin: scaled(angles.unary(Sin)), interleaved: rotary.interleaved }
    }
}

/// `[b]` as `[b, 1, 1, 1, 1]`.
fn each_row(x: &Value) -> Value {
    let one = || Dim::from(1);
    x.reshape([x.dim(0), one(), one(), one(), one()])
}

impl DynamicNtk {
    /// What each of `pairs` frequencies is multiplied by at the lengths `i32[b]`: `[b, 1, 1, 1, pairs]`.
    /// Each row goes by its own length, so that rows of a batch do not depend on one another.
    fn factors(self, pairs: usize, length: &Value) -> Value {
        let positions = self.positions as f64;
        let length = each_row(&length.binary(BinaryOp::Max, &length.constant(positions)).cast(DType::F32));
        let stretch = length * self.factor / positions - (self.factor - 1.0);
        let exponent = |j: usize| -2.0 * j as f64 / (2 * pairs - 2) as f64;
        stretch.binary(BinaryOp::Pow, &stretch.builder().vector((0..pairs).map(exponent).collect()))
    }
}
