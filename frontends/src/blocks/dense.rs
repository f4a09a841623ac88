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

/// A dense layer `x·W + b`: tensors `weight` and, where asked for, `bias`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// Width of `x`.
    pub input: Size,
    /// Width of the result.
    pub output: Size,
    /// Whether `b` is added.
    pub bias: bool,
    /// Order of the weight's axes.
    pub layout: Layout,
}

/// Makes a dense layer of one kind from its input and output widths.
pub type LinearKind = fn(&Size, &Size) -> Linear;

impl Linear {
    /// PyTorch's layer without a bias.
    pub fn plain(input: &Size, output: &Size) -> Linear {
        Linear { input: input.clone(), output: output.clone(), bias: false, layout: Layout::OutputInput }
    }

    /// PyTorch's layer with a bias.
    pub fn biased(input: &Size, output: &Size) -> Linear {
        Linear { bias: true, ..Linear::plain(input, output) }
    }

    /// GPT-2's `Conv1D`, which has a bias.
    pub fn conv1d(input: &Size, output: &Size) -> Linear {
        Linear { layout: Layout::InputOutput, ..Linear::biased(input, output) }
    }

    /// [`Linear::biased`] or [`Linear::plain`].
    pub fn with_bias(bias: bool) -> LinearKind {
        if bias { Linear::biased } else { Linear::plain }
    }
}

/// A norm over the last axis: tensors `weight` and, for layer norm, `bias`.
#[derive(Clone, Debug)]
pub struct Norm {
    /// Which norm.
    pub kind: NormKind,
    /// Extent of the axis.
    pub width: Size,
    /// Added to the mean square.
    pub eps: f64,
}

/// `act(x·A + a)·B + b`.
#[derive(Clone, Debug)]
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

/// `(act(x·G + g) ⊙ (x·U + u))·D + d`: layers `gate_proj`, `up_proj` and `down_proj`.
#[derive(Clone, Debug)]
pub struct GatedMlp {
    /// Width of `x` and the result.
    pub width: Size,
    /// Width between.
    pub inner: Size,
    /// Applied to the gate.
    pub activation: UnaryOp,
    /// Whether the layers have biases.
    pub bias: bool,
}

impl ModelBuilder<'_> {
    /// Rows of a table at integer indices; `name` is the tensor's.
    pub fn embed(&self, name: &str, rows: &Size, width: &Size, indices: &Value) -> Value {
        self.param(name, &[rows, width]).gather(0, indices)
    }

    /// A dense layer.
    pub fn linear(&self, name: &str, x: &Value, layer: &Linear) -> Value {
        let m = self.scope(name);
        let product = match layer.layout {
            Layout::OutputInput => x.linear(&m.param("weight", &[&layer.output, &layer.input])),
            Layout::InputOutput => {
                let weight = m.param("weight", &[&layer.input, &layer.output]);
                x.apply(Dot { batch: vec![], contract: vec![(x.rank().saturating_sub(1), 0)] }, &[&weight])
            }
        };
        if layer.bias { product + m.param("bias", &[&layer.output]) } else { product }
    }

    /// A norm.
    pub fn norm(&self, name: &str, x: &Value, norm: &Norm) -> Value {
        let m = self.scope(name);
        let mut operands = vec![x.clone(), m.param("weight", &[&norm.width])];
        if norm.kind == NormKind::Layer {
            operands.push(m.param("bias", &[&norm.width]));
        }
        let op = op::Norm { kind: norm.kind, eps: norm.eps };
        self.expand("norm", &op, &operands.iter().collect::<Vec<_>>())
    }

    /// A two-layer perceptron.
    pub fn mlp(&self, name: &str, x: &Value, mlp: &Mlp) -> Value {
        let m = self.scope(name);
        let inner = m.linear(mlp.layers[0], x, &(mlp.linear)(&mlp.width, &mlp.inner)).unary(mlp.activation);
        m.linear(mlp.layers[1], &inner, &(mlp.linear)(&mlp.inner, &mlp.width))
    }

    /// A gated perceptron.
    pub fn gated_mlp(&self, name: &str, x: &Value, mlp: &GatedMlp) -> Value {
        let (m, width, inner) = (self.scope(name), &mlp.width, &mlp.inner);
        let mut operands = vec![x.clone()];
        operands.extend(["gate_proj.weight", "up_proj.weight"].map(|name| m.param(name, &[inner, width])));
        if mlp.bias {
            operands.extend(["gate_proj.bias", "up_proj.bias"].map(|name| m.param(name, &[inner])));
        }
        let op = op::GatedMlp { activation: mlp.activation };
        let gated = m.expand("gated_mlp", &op, &operands.iter().collect::<Vec<_>>());
        m.linear("down_proj", &gated, &Linear::with_bias(mlp.bias)(inner, width))
    }
}
