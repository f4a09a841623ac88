//! Recognition of fused ops by their own definitions.
//!
//! An op's expansion, brought into canonical form, is the pattern; there is no second description
//! of it. Matching goes in two steps, since attributes and operand types are not known before:
//! 1. the expansion with placeholder attributes is laid over the graph, shapes and constants aside,
//!    which binds the operands and finds the attributes' values where the placeholders stand;
//! 2. the expansion with these attributes on these operands has to match in everything.

use std::collections::HashMap;
use std::rc::Rc;

use castiron_ir::op::fused::expansion;
use castiron_ir::op::{Binary, BinaryOp, Constant, Op, Reduce};
use castiron_ir::{BuildError, DType, Node, OpDef, Region, Type, Value, ValueId};

use crate::chains::Chains;
use crate::rewrite::{each_region, rebuild};
use crate::{canonicalize, cse, dce};

/// An op from the values of its placeholders.
type MakeOp = Box<dyn Fn(&[f64]) -> Op>;

/// One form in which a fused op may occur.
pub struct Form {
    operands: Vec<Type>,
    exact: Vec<Option<Type>>,
    placeholders: Vec<f64>,
    op: MakeOp,
}

/// An op found in a graph.
struct Found {
    op: Op,
    /// Its operands, each with the type to reshape it to.
    operands: Vec<(ValueId, Type)>,
}

/// Rebuilds a region with each occurrence of one of the forms of its root replaced by the op.
///
/// # Errors
/// As [`rebuild`].
pub fn fuse(region: &Region, forms: impl Fn(&Chains<'_>, &Node) -> Vec<Form>) -> Result<Region, BuildError> {
    let chains = Chains::new(region);
    let mut definitions = Definitions::default();
    rebuild(region, |rewriter, node| {
        let found = forms(&chains, node).iter().find_map(|form| form.find(&mut definitions, &chains, node))?;
        let operand = |(v, ty): &(ValueId, Type)| {
            let value = rewriter.get(*v);
            if value.ty() == *ty { value } else { value.reshape(ty.shape.iter()) }
        };
        let operands: Vec<Value> = found.operands.iter().map(operand).collect();
        Some(rewriter.new.apply_all(found.op, &operands.iter().collect::<Vec<_>>()))
    })
}

impl Form {
    /// A form with operand types as far as they are known (the first step uses ranks and dtypes),
    /// placeholders that occur nowhere else, and the op of given values in their place.
    pub fn new(operands: Vec<Type>, placeholders: &[f64], op: impl Fn(&[f64]) -> Op + 'static) -> Form {
        let exact = vec![None; operands.len()];
        Form { operands, exact, placeholders: placeholders.to_vec(), op: Box::new(op) }
    }

    /// Asks for the known types of some operands; one that differs by unit axes is reshaped.
    pub fn with_exact(mut self, operands: impl IntoIterator<Item = usize>) -> Form {
        for i in operands {
            self.exact[i] = Some(self.operands[i].clone());
        }
        self
    }

    /// The op that ends at a node.
    fn find(&self, definitions: &mut Definitions, chains: &Chains<'_>, node: &Node) -> Option<Found> {
        let [root] = node.results[..] else { return None };
        let pattern = definitions.get(&(self.op)(&self.placeholders), &self.operands)?;
        let loose = Matcher { pattern: Chains::new(&pattern), graph: chains, placeholders: Some(&self.placeholders) };
        let found = loose.find(root, State::default())?;
        let values: Option<Vec<f64>> =
            self.placeholders.iter().map(|p| found.constants.get(&p.to_bits()).copied()).collect();
        let op = (self.op)(&values?);
        let mut operands = Vec::new();
        for (i, a) in pattern.arguments.iter().enumerate() {
            let value = *found.values.get(a)?;
            let ty = chains.region.type_of(value).clone();
            let wanted = self.exact[i].clone().unwrap_or_else(|| ty.clone());
            if ty.dtype != wanted.dtype || ty.elements() != wanted.elements() {
                return None;
            }
            operands.push((value, wanted));
        }
        let types: Vec<Type> = operands.iter().map(|o| o.1.clone()).collect();
        let pattern = definitions.get(&op, &types)?;
        let exact = Matcher { pattern: Chains::new(&pattern), graph: chains, placeholders: None };
        let bound = pattern.arguments.iter().copied().zip(operands.iter().map(|o| o.0)).collect();
        exact.find(root, State { values: bound, constants: HashMap::new() })?;
        Some(Found { op, operands })
    }
}

/// Expansions in canonical form, kept by op and operand types: layers ask for the same ones.
#[derive(Default)]
pub(crate) struct Definitions(HashMap<String, Option<Rc<Region>>>);

impl Definitions {
    /// The definition of an op; `None` when it does not take such operands.
    pub(crate) fn get(&mut self, op: &Op, operands: &[Type]) -> Option<Rc<Region>> {
        let mut key = op.name().to_owned();
        op.print_attributes(&mut key);
        operands.iter().for_each(|ty| key.push_str(&format!(" {ty}")));
        let make = || {
            let plain = expansion(op.as_fused()?, operands).ok()?;
            let tidy = |region: &Region| dce::sweep(&cse::run(&canonicalize::run(region)?)?);
            each_region(&plain, &|_| true, &tidy).ok().map(Rc::new)
        };
        self.0.entry(key).or_insert_with(make).clone()
    }
}

/// What is bound so far.
#[derive(Clone, Default)]
struct State {
    /// Graph values by pattern value.
    values: HashMap<ValueId, ValueId>,
    /// Constants of the graph by the bits of the placeholder.
    constants: HashMap<u64, f64>,
}

/// A pattern laid over a graph.
struct Matcher<'a> {
    pattern: Chains<'a>,
    graph: &'a Chains<'a>,
    /// Present in the first step, which looks at structure only.
    placeholders: Option<&'a [f64]>,
}

