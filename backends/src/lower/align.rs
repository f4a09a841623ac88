//! A scan's step with all values over the same axes in the same order: time, the lanes, the row.
//!
//! What is left are elementwise ops and reductions over the last axis: movement has become views of
//! operands, and a `dot` is a product and a sum.

use std::collections::HashMap;

use castiron_ir::op::{Binary, BinaryOp, Constant, Iota, Op, Reduce, ReduceKind, Reshape, Transpose};
use castiron_ir::{DType, Dim, Node, OpDef, Region, Type, ValueId};
use castiron_runtime::program::view::Place;

use super::axes::Axes;
use super::body::Body;
use super::scan::Step;
use super::view::ValueView;
use super::{LowerError, Lowering};

/// The axes of a kernel: classes of a step's axes by their places after time; the last is the row.
pub(super) struct Walk<'a> {
    pub step: &'a Step<'a>,
    pub axes: &'a Axes,
    /// The lanes, then the row; `None` if rows are of one element.
    pub classes: Vec<Option<usize>>,
}

impl Walk<'_> {
    /// The lanes and the row.
    pub fn space(&self) -> Vec<Dim> {
        self.classes.iter().map(|class| class.map_or(Dim::from(1), |c| self.axes.extent(c).clone())).collect()
    }

    /// A view over the walk's axes, given the classes of its own and the elements from step to step.
    pub fn place(&self, view: &ValueView, own: &[Option<usize>], time: Option<&Dim>) -> ValueView {
        let (steps, stride) = time.map_or((Dim::from(1), Dim::from(0)), |t| (self.step.steps.clone(), t.clone()));
        let (mut shape, mut strides) = (vec![steps], vec![stride]);
        for (class, extent) in self.classes.iter().zip(self.space()) {
            let axis = class.and_then(|class| own.iter().position(|&other| other == Some(class)));
            shape.push(if axis.is_some() { extent } else { 1.into() });
            strides.push(axis.map_or(0.into(), |axis| view.strides[axis].clone()));
        }
        ValueView { shape, strides, ..view.clone() }
    }

    /// The type of a value over the walk's axes.
    pub fn ty(&self, value: ValueId) -> Type {
        let body = self.step.body;
        let own = self.axes.of(&body.region, value);
        let extent = |(class, extent): (&Option<usize>, Dim)| {
            let is_own = class.is_some() && own.contains(class);
            if is_own { extent } else { Dim::from(1) }
        };
        let extents = self.classes.iter().zip(self.space()).map(extent);
        Type::new(body.ty(value).dtype, std::iter::once(Dim::from(1)).chain(extents))
    }
}

/// A step whose values are aligned.
pub(super) struct Aligned {
    /// The aligned step.
    pub body: Body,
    /// What stands for each value of the step that is needed.
    pub values: HashMap<ValueId, ValueId>,
}

impl Lowering<'_> {
    /// Aligns what some values of a step depend on.
    pub(super) fn align(&mut self, walk: &Walk<'_>, wanted: &[ValueId]) -> Result<Aligned, LowerError> {
        let (region, values) = (Region::default(), HashMap::new());
        let mut aligner = Aligner { lowering: self, walk, region, operands: Vec::new(), values };
        wanted.iter().try_for_each(|&value| aligner.value(value).map(drop))?;
        let Aligner { region, operands, values, .. } = aligner;
        let label = walk.step.body.label.clone();
        Ok(Aligned { body: Body::of_parts(region, operands, label, self.index.as_ref()), values })
    }
}

struct Aligner<'a, 'l> {
    lowering: &'a mut Lowering<'l>,
    walk: &'a Walk<'a>,
    region: Region,
    operands: Vec<ValueView>,
    values: HashMap<ValueId, ValueId>,
}

impl Aligner<'_, '_> {
    fn value(&mut self, value: ValueId) -> Result<ValueId, LowerError> {
        if let Some(&known) = self.values.get(&value) {
            return Ok(known);
        }
        let (body, axes) = (self.walk.step.body, self.walk.axes);
        let aligned = if body.known[value.index()] {
            self.known(value)
        } else if let Some(source) = axes.source(value) {
            self.operand(value, source)?
        } else if axes.carried(value).is_some() {
            let ty = self.walk.ty(value);
            // The kernel gives it; its place is where the kernel leaves it.
            self.argument(ValueView::contiguous(Place::Index(0), &ty), ty.dtype)
        } else {
            let node = body.producer(value).ok_or_else(|| LowerError::unsupported("scan", "an argument is missing"))?;
            self.computed(value, node)?
        };
        self.values.insert(value, aligned);
        Ok(aligned)
    }

    fn push(&mut self, op: impl Into<Op>, operands: Vec<ValueId>, ty: Type) -> ValueId {
        self.region.push_node(op.into(), operands, vec![ty])[0]
    }

