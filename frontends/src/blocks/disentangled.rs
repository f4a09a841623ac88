//! Disentangled attention (DeBERTa, arXiv:2006.03654): scores between contents and relative positions.

use castiron_ir::op::{BinaryOp, Constant, Dot, Extent};
use castiron_ir::{DType, Dim, Type, Value};

use super::distances::Distances;
use super::{Attention, LinearKind, ModelBuilder, NamedNorm, Size};

/// A table of relative positions, which layers turn into keys and queries of their own.
#[derive(Clone, Debug, PartialEq)]
pub struct Disentangled {
    /// Scope of the table and its norm.
    pub scope: String,
    /// Name of the table, with its `weight`.
    pub table: &'static str,
    /// Rows of the table.
    pub rows: Size,
    /// Norm of the rows.
    pub norm: Option<NamedNorm>,
    /// The layer that makes keys of positions, which queries of contents meet.
    pub keys: Option<(&'static str, LinearKind)>,
    /// The layer that makes queries of positions, which keys of contents meet.
    pub queries: Option<(&'static str, LinearKind)>,
}

impl ModelBuilder<'_> {
    /// Rows of the table of relative positions, `i32[2s]` each: for keys `s, …, 1 - s` places before a query,
    /// and for those `s, …, 1 - s` places after it.
    pub(super) fn rows_of_distances(&self, distances: &Distances) -> [Value; 2] {
        let furthest = (distances.len() / 2) as f64;
        let values: Vec<f64> = distances.iter().map(|&row| row as f64).collect();
        let rows = self.builder.apply(Constant { ty: Type::f32([values.len()]), values }, &[]);
        let s = Dim::symbol("s");
        let place = self.builder.iota([s.clone() * Dim::from(2)], 0);
        let first = self.builder.apply(Extent { of: s }, &[]);
        [&first - &place, &place - &first].map(|distance| {
            let low = distance.binary(BinaryOp::Max, &distance.constant(-furthest));
            let near = low.binary(BinaryOp::Min, &low.constant(furthest));
            rows.gather(0, &(near + furthest)).cast(DType::I32)
        })
    }

    /// What relative positions add to the scores, `[b, g, 1, s, t]`, of queries `[b, s, g, 1, d]` and keys
    /// `[b, s, g, d]`.
    pub(super) fn position_scores(
        &self,
        [q, k]: [&Value; 2],
        attention: &Attention,
        positions: &Disentangled,
    ) -> Option<Value> {
        let Some([before, after]) = &self.context.distances else {
            self.builder.fail("attention", "there are no distances");
            return None;
        };
        let scope = self.root().scope(&positions.scope);
        let table = scope.param(&format!("{}.weight", positions.table), &[&positions.rows, &attention.width]);
        let table = positions.norm.iter().fold(table, |table, (name, norm)| scope.norm(name, &table, norm));
        let inner = &attention.heads * &attention.head_dim;
        // A row of contents meets the positions from the furthest to the nearest; what stands one place on
        // meets them one place earlier.
        let scores = |x: &Value, rows: &Value, &(name, kind): &(&'static str, LinearKind)| {
            let [heads, dim] = [&attention.heads, &attention.head_dim].map(|size| Dim::from(size.value()));
            let x = x.reshape([x.dim(0), x.dim(1), heads.clone(), dim.clone()]);
            let places = self.linear(name, &table, [&attention.width, &inner], kind).gather(0, rows);
            let places = places.reshape([places.dim(0), heads, dim]);
            skewed(&x.apply(Dot { batch: vec![(2, 1)], contract: vec![(3, 2)] }, &[&places]))
        };
        let of_queries = positions.keys.iter().map(|keys| scores(q, before, keys).transpose(&[1, 0, 2, 3]));
        let of_keys = positions.queries.iter().map(|queries| scores(k, after, queries).transpose(&[1, 0, 3, 2]));
        let sum = of_queries.chain(of_keys).reduce(|a, b| a + b)?;
        let [b, g, s, t] = [0, 1, 2, 3].map(|axis| sum.dim(axis));
        Some((sum * attention.scale).reshape([b, g, Dim::from(1), s, t]))
    }
}

/// `[.., s, 2s]` → `[.., s, s]`: element `(i, j)` is element `(i, s + j - i)`.
///
/// Read as rows of `2s - 1` from element `s` on, each row starts one place earlier in its own: nothing is moved.
fn skewed(x: &Value) -> Value {
    let (b, g, s, two) = (x.dim(0), x.dim(1), x.dim(2), x.dim(3));
    let all = s.clone() * two.clone();
    let flat = x.reshape([b.clone(), g.clone(), all.clone()]).slice(2, s.clone(), all);
    flat.reshape([b, g, s.clone(), two - Dim::from(1)]).slice(3, 0, s)
}
