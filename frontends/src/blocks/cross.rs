//! Cross-attention: queries of the decoder, keys and values of what the encoder has read.
//!
//! A whole pass computes keys and values of the encoder's vectors. A model that decodes step by step
//! computes them once, in the entry `encode`, and keeps them as state.

use castiron_ir::{Dim, Type, Value};

use super::attention::Visible;
use super::{Attention, ModelBuilder, Projections, Source};

/// Names of the states that hold a layer's keys and values, `[b, g, e, d]`.
const KEPT: [&str; 2] = ["source_key", "source_value"];

impl ModelBuilder<'_> {
    /// Cross-attention to the context's source.
    pub fn cross_attention(&self, name: &str, x: &Value, attention: &Attention) -> Value {
        let Some(source) = &self.context.source else {
            self.builder.fail("cross_attention", "the pass has no source");
            return x.clone();
        };
        let m = self.scope(name);
        let width = &attention.heads * &attention.head_dim;
        let (g, d) = (attention.kv_heads.value(), attention.head_dim.value());
        let r = attention.heads.value() / g;
        let q = m.linear(m.names_of(attention)[0], x, [&attention.width, &width], attention.linear);
        let q = q.reshape([x.dim(0), x.dim(1), g.into(), r.into(), d.into()]);
        let [k, v] = match &source.vectors {
            Some(vectors) => m.source_heads(vectors, attention),
            None => KEPT.map(|name| m.kept_in_layer(name, kept_type(source, attention))),
        };
        let visible = Visible { mask: Some(&source.mask), ..Visible::default() };
        m.output(&m.attend([&q, &k, &v], visible, attention), attention)
    }

    /// Computes what a cross-attention needs of the encoder's vectors `[b, e, n]`, and keeps it.
    pub fn keep_source(&self, name: &str, vectors: &Value, attention: &Attention) {
        let heads = self.scope(name).source_heads(vectors, attention);
        KEPT.iter().zip(&heads).for_each(|(name, heads)| self.keep_in_layer(name, heads));
    }

    /// Keys and values `[b, g, e, d]` of the encoder's vectors.
    fn source_heads(&self, vectors: &Value, attention: &Attention) -> [Value; 2] {
        let width = &attention.kv_heads * &attention.head_dim;
        let (g, d) = (attention.kv_heads.value(), attention.head_dim.value());
        let [_, k, v] = self.names_of(attention);
        [k, v].map(|name| {
            let heads = self.linear(name, vectors, [&attention.width, &width], attention.linear);
            heads.reshape([vectors.dim(0), vectors.dim(1), g.into(), d.into()]).transpose(&[0, 2, 1, 3])
        })
    }

    /// Names of the layers that give queries, keys and values, of which only the first sees the decoder.
    fn names_of(&self, attention: &Attention) -> [&'static str; 3] {
        match attention.projections {
            Projections::Separate(names) => names,
            Projections::Gated([name, ..])
            | Projections::Joint(name)
            | Projections::Grouped(name)
            | Projections::GroupedWithBiases(name, _) => {
                self.builder.fail("cross_attention", "its projections are not separate");
                [name; 3]
            }
        }
    }
}

/// Type of a layer's keys, or values.
fn kept_type(source: &Source, attention: &Attention) -> Type {
    let [b, e] = [source.mask.dim(0), source.mask.dim(1)];
    let [g, d] = [&attention.kv_heads, &attention.head_dim].map(|size| Dim::from(size.value()));
    Type::f32([b, g, e, d])
}
