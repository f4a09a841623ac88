//! Parts of mixers that remember what they have read in a state of constant size.
//!
//! A state is zero where a row begins, and what stands for padding leaves it as it is, so that rows of
//! different lengths share a batch.

use castiron_ir::op::{Gather, LinearAttention, StateWrite, UnaryOp};
use castiron_ir::{DType, Dim, Type, Value};

use super::context::Own;
use super::{Context, ModelBuilder, Size};

/// The sequences of linear attention, as the op [`LinearAttention`] defines them.
pub(super) struct Heads<'a> {
    /// `[b, s, g, r, k]`
    pub query: &'a Value,
    /// `[b, s, g, r, k]`
    pub key: &'a Value,
    /// `[b, s, g, r, e]`
    pub value: &'a Value,
    /// Logarithm of what is left of a state from token to token, `[b, s, g, r, k]`.
    pub log_decay: Option<&'a Value>,
    /// What corrects the state, `a` and `b` like keys.
    pub delta: Option<[&'a Value; 2]>,
    /// Whether a query does not see its own token.
    pub before: bool,
}

impl ModelBuilder<'_> {
    /// What a layer remembers of the tokens before these, `[b, …]`: zeros where a row begins.
    pub(super) fn recurrent(&self, name: &str, ty: Type) -> Value {
        let zeros = self.builder.scalar(ty.dtype, 0.0).broadcast(ty.shape.clone());
        let Some(Own { goes_on, .. }) = &self.context.own else { return zeros };
        let each_row = std::iter::once(goes_on.dim(0)).chain(ty.shape[1..].iter().map(|_| Dim::from(1)));
        let before = goes_on.reshape(each_row.collect::<Vec<_>>()).select(&self.kept_in_layer(name, ty), &zeros);
        // Written back at once, so that what carries it on can do so where it lies.
        before.apply(StateWrite { state: self.layer_state(name) }, &[])
    }

    /// What the layer will remember of the name that [`ModelBuilder::recurrent`] was asked for; nothing where
    /// whole sequences are read.
    pub(super) fn remember(&self, name: &str, value: &Value) {
        if self.context.own.is_some() {
            value.apply(StateWrite { state: self.layer_state(name) }, &[]);
        }
    }

    /// The same builder for a mixer that takes padding before and after whole sequences for tokens, as the reference
    /// does.
    pub(super) fn without_mask(&self) -> Self {
        self.with_context(Context { mask: None, ..self.context.clone() })
    }

    /// A convolution of each channel along time, of a token and those before it, over `[b, s, d]` with the
    /// parameter `weight: [d, 1, taps]`, whose last tap is for the token itself.
    pub(super) fn causal_convolution(&self, name: &str, x: &Value, [d, taps]: [&Size; 2], bias: bool) -> Value {
        let m = self.scope(name);
        let weight = m.param("weight", &[d, &Size::new(1, "1"), taps]);
        let sum = self.convolved_in_time(&format!("{name}.convolution"), x, &weight);
        if bias { sum + m.param("bias", &[d]) } else { sum }
    }

    /// The same, with its bias, as equal parts of the channels: whatever reads one computes no other.
    pub(super) fn causal_convolution_in_parts<const N: usize>(
        &self,
        name: &str,
        x: &Value,
        [d, taps]: [&Size; 2],
    ) -> [Value; N] {
        let (m, width) = (self.scope(name), d.value() / N);
        let all = self.after_the_last(&format!("{name}.convolution"), x, taps.value() - 1);
        let (weight, bias) = (m.param("weight", &[d, &Size::new(1, "1"), taps]), m.param("bias", &[d]));
        std::array::from_fn(|part| {
            let (start, end) = (part * width, (part + 1) * width);
            sum_of_taps(&all.slice(2, start, end), &weight.slice(0, start, end)) + bias.slice(0, start, end)
        })
    }

    /// The same with a given weight `[d, 1, taps]`, without a bias. The layer remembers what it reads again as
    /// `state`.
    pub(super) fn convolved_in_time(&self, state: &str, x: &Value, weight: &Value) -> Value {
        let count = weight.dim(2).as_constant().map_or(1, |taps| taps as usize);
        sum_of_taps(&self.after_the_last(state, x, count - 1), weight)
    }

    /// A sequence `[b, s, d]` behind its `count` last vectors before it, `[b, count + s, d]`. The layer remembers them
    /// as `name`.
    fn after_the_last(&self, name: &str, x: &Value, count: usize) -> Value {
        let rows = x.dim(0);
        if count == 0 {
            return x.clone();
        }
        let before = self.recurrent(name, Type::new(DType::F32, [rows.clone(), count.into(), x.dim(2)]));
        let all = self.builder.concat(1, &[&before, x]);
        if let Some(own) = &self.context.own {
            let offsets = self.builder.iota([Dim::from(1), Dim::from(count)], 1);
            let kept = own.count.reshape([rows, 1.into()]) + offsets;
            self.remember(name, &all.apply(Gather { axis: 1, batch: Some(1) }, &[&kept]));
        }
        all
    }

    /// The vector before each of `x: [b, s, n]`; zeros before the first one. The layer remembers it as `name`.
    pub(super) fn shifted(&self, name: &str, x: &Value) -> Value {
        self.after_the_last(name, x, 1).slice(1, 0, x.dim(1))
    }

    /// What heads of linear attention read, `[b, s, g, r, e]`. The layer remembers their states as `name`.
    pub(super) fn linear_attention(&self, name: &str, heads: &Heads<'_>) -> Value {
        let Heads { query, key, value, log_decay, delta, before } = *heads;
        let real =
            self.real_tokens().map(|real| real.reshape([real.dim(0), real.dim(1), 1.into(), 1.into(), 1.into()]));
        let masked = |x: &Value| real.as_ref().map_or_else(|| x.clone(), |real| x * real);
        let state = [query, value].map(|x| x.ty().shape);
        let [g, r] = [2, 3].map(|axis| if state[0][axis] == Dim::from(1) { &state[1][axis] } else { &state[0][axis] });
        let shape = [&state[0][0], g, r, &state[0][4], &state[1][4]].map(Dim::clone);
        let initial = self.recurrent(name, Type::new(DType::F32, shape));
        let mut operands = vec![initial, query.clone(), masked(key), value.clone()];
        operands.extend(log_decay.map(|log| masked(log).unary(UnaryOp::Exp)));
        if let Some([a, b]) = delta {
            operands.extend([a.clone(), masked(b)]);
        }
        let op = LinearAttention { decay: log_decay.is_some(), delta: delta.is_some(), before };
        let operands: Vec<&Value> = operands.iter().collect();
        let results = self.expand_all("linear_attention", &op, &operands);
        self.remember(name, &results[0]);
        results[1].clone()
    }

    /// Zeros in place of what stands for padding, in `[b, s, n]`.
    pub(super) fn without_padding(&self, x: &Value) -> Value {
        match self.real_tokens() {
            Some(real) => x * real.reshape([x.dim(0), x.dim(1), 1.into()]),
            None => x.clone(),
        }
    }

    /// Ones for tokens and zeros for padding, `f32[b, s]`; nothing where nothing is padding.
    pub(super) fn real_tokens(&self) -> Option<Value> {
        let mask = self.context.mask.as_ref().map(|mask| mask.cast(DType::F32));
        mask.or_else(|| self.context.own.as_ref().map(|own| own.real.clone()))
    }
}

/// What a weight `[d, 1, taps]` makes of `[b, taps - 1 + s, d]`, `[b, s, d]`.
fn sum_of_taps(all: &Value, weight: &Value) -> Value {
    let (channels, count) = (weight.dim(0), weight.dim(2).as_constant().map_or(1, |taps| taps as usize));
    let steps = all.dim(1) - Dim::from(count - 1);
    let tap = |j: usize| {
        let weight = weight.slice(2, j, j + 1).reshape([channels.clone()]);
        all.slice(1, j, steps.clone() + Dim::from(j)) * weight
    };
    (1..count).map(tap).fold(tap(0), |a, b| a + b)
}
