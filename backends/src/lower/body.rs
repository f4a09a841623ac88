//! The body of a cluster, ready to be turned into a kernel.

use std::sync::Arc;

use castiron_ir::op::{Concat, Gather, Op, Pad, Slice, fused};
use castiron_ir::{Dim, Node, OpDef, Region, Type, ValueId};

use super::LowerError;
use super::view::ValueView;
use crate::weights::{LoopIndex, WeightExpression, known_values};

/// A cluster's body in plain ops, but for attention and gated products, with its operands' places.
pub(super) struct Body {
    /// The plain ops.
    pub region: Arc<Region>,
    /// Names of the ops before expansion, for people.
    pub label: String,
    /// For each value, the node that defines it.
    pub definitions: Vec<Option<usize>>,
    /// For each value, whether it is a weight expression.
    pub known: Vec<bool>,
    operands: Vec<ValueView>,
}

/// A tensor in memory, as kernels read it: a view, perhaps at indices that are read too.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Operand {
    /// Where it lies.
    pub view: ValueView,
    /// What is added to the address.
    pub gathered: Option<Gathered>,
}

/// The address part of a gather.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Gathered {
    /// The indices, broadcast to the operand's shape.
    pub indices: ValueView,
    /// Elements from index to index.
    pub stride: Dim,
    /// Indices lie below it.
    pub extent: Dim,
}

/// A result of a cluster, with what happens to it on its way to memory.
pub(super) struct Store {
    /// What is stored.
    pub stored: Stored,
    /// Where it goes.
    pub target: Operand,
    /// Stores of a later turn overwrite parts of what earlier ones wrote.
    pub turn: usize,
}

/// What a store writes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stored {
    /// A value of the body.
    Value(ValueId),
    /// The same number everywhere: the border of a `pad`.
    Fill(f64),
}

/// Memory that a value goes to, on the way there.
struct Target {
    operand: Operand,
    turn: usize,
    /// What has been written all over it in the turn before.
    filled: Option<f64>,
}

impl Target {
    fn map(self, change: impl FnOnce(&Operand) -> Operand) -> Target {
        Target { operand: change(&self.operand), ..self }
    }
}

impl Body {
    pub fn new(region: &Region, operands: Vec<ValueView>, index: Option<&LoopIndex>) -> Result<Body, LowerError> {
        let known = known_values(region, index);
        let computed = region.nodes.iter().filter(|n| n.results.iter().any(|r| !known[r.index()]));
        let names: Vec<&str> = computed.map(|n| n.op.name()).collect();
        let label = if names.is_empty() { "constant".to_owned() } else { names.join("+") };
        Ok(Body::of_parts(expand(region)?, operands, label, index))
    }

    /// A body of plain ops.
    pub fn of_parts(region: Region, operands: Vec<ValueView>, label: String, index: Option<&LoopIndex>) -> Body {
        let (known, definitions) = (known_values(&region, index), region.definitions());
        Body { region: Arc::new(region), label, definitions, known, operands }
    }

    /// The node that defines a value.
    pub fn producer(&self, value: ValueId) -> Option<&Node> {
        self.definitions[value.index()].map(|d| &self.region.nodes[d])
    }

    /// Type of a value.
    pub fn ty(&self, value: ValueId) -> &Type {
        self.region.type_of(value)
    }

    /// A known value.
    pub fn weight(&self, value: ValueId) -> WeightExpression {
        WeightExpression::new(&self.region, &self.definitions, value)
    }

    /// Whether the body does nothing but write an operand to a state where that lies already.
    pub fn is_written(&self, target: &ValueView) -> bool {
        let writes = |node: &Node| matches!(node.op, Op::StateWrite(_)).then(|| self.argument(node.operands[0]));
        let source = self.producer(self.region.results[0]).and_then(writes).flatten();
        self.region.results.len() == 1 && source == Some(target)
    }

    /// The value that a value is a slice of, and the slice, if the body takes several slices of it: as one
    /// weight they are one buffer.
    pub fn slice_of_several(&self, value: ValueId) -> Option<(ValueId, &Slice)> {
        let node = self.producer(value)?;
        let Op::Slice(slice) = &node.op else { return None };
        let whole = node.operands[0];
        let is_slice = |n: &&Node| matches!(n.op, Op::Slice(_)) && n.operands[0] == whole;
        (self.region.nodes.iter().filter(is_slice).count() > 1).then_some((whole, slice))
    }

    /// The state that result `i` is an update of.
    pub fn updated_state(&self, i: usize) -> Option<&str> {
        match &self.producer(self.region.results[i])?.op {
            Op::StateUpdate(update) => Some(&update.state),
            Op::StateWrite(write) => Some(&write.state),
            _ => None,
        }
    }

