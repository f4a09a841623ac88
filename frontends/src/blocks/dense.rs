//! Embeddings, dense layers, norms and MLPs.

use castiron_ir::Value;
use castiron_ir::op::{self, Dot, NormKind, UnaryOp};

use super::{ModelBuilder, Size};

/// How a dense layer's weight is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// `[output, input]`, PyTorch's `Linear`.
    #[default]
    OutputInput,
    /// `[input, output]`, the `Conv1D` of GPT-2.
    InputOutput,
}

/// How a dense layer `x·W + b` is stored: tensors `weight` and, where asked for, `bias`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinearKind {
    /// Order of the weight's axes.
    pub layout: Layout,
    /// Whether `b` is added.
    pub bias: bool,
}

impl LinearKind {
    /// PyTorch's layer without a bias.
    pub const PLAIN: LinearKind = LinearKind::with_bias(false);
    /// PyTorch's layer with a bias.
    pub const BIASED: LinearKind = LinearKind::with_bias(true);
    /// GPT-2's `Conv1D`, which has a bias.
    pub const CONV1D: LinearKind = LinearKind { layout: Layout::InputOutput, bias: true };

    /// PyTorch's layer.
    pub const fn with_bias(bias: bool) -> LinearKind {
        LinearKind { layout: Layout::OutputInput, bias }
    }
}

/// A norm over the last axis: tensors `weight` and `bias`, as far as it has them.
#[derive(Clone, Debug, PartialEq)]
pub struct Norm {
    /// Which norm.
    pub kind: NormKind,
    /// Extent of the axis.
    pub width: Size,
    /// Added to the mean square.
    pub eps: f64,
    /// Factor of each channel.
    pub weight: NormWeight,
    /// Whether something is added to each channel.
    pub bias: bool,
}

/// Factor of each channel after a [`Norm`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormWeight {
    /// One.
    None,
    /// The tensor `weight`.
    Stored,
    /// The tensor `weight`, plus one: what Gemma stores is centred at zero.
    PlusOne,
}

impl Norm {
    /// Root mean square with a weight.
    pub fn rms(width: &Size, eps: f64) -> Norm {
        Norm { kind: NormKind::Rms, width: width.clone(), eps, weight: NormWeight::Stored, bias: false }
    }

    /// Mean and deviation with weight and bias.
    pub fn layer(width: &Size, eps: f64) -> Norm {
        Norm { kind: NormKind::Layer, bias: true, ..Norm::rms(width, eps) }
    }
}

