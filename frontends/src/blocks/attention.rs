//! Attention with its projections, cache and positions.

use castiron_ir::Value;
use castiron_ir::op::{self, Rope};

use super::{Disentangled, Latent, LinearKind, ModelBuilder, Norm, RelativeBias, RotaryTables, Size};

/// Names of the layers that give queries, keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Projections {
    /// One layer for each.
    Separate([&'static str; 3]),
    /// One layer for each, the first of which gives a gate behind each head's query: what the head mixes is
    /// multiplied by the gate's logistic function.
    Gated([&'static str; 3]),
    /// One layer that gives all queries, then all keys, then all values.
    Joint(&'static str),
    /// One layer that gives, for each key head, the queries that share it, its key and its value.
    Grouped(&'static str),
    /// The same without a bias, and tensors that are added to all queries and to all values.
    GroupedWithBiases(&'static str, [&'static str; 2]),
}

/// Norms of queries and keys, before they are rotated.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadNorms {
    /// Names for queries and keys.
    pub names: [&'static str; 2],
    /// The norm; its width is that of a head, or of all heads where [`HeadNormScope::AllHeads`] says so.
    pub norm: Norm,
    /// What is normalised at once, and with which weights.
    pub scope: HeadNormScope,
}

/// What a norm of queries or keys goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadNormScope {
    /// Each head alone, all with the same weights.
    EachHead,
    /// Each head alone, each with a row of weights of its own: `weight: [heads, d]`.
    OwnWeights,
    /// Each head alone, the weights of head `j` stored as `norms.{j}.weight`.
    OwnTensors,
    /// All heads together: `weight: [heads·d]`.
    AllHeads,
}

/// Self-attention over grouped heads (arXiv:2305.13245): `heads` query heads share `kv_heads` key and
/// value heads.
#[derive(Clone, Debug, PartialEq)]
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
    /// Norms of queries and keys.
    pub norms: Option<HeadNorms>,
    /// Which of the model's rotary tables turns queries and keys.
    pub rotary: Option<usize>,
    /// Factor of the scores.
    pub scale: f64,
    /// Whether the scores of layer `i`, counted from 1, are divided by `i`.
    pub divide_by_layer: bool,
    /// Scores become `cap · tanh(score / cap)`.
    pub soft_cap: Option<f64>,
    /// Whether a token sees only itself and what stands before it.
    pub causal: bool,
    /// How many tokens a token sees at most, itself among them; as many ahead where it sees what comes after it.
    pub window: Option<usize>,
    /// Whether each head has a score without a key: the tensor `sinks`.
    pub sinks: bool,
    /// Whether keys and values are made from one narrow vector for each token; then the projections, their norms
    /// and `head_dim` do not count.
    pub latent: Option<Box<Latent>>,
    /// Scores between contents and relative positions.
    pub disentangled: Option<Disentangled>,
    /// Name and kind of a bias by relative position that this attention has of its own.
    pub relative: Option<(&'static str, RelativeBias)>,
}

impl Attention {
    /// Heads of width `head_dim` with their own keys and values, projected by three layers without biases,
    /// scores divided by the root of the width, each token seeing itself and those before it.
    pub fn causal(width: &Size, heads: &Size, head_dim: &Size) -> Attention {
        Attention {
            width: width.clone(),
            heads: heads.clone(),
            kv_heads: heads.clone(),
            head_dim: head_dim.clone(),
            projections: Projections::Separate(["q_proj", "k_proj", "v_proj"]),
            linear: LinearKind::PLAIN,
            output: ("o_proj", LinearKind::PLAIN),
            norms: None,
            rotary: None,
            scale: 1.0 / (head_dim.value() as f64).sqrt(),
            divide_by_layer: false,
            soft_cap: None,
            causal: true,
            window: None,
            sinks: false,
            latent: None,
            disentangled: None,
            relative: None,
        }
    }
}

impl ModelBuilder<'_> {
    /// Self-attention. Takes mask, cache position, rotation angles and bias of scores from the context.
    pub fn attention(&self, name: &str, x: &Value, attention: &Attention) -> Value {
        let m = &self.scope(name);
        if let Some(latent) = &attention.latent {
            return m.latent_attention(x, attention, latent);
        }
        let ([q, k, v], gate) = m.projections(x, attention);
        let [mut q, k] = m.rotated(m.normalised_heads([q, k], attention), attention);
        if attention.divide_by_layer {
            q = q / m.layer_number();
        }
        let mixed = m.mixed_heads([&q, &k, &v], attention);
        m.output(&gate.iter().fold(mixed, |mixed, gate| mixed * gate.sigmoid()), attention)
    }

    /// The rotary table of that number; without one the entry fails.
    pub(super) fn angles(&self, table: usize) -> Option<&RotaryTables> {
        let angles = self.context.rotary.get(table);
        if angles.is_none() {
            self.builder.fail("attention", format!("there is no rotary table {table}"));
        }
        angles
    }

    /// Queries `[b, s, g, r, d]` and keys `[b, s, g, d]` turned by their positions.
    pub(super) fn rotated(&self, [q, k]: [Value; 2], attention: &Attention) -> [Value; 2] {
        let Some(table) = attention.rotary else { return [q, k] };
        let Some(angles) = self.angles(table) else { return [q, k] };
        let of_keys = angles.without_group();
        let rope = Rope { interleaved: angles.interleaved };
        let q = self.expand("rope", &rope, &[&q, &angles.cos, &angles.sin]);
        [q, self.expand("rope", &rope, &[&k, &of_keys.cos, &of_keys.sin])]
    }

    /// Queries `[b, s, g, r, d]`, keys and values `[b, s, g, d]`, for `g` key heads with `r` queries each; and the
    /// gates of what the heads mix, like queries, if there are any.
    pub(super) fn projections(&self, x: &Value, attention: &Attention) -> ([Value; 3], Option<Value>) {
        let queries = &attention.heads * &attention.head_dim;
        let keys = &attention.kv_heads * &attention.head_dim;
        let (g, d) = (attention.kv_heads.value(), attention.head_dim.value());
        let r = attention.heads.value() / g;
        let of_queries = |t: Value| t.reshape([x.dim(0), x.dim(1), g.into(), r.into(), d.into()]);
        let of_keys = |t: Value| t.reshape([x.dim(0), x.dim(1), g.into(), d.into()]);
        let layer = |name, width: &Size| self.linear(name, x, [&attention.width, width], attention.linear);
        let all = &queries + &(&keys * 2);
        let grouped = |name: &str, kind: LinearKind| {
            let groups = [x.dim(0), x.dim(1), g.into(), (r + 2).into(), d.into()];
            let joint = self.linear(name, x, [&attention.width, &all], kind).reshape(groups);
            let part = |start, end| joint.slice(3, start, end);
            [part(0, r), of_keys(part(r, r + 1)), of_keys(part(r + 1, r + 2))]
        };
        let heads = match attention.projections {
            Projections::Separate([q, k, v]) => {
                [of_queries(layer(q, &queries)), of_keys(layer(k, &keys)), of_keys(layer(v, &keys))]
            }
            Projections::Gated([q, k, v]) => {
                let pairs = [x.dim(0), x.dim(1), g.into(), r.into(), (2 * d).into()];
                let both = layer(q, &(&queries * 2)).reshape(pairs);
                let heads = [both.slice(4, 0, d), of_keys(layer(k, &keys)), of_keys(layer(v, &keys))];
                return (heads, Some(both.slice(4, d, 2 * d)));
            }
            Projections::Joint(name) => {
                let (q, k, joint) = (queries.value(), keys.value(), layer(name, &all));
                let part = |start, end| joint.slice(2, start, end);
                [of_queries(part(0, q)), of_keys(part(q, q + k)), of_keys(part(q + k, q + 2 * k))]
            }
            Projections::Grouped(name) => grouped(name, attention.linear),
            Projections::GroupedWithBiases(name, [of_q, of_v]) => {
                let [q, k, v] = grouped(name, LinearKind::PLAIN);
                let of_q = self.param(of_q, &[&queries]).reshape([g, r, d]);
                [q + of_q, k, v + self.param(of_v, &[&keys]).reshape([g, d])]
            }
        };
        (heads, None)
    }

    fn normalised_heads(&self, heads: [Value; 2], attention: &Attention) -> [Value; 2] {
        let Some(norms) = &attention.norms else { return heads };
        let mut names = norms.names.iter();
        heads.map(|x| {
            let m = self.scope(names.next().expect("two names"));
            let shape = x.ty().shape;
            let count = if x.rank() == 5 { &attention.heads } else { &attention.kv_heads };
            let weighted = |weight: Value| m.unweighted_norm(&x, &norms.norm) * weight.reshape(shape[2..].to_vec());
            match norms.scope {
                HeadNormScope::EachHead => m.norm("", &x, &norms.norm),
                HeadNormScope::OwnWeights => weighted(m.param("weight", &[count, &attention.head_dim])),
                HeadNormScope::OwnTensors => {
                    let row = |j| m.param(&format!("norms.{j}.weight"), &[&attention.head_dim]);
                    let rows: Vec<Value> = (0..count.value()).map(row).collect();
                    weighted(m.builder.concat(0, &rows.iter().collect::<Vec<_>>()))
                }
                HeadNormScope::AllHeads => {
                    let norm = Norm { width: count * &attention.head_dim, ..norms.norm.clone() };
                    let flat = x.reshape([x.dim(0), x.dim(1), norm.width.value().into()]);
                    m.norm("", &flat, &norm).reshape(shape)
                }
            }
        })
    }

    /// What the heads `[b, s, g, r, d]`, `[b, s, g, d]`, `[b, s, g, d]` see, `[b, s, g, r, d]`.
    pub(super) fn mixed_heads(&self, [q, k, v]: [&Value; 3], attention: &Attention) -> Value {
        let context = &self.context;
        let positions = attention.disentangled.as_ref().and_then(|d| self.position_scores([q, k], attention, d));
        let [mut k, mut v] = [k, v].map(|t| t.transpose(&[0, 2, 1, 3]));
        if let Some(past) = &context.past {
            k = self.cached("key", 2, &k, past);
            v = self.cached("value", 2, &v, past);
        }
        let own = attention.relative.as_ref().map(|(name, bias)| self.relative_bias(name, bias));
        let shared = own.or_else(|| context.bias.clone());
        let bias = positions.into_iter().chain(shared).reduce(|a, b| a + b);
        let visible = Visible { past: context.past.as_ref(), mask: context.mask.as_ref(), bias: bias.as_ref() };
        self.attend([q, &k, &v], visible, attention)
    }

    /// What queries `[b, s, g, r, d]` see of keys and values `[b, g, t, d]`, in the order of the queries' axes.
    pub(super) fn attend(&self, [q, k, v]: [&Value; 3], visible: Visible<'_>, attention: &Attention) -> Value {
        let q = q.transpose(&[0, 2, 3, 1, 4]);
        let op = visible.op(attention);
        let sinks = attention.sinks.then(|| {
            let (g, r) = (q.dim(1), q.dim(2));
            self.param("sinks", &[&attention.heads]).reshape([1.into(), g, r, 1.into(), 1.into()])
        });
        let optional = [visible.past, visible.mask, visible.bias, sinks.as_ref()].into_iter().flatten();
        let operands: Vec<&Value> = [&q, k, v].into_iter().chain(optional).collect();
        self.expand("attention", &op, &operands).transpose(&[0, 3, 1, 2, 4])
    }

    /// The layer after the heads `[b, s, g, r, d]`.
    pub(super) fn output(&self, mixed: &Value, attention: &Attention) -> Value {
        let inner = &attention.heads * &attention.head_dim;
        let mixed = mixed.reshape([mixed.dim(0), mixed.dim(1), inner.value().into()]);
        let (name, linear) = attention.output;
        self.linear(name, &mixed, [&inner, &attention.width], linear)
    }
}

/// What decides which keys a query sees, and how well.
#[derive(Clone, Copy, Default)]
pub(super) struct Visible<'a> {
    /// `i32[b]`: positions before the first query.
    pub past: Option<&'a Value>,
    /// `bool[b, t]`: keys that are no padding.
    pub mask: Option<&'a Value>,
    /// Added to the scores.
    pub bias: Option<&'a Value>,
}

impl Visible<'_> {
    /// The op that has these operands.
    pub(super) fn op(self, attention: &Attention) -> op::Attention {
        op::Attention {
            scale: attention.scale,
            soft_cap: attention.soft_cap,
            causal: attention.causal,
            window: attention.window,
            scales: false,
            past: self.past.is_some(),
            mask: self.mask.is_some(),
            bias: self.bias.is_some(),
            sinks: attention.sinks,
        }
    }
}
