//! Hyena operators: gated convolutions as long as the sequence (arXiv:2302.10866).

use castiron_ir::op::{FftConv, UnaryOp};
use castiron_ir::{Dim, Value};

use super::{LinearKind, ModelBuilder, Size};

/// Least factor of a filter, wherever it has decayed to.
const SHIFT: f64 = 0.05;

/// A mixer of tokens by a long filter for each channel, which a perceptron makes of the place.
#[derive(Clone, Debug, PartialEq)]
pub struct Hyena {
    /// Channels of the input, the filters and the output.
    pub width: Size,
    /// Tokens that the short convolution before sees.
    pub taps: Size,
    /// The perceptron of the filters.
    pub filter: Filter,
}

/// `k_t = A_n h_n ⊙ (exp(-t·|δ|) + 0.05)` with `h_0 = sin(f ⊙ (A z_t + a))`, `h_j = sin(f ⊙ (A_j h_{j-1} + a_j))`.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    /// Places that have features.
    pub places: Size,
    /// Features of a place.
    pub features: Size,
    /// Width of the perceptron.
    pub inner: Size,
    /// Layers between its first and its last.
    pub layers: usize,
    /// The frequency of every sine where the checkpoint stores none.
    pub frequency: Option<f64>,
    /// Whether decoding takes filters from a table that is made when the model is compiled.
    pub is_table: bool,
}

impl ModelBuilder<'_> {
    /// `(k ∗ s + d ⊙ s) ⊙ x₀` with `s = v ⊙ x₁`, where `x₀`, `x₁` and `v` are short convolutions of projections.
    /// Decoding keeps `s` as a cache and sums its convolution for the new tokens.
    pub(super) fn hyena(&self, name: &str, x: &Value, hyena: &Hyena) -> Value {
        let (m, width) = (&self.scope(name), &hyena.width);
        let all = &(width * 3);
        let u = m.linear("in_proj", x, [width, all], LinearKind::BIASED);
        let [gate, first, value] = m.causal_convolution_in_parts("short_filter", &u, [all, &hyena.taps]);
        let s = value * first;
        let turned = s.transpose(&[0, 2, 1]);
        let filters = m.scope("filter_fn");
        let mixed = match &self.context.past {
            None => turned.apply(FftConv { length: None }, &[&filters.filters(hyena, Some(x.dim(1)))]),
            Some(past) => {
                let cache = m.cached("filtered", 2, &turned, past);
                let places = if hyena.filter.is_table { None } else { Some(cache.dim(2)) };
                cache.apply(FftConv { length: Some(x.dim(1)) }, &[&filters.filters(hyena, places), past])
            }
        };
        let mixed = mixed.transpose(&[0, 2, 1]) + s * filters.param("bias", &[width]);
        m.linear("out_proj", &(mixed * gate), [width, width], LinearKind::BIASED)
    }

    /// Filters `[n, t]` for the first places, or all that there are.
    fn filters(&self, hyena: &Hyena, places: Option<Dim>) -> Value {
        let filter = &hyena.filter;
        let one = Size::new(1, "1");
        let rows = |name: &str, width: &Size| {
            let table =
                self.param(name, &[&one, &filter.places, width]).reshape([filter.places.value(), width.value()]);
            match &places {
                Some(places) => table.gather(0, &self.builder.iota([places.clone()], 0)),
                None => table,
            }
        };
        let (inner, last) = (&filter.inner, 2 * filter.layers + 2);
        let m = self.scope("implicit_filter");
        let frequency = m.frequency(filter);
        let sine = |x: Value| match &frequency {
            Some(frequency) => (x * frequency).unary(UnaryOp::Sin),
            None => (x * filter.frequency.unwrap_or(1.0)).unary(UnaryOp::Sin),
        };
        let mut h = rows("pos_emb.z", &filter.features);
        for layer in 0..=filter.layers {
            let from = if layer == 0 { &filter.features } else { inner };
            h = sine(m.linear(&(2 * layer).to_string(), &h, [from, inner], LinearKind::BIASED));
        }
        let k = m.linear(&last.to_string(), &h, [inner, &hyena.width], LinearKind::PLAIN);
        let decay = self.param("modulation.deltas", &[&one, &one, &hyena.width]).reshape([hyena.width.value()]);
        let decay = rows("pos_emb.t", &one) * decay.unary(UnaryOp::Abs);
        (k * (decay.unary(UnaryOp::Neg).unary(UnaryOp::Exp) + SHIFT)).transpose(&[1, 0])
    }

    /// The frequency of the sines, of which a file may hold a copy for each of them, or one.
    fn frequency(&self, filter: &Filter) -> Option<Value> {
        if filter.frequency.is_some() {
            return None;
        }
        let names = (0..=filter.layers).map(|layer| format!("{}.freq", 2 * layer + 1));
        let stored: Vec<String> = names.filter(|name| self.has(name)).collect();
        let first = "1.freq".to_owned();
        let all = stored.iter().chain(stored.is_empty().then_some(&first));
        let copies: Vec<Value> = all.map(|name| self.param(name, &[&Size::new(1, "1"), &filter.inner])).collect();
        copies.into_iter().next()
    }
}
