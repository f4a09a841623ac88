//! Gated delta networks (arXiv:2412.06464) and Kimi delta attention (arXiv:2510.26692): linear attention whose
//! state decays, and takes from each key what it holds there before it stores the key's value.

use castiron_ir::Value;
use castiron_ir::op::UnaryOp;

use super::recurrent::Heads;
use super::{LinearKind, ModelBuilder, NamedNorm, Norm, Size};

/// Added to the squared length of queries and keys, which are made as long as 1.
const EPS: f64 = 1e-6;

/// A mixer of tokens with a matrix from keys to values for each of `value_heads` heads.
#[derive(Clone, Debug, PartialEq)]
pub struct GatedDelta {
    /// Width of the input and the output.
    pub width: Size,
    /// Number of heads of queries and keys; divides `value_heads`.
    pub key_heads: Size,
    /// Number of heads of values.
    pub value_heads: Size,
    /// Width of a query and a key.
    pub key: Size,
    /// Width of a value.
    pub value: Size,
    /// Tokens that the convolution sees.
    pub taps: Size,
    /// After the convolution.
    pub activation: UnaryOp,
    /// The layers that read the input.
    pub layers: DeltaLayers,
    /// How much of what a key holds is replaced at most: 1, or 2 where states may turn round.
    pub most: f64,
    /// Norm of what each head reads.
    pub norm: NamedNorm,
    /// Makes factors of the gates, which follow the norm.
    pub gate: UnaryOp,
    /// Name of the layer after the heads.
    pub output: &'static str,
}

/// The layers that give queries, keys and values, gates, and how states decay and change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeltaLayers {
    /// `in_proj_qkvz` gives, for each key head, its query and key, and the values and gates of its value heads;
    /// `in_proj_ba` likewise their changes and decays. The convolution is `conv1d`.
    Grouped,
    /// `in_proj_qkv`, `in_proj_z`, `in_proj_b`, `in_proj_a`. The convolution is `conv1d`.
    Joint,
    /// One layer for each: `q_proj`, `k_proj`, `v_proj`, `g_proj`, `b_proj`, `a_proj`. Convolutions are `q_conv1d`,
    /// `k_conv1d`, `v_conv1d`, or one is `conv1d`.
    Separate,
    /// The same with narrow layers `g_a_proj` and `f_a_proj` before those of gates and decays, `g_b_proj` and
    /// `f_b_proj`; each channel of a key decays by itself. What decays need may lie in a scope `forget_gate`.
    EachChannel,
}

/// What tokens put into the heads, all `[b, s, ..]`.
struct Inputs {
    /// Queries, keys and values before the convolution.
    mixed: Value,
    /// Gates.
    gate: Value,
    /// What becomes the share of what a key holds that is replaced.
    change: Value,
    /// What becomes the logarithm of the decay.
    decay: Value,
}

impl GatedDelta {
    /// Width of all keys.
    fn keys(&self) -> Size {
        &self.key_heads * &self.key
    }

    /// Width of all values.
    fn values(&self) -> Size {
        &self.value_heads * &self.value
    }

    /// Number of channels of the convolution.
    fn channels(&self) -> Size {
        &(&self.keys() * 2) + &self.values()
    }
}

