//! RWKV-4 (arXiv:2305.13048): a weighted mean of the values before, whose weights decay.

use castiron_ir::op::{BinaryOp, UnaryOp};
use castiron_ir::{DType, Type, Value};

use super::{LinearKind, Mix, MixTensor, ModelBuilder, Size};

/// Stands for the maximum of no keys.
const LOWEST: f64 = -1e38;

/// RWKV-4's mixer. It reads the padding of whole sequences like tokens, as transformers does.
#[derive(Clone, Debug, PartialEq)]
pub struct Rwkv4 {
    /// Width of the input and the output.
    pub width: Size,
    /// Width between.
    pub inner: Size,
}

impl ModelBuilder<'_> {
    /// RWKV-4's mixer: `σ(r)⊙wkv`, where `wkv_t` is the mean of `v_t` with the weight `e^(u + k_t)` and of every `v_j`
    /// before it with the weight `e^(k_j - (t-1-j)·e^w)`.
    pub fn rwkv4(&self, name: &str, x: &Value, rwkv: &Rwkv4) -> Value {
        let (m, width, inner) = (&self.scope(name).without_mask(), &rwkv.width, &rwkv.inner);
        let (x, difference) = m.with_difference("attention.shift", x);
        let layer = |name: &str, mix| {
            let mixed = &x + &difference * m.mix(Mix { name: mix, holds: MixTensor::Rest }, width);
            m.linear(name, &mixed, [width, inner], LinearKind::PLAIN)
        };
        let (k, v) = (layer("key", "time_mix_key"), layer("value", "time_mix_value"));
        let r = layer("receptance", "time_mix_receptance").sigmoid();
        m.linear("output", &(r * m.wkv(&k, &v, inner)), [inner, width], LinearKind::PLAIN)
    }

    /// The means `[b, s, n]`. Numerator and denominator are divided by the largest weight so far, so that large keys
    /// do not overflow.
    fn wkv(&self, k: &Value, v: &Value, inner: &Size) -> Value {
        let state = |name| self.recurrent(name, Type::new(DType::F32, [k.dim(0), inner.value().into()]));
        let names = ["numerator", "denominator", "maximum"];
        let [numerator, denominator, maximum] = names.map(state);
        // A denominator is zero only where nothing has been read.
        let begun = denominator.binary(BinaryOp::Gt, &denominator.constant(0.0));
        let maximum = begun.select(&maximum, &maximum.constant(LOWEST).broadcast(maximum.ty().shape));
        let real = self.real_tokens().map(|real| real.reshape([real.dim(0), real.dim(1), 1.into()]));
        let decay = -self.param("time_decay", &[inner]).unary(UnaryOp::Exp);
        let bonus = self.param("time_first", &[inner]);
        let sequences: Vec<&Value> = [k, v].into_iter().chain(&real).collect();
        let carried = [&numerator, &denominator, &maximum];
        let results = self.builder.scan(1, [&carried, &sequences, &[&decay, &bonus]], |_, values| {
            let [numerator, denominator, maximum, k, v, tokens @ .., decay, bonus] = values else {
                return values.to_vec();
            };
            let mean = |maximum: &Value, k: &Value, real: Option<&Value>| {
                let largest = maximum.binary(BinaryOp::Max, k);
                let old = (maximum - &largest).unary(UnaryOp::Exp);
                let new = (k - &largest).unary(UnaryOp::Exp);
                let new = real.map_or_else(|| new.clone(), |real| &new * real);
                (&old * numerator + &new * v, &old * denominator + new, largest)
            };
            let (above, below, _) = mean(maximum, &(k + bonus), None);
            // Padding leaves the state as it is.
            let (maximum, k) = match tokens {
                [real] => (maximum + decay * real, k * real + (real - 1.0) * -LOWEST),
                _ => (maximum + decay, k.clone()),
            };
            let (numerator, denominator, maximum) = mean(&maximum, &k, tokens.first());
            vec![numerator, denominator, maximum, above / below]
        });
        names.iter().zip(&results).for_each(|(name, value)| self.remember(name, value));
        results.last().cloned().unwrap_or_else(|| k.clone())
    }
}
