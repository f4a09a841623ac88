//! Biases of scores by relative position, in buckets that widen with the distance (T5, arXiv:1910.10683).

use castiron_ir::op::{BinaryOp, Constant};
use castiron_ir::{DType, Dim, Type, Value};

use super::{ModelBuilder, Size, Tokens};

/// How far a table reaches at most, so that no config makes it larger than memory.
pub const FARTHEST: usize = 1 << 16;

/// A bias for each head and each bucket of distances: tensor `weight: [buckets, heads]`.
#[derive(Clone, Debug, PartialEq)]
pub struct RelativeBias {
    /// Number of heads.
    pub heads: Size,
    /// Rows of the table.
    pub rows: Size,
    /// How many of them are buckets; where keys may follow their queries, half of these are for those that do.
    pub buckets: usize,
    /// From this distance on there is one bucket; at most [`FARTHEST`].
    pub max_distance: usize,
    /// Whether keys may follow their queries.
    pub bidirectional: bool,
}

impl RelativeBias {
    /// Buckets of one direction.
    fn one_sided(&self) -> usize {
        self.buckets / if self.bidirectional { 2 } else { 1 }
    }

    /// Whether there are buckets for single distances, and some beyond these.
    pub fn is_valid(&self) -> bool {
        let exact = self.one_sided() / 2;
        exact > 0 && (exact + 1..=FARTHEST).contains(&self.max_distance)
    }

    /// Bucket of a distance in one direction: the first half one distance each, the others on a logarithmic
    /// scale, which is rounded as torch rounds it.
    fn bucket(&self, distance: usize) -> usize {
        let (count, exact) = (self.one_sided(), self.one_sided() / 2);
        if distance < exact {
            return distance;
        }
        let ratio = f64::from(distance as f32 / exact as f32).ln() as f32;
        let whole = (self.max_distance as f64 / exact as f64).ln() as f32;
        (exact + (ratio / whole * (count - exact) as f32) as usize).min(count - 1)
    }

    /// The buckets of one direction, from distance 0 up to the first that has the last bucket.
    fn near(&self) -> Vec<usize> {
        let last = self.one_sided() - 1;
        let mut near: Vec<usize> = (0..=self.max_distance).map(|n| self.bucket(n)).take_while(|&b| b < last).collect();
        near.push(last);
        near
    }

    /// Buckets in the order of [`ModelBuilder::distances`].
    fn in_order(&self) -> Vec<usize> {
        let near = self.near();
        if !self.bidirectional {
            return near;
        }
        let after = near.iter().skip(1).map(|bucket| bucket + self.one_sided());
        near.iter().rev().copied().chain(after).collect()
    }
}

impl ModelBuilder<'_> {
    /// Rows of the table of biases, as far as it reaches, for queries of a pass: `i32[1,s,t]`, or `[b,s,t]` where
    /// positions differ from row to row. Without cache, keys stand where queries do.
    pub(super) fn distances(&self, bias: &RelativeBias, tokens: &Tokens) -> Value {
        let keys = if self.context.past.is_some() { Dim::symbol("c") } else { tokens.ids.dim(1) };
        let queries = &tokens.positions;
        let queries = queries.reshape([queries.dim(0), queries.dim(1), Dim::from(1)]);
        let keys = self.builder.iota([keys], 0);
        let farthest = (bias.near().len() - 1) as f64;
        let (distance, least) = if bias.bidirectional { (keys - queries, -farthest) } else { (queries - keys, 0.0) };
        let at_least = distance.binary(BinaryOp::Max, &distance.constant(least));
        at_least.binary(BinaryOp::Min, &distance.constant(farthest)) - least
    }

    /// Biases for the distances of the context, `[b,h,1,s,t]` or `[1,h,1,s,t]`; `name` is the table's scope. What
    /// the table holds for each distance is laid out when the model is compiled.
    pub(super) fn relative_bias(&self, name: &str, bias: &RelativeBias) -> Value {
        let table = self.scope(name).param("weight", &[&bias.rows, &bias.heads]);
        let Some(distances) = &self.context.relative else {
            self.builder.fail("relative_bias", "the pass has no distances");
            return table;
        };
        let buckets: Vec<f64> = bias.in_order().iter().map(|&bucket| bucket as f64).collect();
        let ty = Type::new(DType::I32, [buckets.len()]);
        let table = table.gather(0, &self.builder.apply(Constant { values: buckets, ty }, &[]));
        let by_head = table.gather(0, distances).transpose(&[0, 3, 1, 2]);
        let [b, h, s, t] = [0, 1, 2, 3].map(|axis| by_head.dim(axis));
        by_head.reshape([b, h, Dim::from(1), s, t])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bias(buckets: usize, max_distance: usize, bidirectional: bool) -> RelativeBias {
        let size = |n| Size::new(n, "");
        RelativeBias { heads: size(1), rows: size(buckets), buckets, max_distance, bidirectional }
    }

    #[test]
    fn buckets_are_those_of_t5() {
        let causal = bias(8, 20, false);
        assert_eq!(causal.in_order(), [0, 1, 2, 3, 4, 4, 5, 5, 5, 6, 6, 6, 6, 6, 7]);
        let both = bias(8, 9, true);
        assert_eq!(both.in_order(), [3, 2, 2, 2, 1, 0, 5, 6, 6, 6, 7]);
    }

    #[test]
    fn buckets_need_room_for_single_distances_and_for_others() {
        assert!(bias(2, 2, false).is_valid() && bias(4, 2, true).is_valid());
        assert!(!bias(1, 128, false).is_valid() && !bias(3, 128, true).is_valid());
        assert!(!bias(32, 16, false).is_valid() && !bias(32, FARTHEST + 1, false).is_valid());
    }
}
