//! A learned bias of scores for each distance (T5, arXiv:1910.10683), shared by all layers.

use castiron_ir::op::{BinaryOp, Constant};
use castiron_ir::{Dim, Type, Value};

use super::distances::Distances;
use super::{ModelBuilder, Size};

/// A table with a number for each head and each class of distances.
#[derive(Clone, Debug)]
pub struct RelativeBias {
    /// Name of the table, with its `weight`, relative to the model's scope.
    pub table: &'static str,
    /// Rows of the table.
    pub rows: Size,
    /// Heads, each with keys of its own.
    pub heads: Size,
    /// The row of each distance.
    pub distances: Distances,
}

impl ModelBuilder<'_> {
    /// The bias of a whole sequence, `[1, heads, 1, s, s]`.
    pub(super) fn relative_bias(&self, bias: &RelativeBias) -> Value {
        let furthest = (bias.distances.len() / 2) as f64;
        let rows = bias.distances.iter().map(|&row| row as f64).collect();
        let rows = self.builder.apply(Constant { values: rows, ty: Type::i32([bias.distances.len()]) }, &[]);
        let table = self.param(&format!("{}.weight", bias.table), &[&bias.rows, &bias.heads]).gather(0, &rows);
        let s = Dim::symbol("s");
        let [query, key] = [vec![s.clone(), Dim::from(1)], vec![s.clone()]].map(|shape| self.builder.iota(shape, 0));
        let distance = query - key;
        let low = distance.binary(BinaryOp::Max, &distance.constant(-furthest));
        let near = low.binary(BinaryOp::Min, &low.constant(furthest));
        let scores = table.gather(0, &(near + furthest)).transpose(&[2, 0, 1]);
        scores.reshape([Dim::from(1), bias.heads.value().into(), Dim::from(1), s.clone(), s])
    }
}
