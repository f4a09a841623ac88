//! Mixtures of experts: a router chooses some gated perceptrons for each token.

use castiron_ir::op::{BinaryOp, Concat, Gather, ReduceKind, Slice, Softmax, UnaryOp};
use castiron_ir::{DType, Dim, Value};

use super::{GatedMlp, LinearKind, ModelBuilder, Size};

/// Experts of which each token takes a few, weighted, and perhaps one that all tokens take.
#[derive(Clone, Debug, PartialEq)]
pub struct Experts {
    /// Width of the input and the result.
    pub width: Size,
    /// Width inside an expert.
    pub inner: Size,
    /// Number of experts.
    pub count: Size,
    /// How experts are chosen.
    pub router: Router,
    /// What an expert does between its layers.
    pub gating: Gating,
    /// How the experts' weights are stored.
    pub tensors: ExpertTensors,
    /// The expert that all tokens take.
    pub shared: Option<SharedExpert>,
    /// What experts read and give instead of the model's vectors.
    pub latent: Option<ExpertLatent>,
}

/// Narrow vectors that experts read and give, and the layers before and after them (Nemotron-H).
#[derive(Clone, Debug, PartialEq)]
pub struct ExpertLatent {
    /// Names of the layers.
    pub layers: [&'static str; 2],
    /// Kind of the layers.
    pub linear: LinearKind,
    /// Width of the vectors.
    pub width: Size,
}

/// A linear layer that gives a score for each expert, and what becomes of the scores.
#[derive(Clone, Debug, PartialEq)]
pub struct Router {
    /// Name and kind of the layer.
    pub layer: (&'static str, LinearKind),
    /// What the scores are.
    pub scores: RouterScores,
    /// Groups of experts, only the best of which can be chosen from.
    pub groups: Option<ExpertGroups>,
    /// How many experts a token takes.
    pub chosen: usize,
    /// Whether the weights of the chosen experts are divided by their sum plus this.
    pub normalise: Option<f64>,
    /// Factor of the weights.
    pub scale: f64,
}

/// How a router's logits become weights.
#[derive(Clone, Debug, PartialEq)]
pub enum RouterScores {
    /// The softmax over all experts.
    Softmax,
    /// The softmax over those that are chosen.
    SoftmaxOfChosen,
    /// The logistic function of each; the tensor of that name, if there is one, is added for the choice, but not to
    /// the weights.
    Sigmoid(Option<&'static str>),
}

/// Experts in groups of equal size (DeepSeek-V2, arXiv:2405.04434).
#[derive(Clone, Debug, PartialEq)]
pub struct ExpertGroups {
    /// Number of groups; divides the number of experts.
    pub count: usize,
    /// How many groups remain.
    pub kept: usize,
    /// A group's score is the sum of so many largest of its experts.
    pub best: usize,
}

/// What an expert computes from its gate `g` and its input `u`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Gating {
    /// `act(g) · u`
    Plain(UnaryOp),
    /// `g·σ(alpha·g) · (u + 1)` with `g` at most `limit` and `u` within `±limit`.
    Clamped {
        /// Slope of the logistic function.
        alpha: f64,
        /// Bound.
        limit: f64,
    },
    /// `act(u)`, without a gate.
    None(UnaryOp),
}

/// Names of the experts' weights; where a checkpoint has `experts.gate_proj.weight: [experts, inner, width]`, that and
/// `up_proj` and `down_proj` beside it stand for all, with biases in the last case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpertTensors {
    /// For each expert the layers `experts.{e}.NAME`: gate, up, down. Checkpoints may hold
    /// `experts.gate_up_proj: [experts, 2·inner, width]` and `experts.down_proj` instead.
    Each([&'static str; 3]),
    /// All experts in two tensors, `[experts, 2·inner, width]`, the gate's rows first, and
    /// `[experts, width, inner]`.
    Stacked([&'static str; 2]),
    /// All experts in two tensors, `[experts, width, 2·inner]`, gate and input taking turns, and
    /// `[experts, inner, width]`; with biases, whose names end in `_bias`.
    Alternating([&'static str; 2]),
    /// For each expert the layers `experts.{e}.NAME`, one without a gate and one after it. Checkpoints may hold
    /// `experts.NAME: [experts, ..]` instead.
    Ungated([&'static str; 2]),
}

/// An expert for all tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct SharedExpert {
    /// Its name and kind.
    pub mlp: (&'static str, GatedMlp),
    /// A layer of one output, whose logistic function is the expert's weight.
    pub gate: Option<&'static str>,
}

/// The stacks of an expert's two layers: matrices, and what is added.
struct ExpertLayers {
    inner: (Value, Option<Value>),
    outer: (Value, Option<Value>),
}

impl ModelBuilder<'_> {
    /// A mixture of experts. A layer of the experts is a product with gathered weights.
    pub fn experts(&self, name: &str, x: &Value, experts: &Experts) -> Value {
        let m = self.scope(name);
        let (weights, chosen) = m.routed(x, experts);
        let layers = m.expert_layers(experts);
        let Experts { width, latent, .. } = experts;
        let read = match latent {
            Some(latent) => m.linear(latent.layers[0], x, [width, &latent.width], latent.linear),
            None => x.clone(),
        };
        let product = |x: &Value, (stack, bias): &(Value, Option<Value>), shared: usize| {
            let y = x.chosen_linear(&stack.gather(0, &chosen), shared);
            bias.iter().fold(y, |y, bias| y + bias.gather(0, &chosen))
        };
        let inner = experts.gating.apply(&product(&read, &layers.inner, 2), experts.inner.value());
        let y = product(&inner, &layers.outer, 3);
        let k = experts.router.chosen;
        let weighted = y * weights.reshape([x.dim(0), x.dim(1), k.into(), 1.into()]);
        let each = (0..k).map(|j| weighted.slice(2, j, j + 1).reshape(read.ty().shape));
        let mut sum = each.reduce(|a, b| a + b).unwrap_or_else(|| read.clone());
        if let Some(latent) = latent {
            sum = m.linear(latent.layers[1], &sum, [&latent.width, width], latent.linear);
        }
        match &experts.shared {
            Some(shared) => sum + m.shared_expert(x, shared, width),
            None => sum,
        }
    }

    fn shared_expert(&self, x: &Value, shared: &SharedExpert, width: &Size) -> Value {
        let y = self.gated_mlp(shared.mlp.0, x, &shared.mlp.1);
        match shared.gate {
            Some(name) => y * self.linear(name, x, [width, &Size::new(1, "1")], LinearKind::PLAIN).sigmoid(),
            None => y,
        }
    }

    /// Weights `[b, s, k]` and numbers `i32[b, s, k]` of the experts that each token takes.
    fn routed(&self, x: &Value, experts: &Experts) -> (Value, Value) {
        let router = &experts.router;
        let logits = self.linear(router.layer.0, x, [&experts.width, &experts.count], router.layer.1);
        let scores = match router.scores {
            RouterScores::Softmax => self.expand("softmax", &Softmax {}, &[&logits]),
            RouterScores::SoftmaxOfChosen => logits,
            RouterScores::Sigmoid(_) => logits.sigmoid(),
        };
        let candidates = match router.scores {
            RouterScores::Sigmoid(Some(name)) => &scores + self.param(name, &[&experts.count]),
            _ => scores.clone(),
        };
        let candidates = match &router.groups {
            Some(groups) => groups.best_of(&candidates),
            None => candidates,
        };
        let (values, chosen) = candidates.top_k(router.chosen);
        let mut weights = match router.scores {
            RouterScores::Softmax => values,
            RouterScores::SoftmaxOfChosen => self.expand("softmax", &Softmax {}, &[&values]),
            RouterScores::Sigmoid(_) => scores.apply(Gather { axis: 2, batch: Some(2) }, &[&chosen]),
        };
        if let Some(least) = router.normalise {
            let sum = weights.reduce(ReduceKind::Sum, &[2]);
            weights = weights / if least == 0.0 { sum } else { sum + least };
        }
        if router.scale != 1.0 {
            weights = weights * router.scale;
        }
        (weights, chosen)
    }

    fn expert_layers(&self, experts: &Experts) -> ExpertLayers {
        let Experts { inner, count, .. } = experts;
        let width = experts.latent.as_ref().map_or(&experts.width, |latent| &latent.width);
        if self.has("experts.gate_proj.weight") {
            return self.separate_layers(experts);
        }
        let both = &(inner * 2);
        let stack = |name: &str, shape: [&Size; 2]| self.param(name, &[count, shape[0], shape[1]]);
        let each =
            |name: &str, shape: [&Size; 2]| self.param_stack(&format!("experts.{{e}}.{name}.weight"), count, &shape);
        match experts.tensors {
            ExpertTensors::Each([gate, up, down]) if !self.has("experts.gate_up_proj") => {
                let [gate, up] = [gate, up].map(|name| each(name, [inner, width]));
                let gate_up = self.builder.apply(Concat { axis: 1 }, &[&gate, &up]);
                ExpertLayers { inner: (gate_up, None), outer: (each(down, [width, inner]), None) }
            }
            ExpertTensors::Each(_) => ExpertLayers {
                inner: (stack("experts.gate_up_proj", [both, width]), None),
                outer: (stack("experts.down_proj", [width, inner]), None),
            },
            ExpertTensors::Stacked([gate_up, down]) => ExpertLayers {
                inner: (stack(gate_up, [both, width]), None),
                outer: (stack(down, [width, inner]), None),
            },
            ExpertTensors::Ungated(names) => {
                let [up, down] = [(names[0], [inner, width]), (names[1], [width, inner])].map(|(name, shape)| {
                    let stacked = format!("experts.{name}");
                    if self.has(&stacked) { stack(&stacked, shape) } else { each(name, shape) }
                });
                ExpertLayers { inner: (up, None), outer: (down, None) }
            }
            ExpertTensors::Alternating([gate_up, down]) => {
                let bias = |name: &str, size| self.param(&format!("{name}_bias"), &[count, size]);
                let rows = |name: &str, shape| stack(name, shape).transpose(&[0, 2, 1]);
                let (matrices, biases) = (rows(gate_up, [width, both]), bias(gate_up, both));
                ExpertLayers {
                    inner: (in_halves(&matrices, both), Some(in_halves(&biases, both))),
                    outer: (rows(down, [inner, width]), Some(bias(down, width))),
                }
            }
        }
    }

    /// The gates, inputs and results of all experts in a tensor each, as GGUF files hold them.
    fn separate_layers(&self, experts: &Experts) -> ExpertLayers {
        let Experts { width, inner, count, .. } = experts;
        let is_biased = matches!(experts.tensors, ExpertTensors::Alternating(_));
        let layer = |name: &str, [inputs, outputs]: [&Size; 2]| {
            let m = self.scope(&format!("experts.{name}"));
            (m.param("weight", &[count, outputs, inputs]), is_biased.then(|| m.param("bias", &[count, outputs])))
        };
        let [gate, up] = ["gate_proj", "up_proj"].map(|name| layer(name, [width, inner]));
        let both = |gate: &Value, up: &Value| self.builder.apply(Concat { axis: 1 }, &[gate, up]);
        let biases = gate.1.zip(up.1).map(|(gate, up)| both(&gate, &up));
        ExpertLayers { inner: (both(&gate.0, &up.0), biases), outer: layer("down_proj", [inner, width]) }
    }
}

/// Elements along axis 1 that take turns, those of each kind together.
fn in_halves(x: &Value, extent: &Size) -> Value {
    let every_other =
        |start: usize| x.apply(Slice { axis: 1, start: start.into(), end: extent.value().into(), step: Some(2) }, &[]);
    x.builder().concat(1, &[&every_other(0), &every_other(1)])
}

impl Gating {
    /// What an expert's last layer reads of what its first gives, `[b, s, k, ..]`: gates and inputs, `inner` of each,
    /// or inputs alone.
    fn apply(self, given: &Value, inner: usize) -> Value {
        let halves = || [0, inner].map(|start| given.slice(3, start, start + inner));
        match self {
            Gating::None(activation) => given.unary(activation),
            Gating::Plain(activation) => {
                let [gate, up] = halves();
                gate.unary(activation) * up
            }
            Gating::Clamped { alpha, limit } => {
                let [gate, up] = halves().map(|x| x.binary(BinaryOp::Min, &x.constant(limit)));
                let up = up.binary(BinaryOp::Max, &up.constant(-limit));
                (up + 1.0) * (&gate * (&gate * alpha).sigmoid())
            }
        }
    }
}

impl ExpertGroups {
    /// The scores `[b, s, experts]`, with zeros instead of those in groups that do not remain.
    fn best_of(&self, scores: &Value) -> Value {
        let (b, s, count) = (scores.dim(0), scores.dim(1), Dim::from(self.count));
        let Some(size) = scores.dim(2).as_constant().map(|n| n as usize / self.count) else { return scores.clone() };
        let grouped = scores.reshape([b.clone(), s.clone(), count.clone(), size.into()]);
        let best = match self.best {
            1 => grouped.reduce(ReduceKind::Max, &[3]),
            best => grouped.top_k(best).0.reduce(ReduceKind::Sum, &[3]),
        };
        let (_, kept) = best.reshape([b.clone(), s.clone(), count.clone()]).top_k(self.kept);
        let kept = kept.reshape([b, s, 1.into(), self.kept.into()]);
        let number = scores.builder().iota([count, 1.into()], 0);
        let is_kept = kept.binary(BinaryOp::Eq, &number).cast(DType::F32).reduce(ReduceKind::Max, &[3]);
        let is_kept = is_kept.binary(BinaryOp::Ne, &is_kept.constant(0.0));
        is_kept.select(&grouped, &grouped.constant(self.excluded())).reshape(scores.ty().shape)
    }

    /// The score of an expert that cannot be chosen.
    fn excluded(&self) -> f64 {
        // Scores with a correction may be negative.
        if self.best == 1 { 0.0 } else { f32::MIN.into() }
    }
}
