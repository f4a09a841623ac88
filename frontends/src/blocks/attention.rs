//! Self-attention with its projections, cache and positions.

use castiron_ir::Value;
use castiron_ir::op::{self, Rope};

use super::{LinearKind, ModelBuilder, Size};

/// Names of the layers that give queries, keys and values.
#[derive(Clone, Copy, Debug)]
pub enum Projections {
    /// One layer for each.
    Separate([&'static str; 3]),
    /// One layer that gives queries, keys and values side by side.
    Joint(&'static str),
}

/// Self-attention over grouped heads (arXiv:2305.13245): `heads` query heads share `kv_heads` key and
/// value heads.
#[derive(Clone, Debug)]
pub struct Attention {
    /// Width of the input and the output.
    pub width: Size,
    /// Number of query heads.
    pub heads: Size,
    /// Number of key and value heads; divides `heads`.
    pub kv_heads: Size,
    /// Width of a head.
    pub head_dim: Size,
    /// Names of the projections.
    pub projections: Projections,
    /// Kind of the projections.
    pub linear: LinearKind,
    /// Name and kind of the layer after the heads.
    pub output: (&'static str, LinearKind),
    /// Factor of the scores.
    pub scale: f64,
    /// Whether the scores of layer `i`, counted from 1, are divided by `i`.
    pub divide_by_layer: bool,
    /// Whether a token sees only itself and what stands before it.
    pub causal: bool,
}

impl ModelBuilder<'_> {
    /// Self-attention. Takes mask, cache position and rotation angles from the context.
    pub fn attention(&self, name: &str, x: &Value, attention: &Attention) -> Value {
        let m = &self.scope(name);
        let (b, s) = (x.dim(0), x.dim(1));
        let (g, d) = (attention.kv_heads.value(), attention.head_dim.value());
        let r = attention.heads.value() / g;
        let [q, k, v] = m.projections(x, attention);
        let mut q = q.reshape([b.clone(), s.clone(), g.into(), r.into(), d.into()]);
        let mut k = k.reshape([b.clone(), s.clone(), g.into(), d.into()]);
        let v = v.reshape([b.clone(), s.clone(), g.into(), d.into()]);
        if let Some(angles) = &m.context.rotary {
            let of_keys = angles.without_group();
            q = m.expand("rope", &Rope {}, &[&q, &angles.cos, &angles.sin]);
            k = m.expand("rope", &Rope {}, &[&k, &of_keys.cos, &of_keys.sin]);
        }
        if attention.divide_by_layer {
            q = q / m.layer_number();
        }
        let q = q.transpose(&[0, 2, 3, 1, 4]);
        let [mut k, mut v] = [k, v].map(|t| t.transpose(&[0, 2, 1, 3]));
        if let Some(past) = &m.context.past {
            k = m.cached("key", 2, &k, past);
            v = m.cached("value", 2, &v, past);
        }
        let op = op::Attention {
            scale: attention.scale,
            soft_cap: None,
            causal: attention.causal,
            window: None,
            past: m.context.past.is_some(),
            mask: m.context.mask.is_some(),
            bias: false,
        };
        let operands: Vec<&Value> = [&q, &k, &v].into_iter().chain(&m.context.past).chain(&m.context.mask).collect();
        let mixed =
            m.expand("attention", &op, &operands).transpose(&[0, 3, 1, 2, 4]).reshape([b, s, (g * r * d).into()]);
        let inner = &attention.heads * &attention.head_dim;
        let (name, linear) = attention.output;
        m.linear(name, &mixed, &linear(&inner, &attention.width))
    }

    /// Queries `[b, s, heads·d]`, keys and values `[b, s, kv_heads·d]`.
    fn projections(&self, x: &Value, attention: &Attention) -> [Value; 3] {
        let queries = &attention.heads * &attention.head_dim;
        let keys = &attention.kv_heads * &attention.head_dim;
        let layer = |name, width: &Size| self.linear(name, x, &(attention.linear)(&attention.width, width));
        match attention.projections {
            Projections::Separate([q, k, v]) => [layer(q, &queries), layer(k, &keys), layer(v, &keys)],
            Projections::Joint(name) => {
                let (q, k) = (queries.value(), keys.value());
                let joint = layer(name, &(&queries + &(&keys * 2)));
                [(0, q), (q, q + k), (q + k, q + 2 * k)].map(|(start, end)| joint.slice(2, start, end))
            }
        }
    }
}
