//! Latent attention (DeepSeek-V2, arXiv:2405.04434): keys and values of all heads are made from one narrow vector
//! for each token, the latent, and one rotated key that all heads share.
//!
//! ```text
//!  keys of head h      [ Kₕ·latent | rotated ]        scores  q·Kₕ·latent + q'·rotated
//!  values of head h      Vₕ·latent                    mixed   Vₕ·(Σ weights · latent)
//! ```
//!
//! A whole sequence makes the keys and values of all heads. Where there is a cache, it holds latents: `Kₕ` is
//! applied to the queries instead and `Vₕ` to what is mixed, which gives the same numbers, so that all heads share
//! one key head.

use castiron_ir::Value;
use castiron_ir::op::{Concat, Dot};

use super::attention::Visible;
use super::{Attention, LinearKind, ModelBuilder, Norm, Size};

/// Extents of latent attention; the rest is in [`Attention`].
#[derive(Clone, Debug, PartialEq)]
pub struct Latent {
    /// Width of what queries are made from, if that is not the input itself.
    pub query_rank: Option<Size>,
    /// Width of the latent.
    pub rank: Size,
    /// Width of the part of a head's keys that has no position.
    pub plain: Size,
    /// Width of the part that is rotated.
    pub rotated: Size,
    /// Width of a head's values.
    pub value: Size,
    /// Kind of the layers from the input to narrow vectors.
    pub narrowing: LinearKind,
    /// Epsilon of the norms of narrow vectors.
    pub eps: f64,
}