    /// Whether the indices of a gather vary along the last axis, so that no row has one index.
    pub fn gathers_along_last_axis(&self) -> bool {
        self.region.nodes.iter().any(|n| match &n.op {
            Op::Gather(gather) => gather.axis + 1 == self.ty(n.operands[0]).rank(),
            _ => false,
        })
    }

    /// The operand that an argument stands for.
    pub fn argument(&self, value: ValueId) -> Option<&ValueView> {
        self.region.arguments.iter().position(|&a| a == value).map(|i| &self.operands[i])
    }

    /// What is stored: results without the state updates, transposes, concatenations and paddings around
    /// them.
    pub fn stores(&self, targets: &[ValueView]) -> Result<Vec<Store>, LowerError> {
        let mut stores = Vec::new();
        for (&result, target) in self.region.results.iter().zip(targets) {
            let operand = Operand { view: target.clone(), gathered: None };
            self.peel(result, Target { operand, turn: 0, filled: None }, &mut stores)?;
        }
        Ok(stores)
    }

    fn peel(&self, value: ValueId, target: Target, stores: &mut Vec<Store>) -> Result<(), LowerError> {
        let store = |Target { operand, turn, .. }| Store { stored: Stored::Value(value), target: operand, turn };
        let Some(node) = self.producer(value).filter(|_| !self.known[value.index()]) else {
            stores.push(store(target));
            return Ok(());
        };
        match &node.op {
            Op::StateWrite(_) => self.peel(node.operands[0], target, stores),
            Op::StateUpdate(update) => {
                let rows = &self.ty(node.operands[0]).shape;
                let position = self.argument(node.operands[1]).ok_or_else(|| {
                    LowerError::unsupported("state_update", "its position is computed in the cluster")
                })?;
                let mut strides = vec![Dim::from(0); rows.len()];
                strides[0] = position.strides[0].clone();
                let indices = ValueView { shape: rows.clone(), strides, ..position.clone() };
                let whole = target.operand.view;
                let stride = whole.strides[update.axis].clone();
                let extent = whole.shape[update.axis].clone() - rows[update.axis].clone() + Dim::from(1);
                let view = ValueView { shape: rows.clone(), ..whole };
                let operand = Operand { view, gathered: Some(Gathered { indices, stride, extent }) };
                self.peel(node.operands[0], Target { operand, ..target }, stores)
            }
            Op::Transpose(transpose) => {
                let mut inverse = vec![0; transpose.axes.len()];
                transpose.axes.iter().enumerate().for_each(|(to, &from)| inverse[from] = to);
                self.peel(node.operands[0], target.map(|t| t.transpose(&inverse)), stores)
            }
            Op::Concat(Concat { axis }) => {
                let mut start = Dim::from(0);
                for &part in &node.operands {
                    let end = start.clone() + self.ty(part).shape[*axis].clone();
                    let operand = target.operand.slice(*axis, &start, &end, 1);
                    self.peel(part, Target { operand, ..target }, stores)?;
                    start = end;
                }
                Ok(())
            }
            Op::Pad(pad) => self.peel(node.operands[0], self.filled(pad, node.operands[0], target, stores), stores),
            _ => {
                stores.push(store(target));
                Ok(())
            }
        }
    }

    /// Fills the target of a `pad`, unless that has been done; gives the part inside the border.
    fn filled(&self, pad: &Pad, operand: ValueId, target: Target, stores: &mut Vec<Store>) -> Target {
        let end = pad.before.clone() + self.ty(operand).shape[pad.axis].clone();
        let inside = target.operand.slice(pad.axis, &pad.before, &end, 1);
        if inside == target.operand || target.filled == Some(pad.value) {
            return Target { operand: inside, ..target };
        }
        let Target { operand, turn, .. } = target;
        stores.push(Store { stored: Stored::Fill(pad.value), target: operand, turn });
        Target { operand: inside, turn: turn + 1, filled: Some(pad.value) }
    }