    fn argument(&mut self, view: ValueView, dtype: DType) -> ValueId {
        let ty = Type { dtype, shape: view.shape.clone() };
        let name = format!("a{}", self.operands.len());
        self.operands.push(view);
        self.region.push_argument(&name, ty)
    }

    /// What lies in memory, as a view.
    fn operand(&mut self, value: ValueId, source: usize) -> Result<ValueId, LowerError> {
        let step = self.walk.step;
        let Lowering { weights, index, .. } = &mut *self.lowering;
        let mut table = |expression: crate::weights::WeightExpression| {
            let ty = expression.ty().clone();
            ValueView::contiguous(Place::Weight(weights.table(expression, index.as_ref())), &ty)
        };
        let operand = step.body.operand(value, &mut table);
        let operand = operand.ok_or_else(|| LowerError::unsupported("reshape", "no strides express it in a scan"))?;
        let own = self.walk.axes.of(&step.body.region, value);
        let view = self.walk.place(&operand.view, &own, step.time[source].as_ref());
        Ok(self.argument(view, step.body.ty(value).dtype))
    }

    /// What is known when the model is compiled, with its axes put in order.
    fn known(&mut self, value: ValueId) -> ValueId {
        let body = self.walk.step.body;
        let ty = self.walk.ty(value);
        if let Some(Op::Constant(constant)) = body.producer(value).map(|node| &node.op)
            && let Some(x) = constant.splat()
        {
            return self.constant(x, ty.dtype);
        }
        let copied = self.copied(value);
        let own = self.walk.axes.of(&body.region, value);
        let place = |axis: usize| self.walk.classes.iter().position(|class| class.is_some() && *class == own[axis]);
        let mut axes: Vec<usize> = (0..own.len()).collect();
        axes.sort_by_key(|&axis| place(axis));
        let shape: Vec<Dim> = axes.iter().map(|&axis| body.ty(value).shape[axis].clone()).collect();
        let turned = self.push(Transpose { axes }, vec![copied], Type { dtype: ty.dtype, shape });
        self.push(Reshape { to: ty.shape.clone() }, vec![turned], ty)
    }

    fn constant(&mut self, x: f64, dtype: DType) -> ValueId {
        let shape = vec![Dim::from(1); 1 + self.walk.classes.len()];
        let ty = Type { dtype, shape };
        self.push(Constant { values: vec![x], ty: ty.clone() }, Vec::new(), ty)
    }

    /// A known value as it is.
    fn copied(&mut self, value: ValueId) -> ValueId {
        let body = self.walk.step.body;
        let Some(node) = body.producer(value) else { return self.constant(0.0, body.ty(value).dtype) };
        let operands = node.operands.iter().map(|&operand| self.copied(operand)).collect();
        self.push(node.op.clone(), operands, body.ty(value).clone())
    }

    fn computed(&mut self, value: ValueId, node: &Node) -> Result<ValueId, LowerError> {
        let (body, ty) = (self.walk.step.body, self.walk.ty(value));
        let last = vec![self.walk.classes.len()];
        let sums = !self.walk.axes.reduced(body, value).is_empty();
        match &node.op {
            Op::Unary(_) | Op::Binary(_) | Op::Select(_) | Op::Cast(_) => {
                let operands = node.operands.iter().map(|&o| self.value(o)).collect::<Result<_, _>>()?;
                Ok(self.push(node.op.clone(), operands, ty))
            }
            Op::Transpose(_) | Op::Reshape(_) | Op::Broadcast(_) => self.value(node.operands[0]),
            Op::Reduce(reduce) => {
                let x = self.value(node.operands[0])?;
                Ok(if sums { self.push(Reduce { kind: reduce.kind, axes: last }, vec![x], ty) } else { x })
            }
            Op::Dot(_) => {
                let (a, b) = (self.value(node.operands[0])?, self.value(node.operands[1])?);
                let product = self.push(Binary(BinaryOp::Mul), vec![a, b], ty.clone());
                let sum = Reduce { kind: ReduceKind::Sum, axes: last };
                Ok(if sums { self.push(sum, vec![product], ty) } else { product })
            }
            Op::Constant(constant) => match constant.splat() {
                Some(x) => Ok(self.constant(x, ty.dtype)),
                None => Err(LowerError::unsupported("constant", "its values depend on a symbolic extent")),
            },
            Op::Iota(iota) => {
                let class = self.walk.axes.of(&body.region, value)[iota.axis];
                match self.walk.classes.iter().position(|other| other.is_some() && *other == class) {
                    Some(place) => Ok(self.push(Iota { axis: 1 + place, ty: ty.clone() }, Vec::new(), ty)),
                    None => Ok(self.constant(0.0, ty.dtype)),
                }
            }
            Op::Extent(_) => Ok(self.push(node.op.clone(), Vec::new(), ty)),
            op => Err(LowerError::unsupported(op.name(), "a step of a scan computes rows only")),
        }
    }
}