impl ModelBuilder<'_> {
    /// Latent attention, in the scope of its layers.
    pub(super) fn latent_attention(&self, x: &Value, attention: &Attention, latent: &Latent) -> Value {
        let Latent { rank, plain, rotated, value, .. } = latent;
        let (n, p) = (attention.heads.value(), plain.value());
        let (b, s) = (x.dim(0), x.dim(1));
        let q = self.latent_queries(x, attention, latent);
        let all = self.linear("kv_a_proj_with_mqa", x, [&attention.width, &(rank + rotated)], latent.narrowing);
        let narrow = all.slice(2, 0, rank.value());
        let narrow = self.norm("kv_a_layernorm", &narrow, &Norm::rms(rank, latent.eps));
        let turning = all.slice(2, rank.value(), rank.value() + rotated.value());
        let turning = turning.reshape([b.clone(), s.clone(), 1.into(), rotated.value().into()]);
        let [q_turned, k_turned] = self.rotated([q.slice(4, p, p + rotated.value()), turning], attention);
        let q_plain = q.slice(4, 0, p);
        let widening = self.widening(attention, latent);
        let of_keys = widening.slice(1, 0, p);
        let of_values = widening.slice(1, p, p + value.value());
        let join = |axis, parts: &[&Value]| self.builder.apply(Concat { axis }, parts);
        let mixed = match &self.context.past {
            Some(past) => {
                // Queries [b, s, 1, n, ·] by Kₕ, in the order of its axes: [n, b, s, rank].
                let q_plain = q_plain.reshape([b.clone(), s.clone(), n.into(), p.into()]);
                let q_plain = by_heads(&q_plain, 2, &of_keys, 1).transpose(&[1, 0, 2, 3]);
                let q_turned = q_turned.reshape([b.clone(), s.clone(), n.into(), rotated.value().into()]);
                let q = join(3, &[&q_plain, &q_turned.transpose(&[0, 2, 1, 3])]);
                let width = rank.value() + rotated.value();
                let q = q.reshape([b.clone(), 1.into(), n.into(), s.clone(), width.into()]);
                let narrow = narrow.reshape([b.clone(), s.clone(), 1.into(), rank.value().into()]);
                let keys = join(3, &[&narrow, &k_turned]).transpose(&[0, 2, 1, 3]);
                let keys = self.cached("latent", 2, &keys, past);
                let mixed = self.attended(&q, &keys, &keys.slice(3, 0, rank.value()), attention);
                let mixed = mixed.reshape([b.clone(), n.into(), s.clone(), rank.value().into()]);
                by_heads(&mixed, 1, &of_values, 2).transpose(&[1, 2, 0, 3])
            }
            None => {
                let wide = narrow.linear(&widening.reshape([n * (p + value.value()), rank.value()]));
                let wide = wide.reshape([b.clone(), s.clone(), n.into(), (p + value.value()).into()]);
                let shape = [b.clone(), s.clone(), n.into(), rotated.value().into()];
                let keys = join(3, &[&wide.slice(3, 0, p), &k_turned.broadcast(shape)]);
                let q = join(4, &[&q_plain, &q_turned]).transpose(&[0, 3, 2, 1, 4]);
                let values = wide.slice(3, p, p + value.value());
                let [keys, values] = [keys, values].map(|t| t.transpose(&[0, 2, 1, 3]));
                self.attended(&q, &keys, &values, attention).transpose(&[0, 3, 1, 2, 4])
            }
        };
        let inner = &attention.heads * value;
        let mixed = mixed.reshape([b, s, inner.value().into()]);
        self.linear(attention.output.0, &mixed, [&inner, &attention.width], attention.output.1)
    }

    /// The matrices that make keys and values of latents, `[n, plain + value, rank]`. GGUF files hold the two apart,
    /// the first transposed.
    fn widening(&self, attention: &Attention, latent: &Latent) -> Value {
        let (Latent { rank, plain, value, .. }, heads) = (latent, &attention.heads);
        if self.has("k_b_proj.weight") {
            let of_keys = self.param("k_b_proj.weight", &[heads, rank, plain]).transpose(&[0, 2, 1]);
            let of_values = self.param("v_b_proj.weight", &[heads, value, rank]);
            return self.builder.apply(Concat { axis: 1 }, &[&of_keys, &of_values]);
        }
        let both = plain + value;
        let all = self.param("kv_b_proj.weight", &[&(heads * &both), rank]);
        all.reshape([heads.value(), both.value(), rank.value()])
    }

    /// Queries of all heads, `[b, s, 1, n, plain + rotated]`.
    fn latent_queries(&self, x: &Value, attention: &Attention, latent: &Latent) -> Value {
        let all = &attention.heads * &(&latent.plain + &latent.rotated);
        let q = match &latent.query_rank {
            None => self.linear("q_proj", x, [&attention.width, &all], LinearKind::PLAIN),
            Some(rank) => {
                let narrow = self.linear("q_a_proj", x, [&attention.width, rank], latent.narrowing);
                let narrow = self.norm("q_a_layernorm", &narrow, &Norm::rms(rank, latent.eps));
                self.linear("q_b_proj", &narrow, [rank, &all], LinearKind::PLAIN)
            }
        };
        let n = attention.heads.value();
        q.reshape([x.dim(0), x.dim(1), 1.into(), n.into(), (latent.plain.value() + latent.rotated.value()).into()])
    }

    /// What queries `[b, g, r, s, d]` see.
    fn attended(&self, q: &Value, k: &Value, v: &Value, attention: &Attention) -> Value {
        let context = &self.context;
        let visible = Visible { past: context.past.as_ref(), mask: context.mask.as_ref(), bias: context.bias.as_ref() };
        let optional = [visible.past, visible.mask, visible.bias].into_iter().flatten();
        let operands: Vec<&Value> = [q, k, v].into_iter().chain(optional).collect();
        self.expand("attention", &visible.op(attention), &operands)
    }
}

/// Each head of `x`, along an axis, by its matrix of `[heads, .., ..]`, whose axis `summed` goes: the heads come
/// first in the result.
fn by_heads(x: &Value, heads: usize, matrices: &Value, summed: usize) -> Value {
    let contract = vec![(x.rank() - 1, summed)];
    x.apply(Dot { batch: vec![(heads, 0)], contract }, &[matrices])
}

/// The factor of scores that YaRN's second coefficient asks for (transformers `yarn_apply_mscale`).
pub fn yarn_score_scale(factor: f64, coefficient: f64) -> f64 {
    let scale = if factor <= 1.0 { 1.0 } else { 0.1 * coefficient * factor.ln() + 1.0 };
    scale * scale
}