impl ModelBuilder<'_> {
    /// A gated delta network: `S ← w·S`, `S ← S + β·k·(v - Sᵀk)ᵀ`, `y = norm(Sᵀq)·act(gate)`.
    pub fn gated_delta(&self, name: &str, x: &Value, delta: &GatedDelta) -> Value {
        let m = &self.scope(name);
        let Inputs { mixed, gate, change, decay } = m.delta_inputs(&m.without_padding(x), delta);
        let mixed = m.convolved_in_time("convolution", &mixed, &m.delta_taps(delta)).unary(delta.activation);
        let (g, k, e) = (delta.key_heads.value(), delta.key.value(), delta.value.value());
        let r = delta.value_heads.value() / g;
        let of_heads = |x: &Value, r: usize, d: usize| x.reshape([x.dim(0), x.dim(1), g.into(), r.into(), d.into()]);
        let unit = Norm::rms(&delta.key, EPS / k as f64);
        let [query, key] = [(0, 1.0 / k as f64), (g * k, 1.0 / (k as f64).sqrt())].map(|(start, factor)| {
            m.unweighted_norm(&of_heads(&mixed.slice(2, start, start + g * k), 1, k), &unit) * factor
        });
        let value = of_heads(&mixed.slice(2, 2 * g * k, 2 * g * k + g * r * e), r, e);
        let change = of_heads(&change.sigmoid(), r, 1);
        let change = if delta.most == 1.0 { change } else { change * delta.most };
        let log_decay = m.delta_log_decay(&decay, delta);
        let held = log_decay.unary(UnaryOp::Exp).unary(UnaryOp::Neg) * &key;
        // The CPU's kernel computes less where key and correction are one value.
        let key = key * change;
        let heads = Heads {
            query: &query,
            key: &key,
            value: &value,
            log_decay: Some(&log_decay),
            delta: Some([&held, &key]),
            before: false,
        };
        let y = m.linear_attention("state", &heads);
        let y = m.norm(delta.norm.0, &y, &delta.norm.1) * of_heads(&gate, r, e).unary(delta.gate);
        let y = y.reshape([y.dim(0), y.dim(1), (g * r * e).into()]);
        m.linear(delta.output, &y, [&delta.values(), &delta.width], LinearKind::PLAIN)
    }

    /// Logarithms of decays, `-exp(A)·softplus(decay + bias)`: `[b, s, g, r, 1]`, or a number for each channel of a key.
    fn delta_log_decay(&self, decay: &Value, delta: &GatedDelta) -> Value {
        let one = Size::new(1, "1");
        let (g, r) = (delta.key_heads.value(), delta.value_heads.value() / delta.key_heads.value());
        let m = self.forgetting(delta);
        let (rate, bias, d) = match delta.layers {
            DeltaLayers::EachChannel => {
                let rate = m.param("A_log", &[&one, &one, &delta.value_heads, &one]);
                (rate, m.param("dt_bias", &[&delta.keys()]), delta.key.value())
            }
            _ => (m.param("A_log", &[&delta.value_heads]), m.param("dt_bias", &[&delta.value_heads]), 1),
        };
        let step = (decay + bias).unary(UnaryOp::Softplus);
        let step = step.reshape([step.dim(0), step.dim(1), g.into(), r.into(), d.into()]);
        step * rate.unary(UnaryOp::Exp).unary(UnaryOp::Neg).reshape([g, r, 1])
    }

    /// The scope of what decays need.
    fn forgetting(&self, delta: &GatedDelta) -> Self {
        let is_nested = delta.layers == DeltaLayers::EachChannel && self.has("forget_gate.A_log");
        self.scope(if is_nested { "forget_gate" } else { "" })
    }

    fn delta_inputs(&self, x: &Value, delta: &GatedDelta) -> Inputs {
        let (width, heads, values) = (&delta.width, &delta.value_heads, &delta.values());
        let layer = |name: &str, width: &Size| self.linear(name, x, [&delta.width, width], LinearKind::PLAIN);
        let weight = |name: &str, rows: &Size| self.scope(name).param("weight", &[rows, width]);
        let separate = || {
            let names = [("q_proj", &delta.keys()), ("k_proj", &delta.keys()), ("v_proj", values)];
            let weights = names.map(|(name, rows)| weight(name, rows));
            x.linear(&self.builder.concat(0, &weights.each_ref()))
        };
        match delta.layers {
            DeltaLayers::Grouped => {
                let all = weight("in_proj_qkvz", &(&delta.channels() + values));
                let (g, k) = (delta.key_heads.value(), delta.key.value());
                let v = values.value() / g;
                let [q, key, value, gate] = groups(&all, g, [k, k, v, v]);
                let [change, decay] = groups(&weight("in_proj_ba", &(heads * 2)), g, [heads.value() / g; 2]);
                Inputs {
                    mixed: x.linear(&self.builder.concat(0, &[&q, &key, &value])),
                    gate: x.linear(&gate),
                    change: x.linear(&change),
                    decay: x.linear(&decay),
                }
            }
            DeltaLayers::Joint => Inputs {
                mixed: layer("in_proj_qkv", &delta.channels()),
                gate: layer("in_proj_z", values),
                change: layer("in_proj_b", heads),
                decay: layer("in_proj_a", heads),
            },
            DeltaLayers::Separate => Inputs {
                mixed: separate(),
                gate: layer("g_proj", values),
                change: layer("b_proj", heads),
                decay: layer("a_proj", heads),
            },
            DeltaLayers::EachChannel => {
                let narrow = |m: &Self, [first, second]: [&str; 2], size: &Size, width: &Size| {
                    let x = m.linear(first, x, [&delta.width, size], LinearKind::PLAIN);
                    m.linear(second, &x, [size, width], LinearKind::PLAIN)
                };
                let forgetting = self.forgetting(delta);
                Inputs {
                    mixed: separate(),
                    gate: narrow(self, ["g_a_proj", "g_b_proj"], &delta.value, values),
                    change: layer("b_proj", heads),
                    decay: narrow(&forgetting, ["f_a_proj", "f_b_proj"], &delta.key, &delta.keys()),
                }
            }
        }
    }

    /// The convolution's weight, `[channels, 1, taps]`.
    fn delta_taps(&self, delta: &GatedDelta) -> Value {
        let (one, channels) = (Size::new(1, "1"), delta.channels());
        let is_joint = matches!(delta.layers, DeltaLayers::Grouped | DeltaLayers::Joint) || self.has("conv1d.weight");
        if is_joint {
            return self.param("conv1d.weight", &[&channels, &one, &delta.taps]);
        }
        // Transformers saves what it holds as one in three equal parts, whatever queries, keys and values are.
        let third = channels.value().div_ceil(3);
        let is_in_thirds = self.rows_of("q_conv1d.weight") == Some(third);
        let thirds =
            [third, third, channels.value() - 2 * third].map(|rows| Size::new(rows, "a third of the channels"));
        let parts = if is_in_thirds { thirds } else { [delta.keys(), delta.keys(), delta.values()] };
        let mut names = ["q_conv1d.weight", "k_conv1d.weight", "v_conv1d.weight"].iter();
        let weights = parts.map(|rows| self.param(names.next().expect("three names"), &[&rows, &one, &delta.taps]));
        self.builder.concat(0, &weights.each_ref())
    }
}

/// The rows of a matrix that lie in `count` groups of so many rows of each kind, those of a kind together.
fn groups<const N: usize>(matrix: &Value, count: usize, rows: [usize; N]) -> [Value; N] {
    let all: usize = rows.iter().sum();
    let mut start = 0;
    rows.map(|rows| {
        let of_group = |group: usize| matrix.slice(0, group * all + start, group * all + start + rows);
        let slices: Vec<Value> = (0..count).map(of_group).collect();
        start += rows;
        matrix.builder().concat(0, &slices.iter().collect::<Vec<_>>())
    })
}