/// `act(x·A + a)·B + b`.
#[derive(Clone, Debug, PartialEq)]
pub struct Mlp {
    /// Width of `x` and the result.
    pub width: Size,
    /// Width between.
    pub inner: Size,
    /// Between the two layers.
    pub activation: UnaryOp,
    /// Names of the two layers.
    pub layers: [&'static str; 2],
    /// Kind of the two layers.
    pub linear: LinearKind,
}

/// `(act(x·G + g) ⊙ (x·U + u))·D + d`.
#[derive(Clone, Debug, PartialEq)]
pub struct GatedMlp {
    /// Width of `x` and the result.
    pub width: Size,
    /// Width between.
    pub inner: Size,
    /// Applied to the gate.
    pub activation: UnaryOp,
    /// Names of the layers of gate and up.
    pub gate: Gate,
    /// Name of the layer after them.
    pub down: &'static str,
    /// Whether the layers have biases.
    pub bias: bool,
}

/// Names of the layers that make the gate and what it gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// One layer for each: gate, up.
    Separate([&'static str; 2]),
    /// One layer, the gate's rows first.
    Joint(&'static str),
}

impl ModelBuilder<'_> {
    /// Rows of a table at integer indices; `name` is the tensor's.
    pub fn embed(&self, name: &str, rows: &Size, width: &Size, indices: &Value) -> Value {
        self.param(name, &[rows, width]).gather(0, indices)
    }

    /// A dense layer between the widths `[input, output]`.
    pub fn linear(&self, name: &str, x: &Value, [input, output]: [&Size; 2], kind: LinearKind) -> Value {
        let m = self.scope(name);
        let product = match kind.layout {
            Layout::OutputInput => x.linear(&m.param("weight", &[output, input])),
            Layout::InputOutput => {
                let weight = m.param("weight", &[input, output]);
                x.apply(Dot { batch: vec![], contract: vec![(x.rank().saturating_sub(1), 0)] }, &[&weight])
            }
        };
        if kind.bias { product + m.param("bias", &[output]) } else { product }
    }

    /// A norm.
    pub fn norm(&self, name: &str, x: &Value, norm: &Norm) -> Value {
        let m = self.scope(name);
        let weight = || m.param("weight", &[&norm.width]);
        let weight = match norm.weight {
            NormWeight::None => None,
            NormWeight::Stored => Some(weight()),
            NormWeight::PlusOne => Some(weight() + 1.0),
        };
        let bias = norm.bias.then(|| m.param("bias", &[&norm.width]));
        let operands: Vec<&Value> = [x].into_iter().chain(&weight).chain(&bias).collect();
        self.expand("norm", &op::Norm { kind: norm.kind, eps: norm.eps }, &operands)
    }

    /// A norm before its weight and bias.
    pub(super) fn unweighted_norm(&self, x: &Value, norm: &Norm) -> Value {
        self.expand("norm", &op::Norm { kind: norm.kind, eps: norm.eps }, &[x])
    }

    /// A two-layer perceptron.
    pub fn mlp(&self, name: &str, x: &Value, mlp: &Mlp) -> Value {
        let m = self.scope(name);
        let inner = m.linear(mlp.layers[0], x, [&mlp.width, &mlp.inner], mlp.linear).unary(mlp.activation);
        m.linear(mlp.layers[1], &inner, [&mlp.inner, &mlp.width], mlp.linear)
    }

    /// A gated perceptron.
    pub fn gated_mlp(&self, name: &str, x: &Value, mlp: &GatedMlp) -> Value {
        let m = self.scope(name);
        let operands = m.gate_operands(x, mlp);
        let op = op::GatedMlp { activation: mlp.activation };
        let gated = m.expand("gated_mlp", &op, &operands.iter().collect::<Vec<_>>());
        m.linear(mlp.down, &gated, [&mlp.inner, &mlp.width], LinearKind::with_bias(mlp.bias))
    }

    /// A gated perceptron with factors of the gate, before its activation, and of the result.
    pub(super) fn scaled_mlp(&self, name: &str, x: &Value, mlp: &GatedMlp, [of_gate, of_result]: [f64; 2]) -> Value {
        let m = self.scope(name);
        let [gate, up] = m.gate_and_up(x, mlp);
        let gated = (gate * of_gate).unary(mlp.activation) * up;
        m.linear(mlp.down, &gated, [&mlp.inner, &mlp.width], LinearKind::with_bias(mlp.bias)) * of_result
    }

    /// A gated perceptron in the scope, with something added to gate and up.
    pub(super) fn adapted_mlp(&self, x: &Value, mlp: &GatedMlp, [to_gate, to_up]: &[Value; 2]) -> Value {
        let [gate, up] = self.gate_and_up(x, mlp);
        let gated = (gate + to_gate).unary(mlp.activation) * (up + to_up);
        self.linear(mlp.down, &gated, [&mlp.inner, &mlp.width], LinearKind::with_bias(mlp.bias))
    }

    fn gate_and_up(&self, x: &Value, mlp: &GatedMlp) -> [Value; 2] {
        let operands = self.gate_operands(x, mlp);
        [0, 1].map(|j| {
            let product = x.linear(&operands[1 + j]);
            operands.get(3 + j).iter().fold(product, |product, &bias| product + bias)
        })
    }

    /// What the op [`op::GatedMlp`] takes: `x`, the matrices of gate and up, and their biases if they have any.
    fn gate_operands(&self, x: &Value, mlp: &GatedMlp) -> Vec<Value> {
        let (width, inner) = (&mlp.width, &mlp.inner);
        let mut operands = vec![x.clone()];
        match mlp.gate {
            Gate::Separate(names) => {
                operands.extend(names.map(|name| self.scope(name).param("weight", &[inner, width])));
                operands.extend(names.iter().filter(|_| mlp.bias).map(|name| self.scope(name).param("bias", &[inner])));
            }
            Gate::Joint(name) => {
                let (joint, n) = (self.scope(name), inner.value());
                let halves = |t: &Value| [t.slice(0, 0, n), t.slice(0, n, 2 * n)];
                operands.extend(halves(&joint.param("weight", &[&(inner * 2), width])));
                operands.extend(mlp.bias.then(|| halves(&joint.param("bias", &[&(inner * 2)]))).into_iter().flatten());
            }
        }
        operands
    }
}
