//! Attention: `softmax(scale·q·kᵀ …)·v` → `attention q, k, v …`.
//! The scores are never written to memory; each kernel keeps a running softmax (arXiv:2205.14135).

use castiron_ir::op::{Attention, Binary, BinaryOp, Dot, Op};
use castiron_ir::{BuildError, DType, Dim, Node, Region, Type, ValueId};

use crate::chains::Chains;
use crate::pattern::{Form, fuse};

/// Fuses attention in every form of its attributes.
///
/// # Errors
/// As [`fuse`].
pub fn run(region: &Region) -> Result<Region, BuildError> {
    fuse(region, |chains, node| match Shapes::of(chains, node) {
        Some(shapes) => variants(&shapes).into_iter().map(|variant| shapes.form(variant)).collect(),
        None => vec![],
    })
}

/// Operand types as far as they follow from the product of weights and values.
struct Shapes {
    q: Type,
    k: Type,
    v: Type,
    past: Type,
    mask: Type,
    bias: Type,
    /// Whether some keys are hidden: the exponentials are selected.
    masked: bool,
    /// Whether something is added to the sum of the exponentials.
    sinks: bool,
}

impl Shapes {
    fn of(chains: &Chains<'_>, node: &Node) -> Option<Shapes> {
        if node.op != Op::Dot(Dot { batch: vec![(0, 0), (1, 1)], contract: vec![(4, 2)] }) {
            return None;
        }
        let quotient = chains.producer(node.operands[0])?;
        let (Op::Binary(Binary(BinaryOp::Div)), [exponential, sum]) = (&quotient.op, &quotient.operands[..]) else {
            return None;
        };
        let weights = chains.region.type_of(node.operands[0]);
        let v = chains.region.type_of(node.operands[1]).clone();
        let [b, g, r, s, t] = &weights.shape[..] else { return None };
        let d = &Dim::symbol("d");
        let ty = |shape: &[&Dim]| v.with_shape(shape.iter().map(|&d| d.clone()).collect());
        Some(Shapes {
            q: ty(&[b, g, r, s, d]),
            k: ty(&[b, g, t, d]),
            past: Type::new(DType::I32, [b]),
            mask: Type::new(DType::Bool, [b, t]),
            bias: weights.clone(),
            sinks: is_sum_of_two(chains, *sum),
            masked: matches!(chains.producer(*exponential)?.op, Op::Select(_)),
            v,
        })
    }

    fn form(&self, variant: Variant) -> Form {
        let Variant { scaled, capped, visible, past, mask, bias } = variant;
        let sinks = self.sinks;
        let mut operands = vec![self.q.clone(), self.k.clone(), self.v.clone()];
        operands.extend(past.then(|| self.past.clone()));
        operands.extend(mask.then(|| self.mask.clone()));
        let masks = 3..operands.len();
        operands.extend(bias.then(|| self.bias.clone()));
        operands.extend(sinks.then(|| {
            let [b, g, r, s, _] = &self.bias.shape[..] else { return self.bias.clone() };
            self.bias.with_shape(vec![b.clone(), g.clone(), r.clone(), s.clone(), 1.into()])
        }));
        let mut placeholders = Vec::new();
        placeholders.extend(scaled.then_some(SCALE));
        placeholders.extend(capped.then_some(CAP));
        placeholders.extend(visible.windowed().then_some(WINDOW));
        let build = move |values: &[f64]| {
            let mut values = values.iter().copied();
            let scale = if scaled { values.next() } else { None }.unwrap_or(1.0);
            let soft_cap = if capped { values.next() } else { None };
            let window = if visible.windowed() { values.next() } else { None }.map(|w| w as usize);
            Attention { scale, soft_cap, causal: visible.causal(), window, scales: false, past, mask, bias, sinks }
                .into()
        };
        Form::new(operands, &placeholders, build).with_exact(masks)
    }
}

/// Whether a divisor, without its lower bound, is a sum of exponentials and something else.
fn is_sum_of_two(chains: &Chains<'_>, divisor: ValueId) -> bool {
    let is = |value: ValueId, op: BinaryOp| chains.producer(value).filter(|node| node.op == Op::Binary(Binary(op)));
    let bounded = is(divisor, BinaryOp::Max);
    let terms = bounded.map_or(vec![divisor], |node| node.operands.clone());
    terms.into_iter().any(|term| is(term, BinaryOp::Add).is_some())
}

/// Which attributes a form has.
#[derive(Clone, Copy)]
struct Variant {
    scaled: bool,
    capped: bool,
    visible: Visible,
    past: bool,
    mask: bool,
    bias: bool,
}

/// Which keys a query sees by position.
#[derive(Clone, Copy, PartialEq)]
enum Visible {
    All,
    Causal,
    CausalWindow,
    Window,
}

impl Visible {
    fn causal(self) -> bool {
        matches!(self, Visible::Causal | Visible::CausalWindow)
    }
    fn windowed(self) -> bool {
        matches!(self, Visible::CausalWindow | Visible::Window)
    }
}

/// Every combination with or without hidden keys; `past` has an effect on positions only.
fn variants(shapes: &Shapes) -> Vec<Variant> {
    let mut all = Vec::new();
    for visible in [Visible::All, Visible::Causal, Visible::CausalWindow, Visible::Window] {
        for flags in 0..32u32 {
            let flag = |bit: u32| flags >> bit & 1 == 1;
            let (past, mask) = (flag(0), flag(1));
            let hides = mask || visible != Visible::All;
            if hides == shapes.masked && !(past && visible == Visible::All) {
                all.push(Variant { visible, past, mask, bias: flag(2), capped: flag(3), scaled: !flag(4) });
            }
        }
    }
    all
}

/// Placeholders of the attributes in the pattern.
const SCALE: f64 = 0.158_203_125;
const CAP: f64 = 37.031_25;
const WINDOW: f64 = 7919.0;