    /// A value that lies in memory: an argument, or a movement or gather of one.
    pub fn operand(&self, value: ValueId, table: &mut dyn FnMut(WeightExpression) -> ValueView) -> Option<Operand> {
        if let Some(view) = self.argument(value) {
            return Some(Operand { view: view.clone(), gathered: None });
        }
        let node = self.producer(value)?;
        if self.known[value.index()] {
            return None;
        }
        match &node.op {
            Op::Gather(gather) => {
                let x = match self.known[node.operands[0].index()] {
                    true => Operand { view: table(self.weight(node.operands[0])), gathered: None },
                    false => self.operand(node.operands[0], table)?,
                };
                let indices = self.argument(node.operands[1])?;
                (x.gathered.is_none()).then(|| gathered(gather, &x.view, indices, &self.ty(value).shape))
            }
            Op::Transpose(t) => Some(self.operand(node.operands[0], table)?.transpose(&t.axes)),
            Op::Slice(s) => {
                let step = s.step.unwrap_or(1) as i64;
                Some(self.operand(node.operands[0], table)?.slice(s.axis, &s.start, &s.end, step))
            }
            Op::Broadcast(_) => {
                let shape = &self.ty(value).shape;
                let plain = self.operand(node.operands[0], table)?;
                plain.gathered.is_none().then(|| Operand { view: plain.view.broadcast(shape), gathered: None })
            }
            Op::Window(window) => {
                let plain = self.operand(node.operands[0], table)?;
                let view = plain.view.window(window, &self.ty(value).shape);
                plain.gathered.is_none().then_some(Operand { view, gathered: None })
            }
            Op::Reshape(_) => {
                let plain = self.operand(node.operands[0], table)?;
                let view = plain.view.reshape(&self.ty(value).shape)?;
                plain.gathered.is_none().then_some(Operand { view, gathered: None })
            }
            _ => None,
        }
    }
}

impl Operand {
    fn transpose(&self, axes: &[usize]) -> Operand {
        let gathered = self.gathered.as_ref().map(|g| Gathered { indices: g.indices.transpose(axes), ..g.clone() });
        Operand { view: self.view.transpose(axes), gathered }
    }

    fn slice(&self, axis: usize, start: &Dim, end: &Dim, step: i64) -> Operand {
        let slice = |view: &ValueView| view.slice(axis, start, end, step);
        let gathered = self.gathered.as_ref().map(|g| Gathered { indices: slice(&g.indices), ..g.clone() });
        Operand { view: slice(&self.view), gathered }
    }
}

/// The view of a gather's result: strides of `x` without the indexed axis, and of the indices.
fn gathered(gather: &Gather, x: &ValueView, indices: &ValueView, shape: &[Dim]) -> Operand {
    let (axis, batch) = (gather.axis, gather.batch.unwrap_or(0));
    let inner = indices.shape.len() - batch;
    let zeros = |n: usize| vec![Dim::from(0); n];
    let strides = [&x.strides[..axis], &zeros(inner), &x.strides[axis + 1..]].concat();
    let by_index = [
        &indices.strides[..batch],
        &zeros(axis - batch),
        &indices.strides[batch..],
        &zeros(x.strides.len() - axis - 1),
    ];
    let view = ValueView { shape: shape.to_vec(), strides, ..x.clone() };
    let indices = ValueView { shape: shape.to_vec(), strides: by_index.concat(), ..indices.clone() };
    let gathered = Gathered { indices, stride: x.strides[axis].clone(), extent: x.shape[axis].clone() };
    Operand { view, gathered: Some(gathered) }
}

/// The region with fused ops replaced by their definitions, but for those that have kernels.
fn expand(region: &Region) -> Result<Region, LowerError> {
    let mut out = Region::default();
    let mut values: Vec<Option<ValueId>> = vec![None; region.value_count()];
    for (&argument, name) in region.arguments.iter().zip(&region.argument_names) {
        values[argument.index()] = Some(out.push_argument(name, region.type_of(argument).clone()));
    }
    for node in &region.nodes {
        let operands = mapped(&values, &node.operands);
        let types = region.types_of(&node.results);
        let results = match node.op.as_fused() {
            Some(fused_op) if !matches!(node.op, Op::Attention(_) | Op::GatedMlp(_)) => {
                let definition = fused::expansion(fused_op, &region.types_of(&node.operands))
                    .map_err(|e| LowerError::unsupported(node.op.name(), e.to_string()))?;
                inline(&mut out, &definition, &operands)
            }
            _ => out.push_node(node.op.clone(), operands, types).to_vec(),
        };
        for (&old, new) in node.results.iter().zip(results) {
            values[old.index()] = Some(new);
        }
    }
    out.results = mapped(&values, &region.results);
    Ok(out)
}

fn inline(out: &mut Region, definition: &Region, arguments: &[ValueId]) -> Vec<ValueId> {
    let mut values: Vec<Option<ValueId>> = vec![None; definition.value_count()];
    for (&parameter, &argument) in definition.arguments.iter().zip(arguments) {
        values[parameter.index()] = Some(argument);
    }
    for node in &definition.nodes {
        let operands = mapped(&values, &node.operands);
        let results = out.push_node(node.op.clone(), operands, definition.types_of(&node.results)).to_vec();
        for (&old, new) in node.results.iter().zip(results) {
            values[old.index()] = Some(new);
        }
    }
    mapped(&values, &definition.results)
}

fn mapped(values: &[Option<ValueId>], olds: &[ValueId]) -> Vec<ValueId> {
    olds.iter().map(|o| values[o.index()].expect("values are defined before their uses")).collect()
}