impl Matcher<'_> {
    fn find(&self, root: ValueId, state: State) -> Option<State> {
        let [result] = self.pattern.region.results[..] else { return None };
        self.unify(vec![(result, root)], state)
    }

    /// Matches the open pairs of pattern and graph values, the last first.
    fn unify(&self, mut open: Vec<(ValueId, ValueId)>, mut state: State) -> Option<State> {
        while let Some((pattern, graph)) = open.pop() {
            if let Some(bound) = state.values.insert(pattern, graph) {
                if bound != graph {
                    return None;
                }
                continue;
            }
            let Some(node) = self.pattern.producer(pattern) else { continue };
            let other = self.graph.producer(graph)?;
            if let Op::Constant(c) = &node.op {
                self.constant(c, self.graph.constant(graph)?, &mut state)?;
                continue;
            }
            if let Some((x, factor)) = self.as_product(node, other) {
                let [p, c] = node.operands[..] else { return None };
                self.constant(self.pattern.constant(c)?, &factor, &mut state)?;
                open.push((p, x));
                continue;
            }
            if !self.same_op((pattern, node), (graph, other)) {
                return None;
            }
            let zip = |order: &mut dyn Iterator<Item = &ValueId>| -> Vec<(ValueId, ValueId)> {
                order.copied().zip(other.operands.iter().copied()).collect()
            };
            if matches!(&node.op, Op::Binary(Binary(op)) if op.is_commutative()) {
                let swapped = zip(&mut node.operands.iter().rev());
                if let Some(found) = self.unify([open.as_slice(), &swapped].concat(), state.clone()) {
                    return Some(found);
                }
            }
            open.extend(zip(&mut node.operands.iter()));
        }
        Some(state)
    }

    /// Whether an op of the pattern stands for one of the graph, operands aside.
    fn same_op(&self, pattern: (ValueId, &Node), graph: (ValueId, &Node)) -> bool {
        let (p, g) = (&pattern.1.op, &graph.1.op);
        if pattern.1.operands.len() != graph.1.operands.len() {
            return false;
        }
        if self.placeholders.is_none() {
            return p == g && self.pattern.region.type_of(pattern.0) == self.graph.region.type_of(graph.0);
        }
        match (p, g) {
            (Op::Reduce(Reduce { kind: a, .. }), Op::Reduce(Reduce { kind: b, .. })) => a == b,
            (Op::Dot(a), Op::Dot(b)) => a == b,
            _ => p.name() == g.name(),
        }
    }

    /// `x / c` read as `x · (1/c)` where the pattern has a product with a constant.
    fn as_product(&self, pattern: &Node, graph: &Node) -> Option<(ValueId, Constant)> {
        let (Op::Binary(Binary(BinaryOp::Mul)), Op::Binary(Binary(BinaryOp::Div))) = (&pattern.op, &graph.op) else {
            return None;
        };
        let c = self.graph.constant(graph.operands[1])?;
        Some((graph.operands[0], Constant { values: vec![1.0 / c.splat()?], ty: c.ty.clone() }))
    }

    /// Notes a placeholder's value, or compares constants up to the rounding of one operation.
    fn constant(&self, pattern: &Constant, graph: &Constant, state: &mut State) -> Option<()> {
        let rounding = if graph.ty.dtype == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) };
        let Some(placeholders) = self.placeholders else {
            let close = |a: f64, b: f64| a == b || (a - b).abs() <= rounding * a.abs();
            let equal = pattern.values.len() == graph.values.len()
                && pattern.values.iter().zip(&graph.values).all(|(&a, &b)| close(a, b));
            return equal.then_some(());
        };
        let value = graph.splat()?;
        let value = if graph.ty.dtype == DType::F32 { shortest(value) } else { value };
        match pattern.splat().filter(|p| placeholders.contains(p)) {
            Some(p) if *state.constants.entry(p.to_bits()).or_insert(value) != value => None,
            _ => Some(()),
        }
    }
}

/// The shortest decimal number that rounds to the same f32: 1e-5 where the graph holds
/// 9.999999747378752e-6.
fn shortest(value: f64) -> f64 {
    (value as f32).to_string().parse().unwrap_or(value)
}
