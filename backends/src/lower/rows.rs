//! Row programs: map and row clusters, and the epilogues of products.

use std::collections::HashMap;

use castiron_ir::op::{BinaryOp, Op, ReduceKind, UnaryOp};
use castiron_ir::{DType, Dim, OpDef, ValueId};
use castiron_runtime::program::row::{Access, MAX_NODES, MAX_OPERANDS, RowNode, RowNodeId, RowProgram, RowReduce};
use castiron_runtime::program::view::{Indirect, Place, View};
use castiron_runtime::program::{KernelBody, RowOperands, Rows, Step};

use super::body::{Body, Operand, Store, Stored};
use super::view::ValueView;
use super::{LowerError, Lowering, is_row_dtype};
use crate::weights::{LoopIndex, WeightExpression, WeightTable};

impl Lowering<'_> {
    /// A map or row cluster. Results over different iteration spaces take a kernel each.
    pub(super) fn rows(&mut self, body: &Body, targets: &[ValueView], steps: &mut Vec<Step>) -> Result<(), LowerError> {
        if let Some(kernel) = self.reduction(body, targets)? {
            steps.push(self.kernels.push(body.label.clone(), kernel));
            return Ok(());
        }
        let mut groups: Vec<(usize, Vec<Dim>, Vec<Store>)> = Vec::new();
        for store in body.stores(targets)? {
            let mut space = store.target.view.shape.clone();
            if let Stored::Value(value) = store.stored {
                widen(body, value, &mut space);
            }
            match groups.iter_mut().find(|(turn, known, _)| *turn == store.turn && *known == space) {
                Some((.., stores)) => stores.push(store),
                None => groups.push((store.turn, space, vec![store])),
            }
        }
        groups.sort_by_key(|(turn, ..)| *turn);
        for (_, space, stores) in groups {
            let unit_row = space.is_empty() || body.gathers_along_last_axis();
            let mut builder = RowBuilder::new(body, self.weights, self.index.as_ref(), &space, unit_row);
            stores.iter().try_for_each(|store| builder.store(store))?;
            let (space, operands) = builder.finish()?;
            steps.push(self.kernels.push(body.label.clone(), KernelBody::Rows(Rows { space, operands })));
        }
        Ok(())
    }

    /// A single reduction over axes other than the last: the reduced axis becomes the row.
    fn reduction(&mut self, body: &Body, targets: &[ValueView]) -> Result<Option<KernelBody>, LowerError> {
        let Some(node) = body.producer(body.region.results[0]) else { return Ok(None) };
        let Op::Reduce(reduce) = &node.op else { return Ok(None) };
        let Some(operand) = body.argument(node.operands[0]) else { return Ok(None) };
        let rank = operand.shape.len();
        if reduce.axes == [rank - 1] || body.region.results.len() != 1 {
            return Ok(None);
        }
        let kept = (0..rank).filter(|a| !reduce.axes.contains(a));
        let order: Vec<usize> = kept.clone().chain(reduce.axes.iter().copied()).collect();
        let leading: Vec<Dim> = kept.map(|a| operand.shape[a].clone()).collect();
        let length = Dim::product(reduce.axes.iter().map(|&a| &operand.shape[a]));
        let space: Vec<Dim> = leading.iter().cloned().chain([length]).collect();
        let reshaped = operand.transpose(&order).reshape(&space);
        let x = reshaped.ok_or_else(|| LowerError::unsupported("reduce", "these axes do not lie one in another"))?;
        let mut output = targets[0].transpose(&order);
        output.shape.truncate(leading.len());
        output.strides.truncate(leading.len());
        let mut strides = output.strides.clone();
        strides.push(0.into());
        let nodes = vec![RowNode::Input(0), RowNode::Reduce(row_reduce(reduce.kind)?, 0)];
        let program = RowProgram { inputs: vec![Access::Element], nodes, stores: vec![1] };
        let operands = RowOperands { program, inputs: vec![x.over_own_axes()], outputs: vec![output.over(strides)] };
        Ok(Some(KernelBody::Rows(Rows { space, operands })))
    }
}

fn row_reduce(kind: ReduceKind) -> Result<RowReduce, LowerError> {
    match kind {
        ReduceKind::Sum => Ok(RowReduce::Sum),
        ReduceKind::Max => Ok(RowReduce::Max),
        ReduceKind::Min => Ok(RowReduce::Min),
        ReduceKind::Product => Err(LowerError::unsupported("reduce", "products have no kernel")),
    }
}

/// Widens an iteration space to what the computation of a value needs: a reduction gives one value
/// for a whole row.
fn widen(body: &Body, value: ValueId, space: &mut Vec<Dim>) {
    let Some(node) = body.producer(value).filter(|_| !body.known[value.index()]) else { return };
    let is_computed = matches!(node.op, Op::Unary(_) | Op::Binary(_) | Op::Select(_) | Op::Cast(_) | Op::Reduce(_));
    if !is_computed {
        return;
    }
    for &operand in &node.operands {
        let shape = &body.ty(operand).shape;
        for (extent, own) in space.iter_mut().rev().zip(shape.iter().rev()) {
            if *extent == Dim::from(1) {
                *extent = own.clone();
            }
        }
        widen(body, operand, space);
    }
}

/// How an operand varies along the row.
pub(super) fn access(view: &View) -> Access {
    let is_uniform = view.strides.last().is_none_or(|s| s.as_constant() == Some(0));
    if is_uniform { Access::Uniform } else { Access::Element }
}

/// Builds the program of a kernel from the values of a body.
pub(super) struct RowBuilder<'a> {
    body: &'a Body,
    weights: &'a mut WeightTable,
    index: Option<&'a LoopIndex>,
    space: &'a [Dim],
    /// Whether rows are a unit axis after the space.
    unit_row: bool,
    program: RowProgram,
    inputs: Vec<View>,
    outputs: Vec<View>,
    nodes: HashMap<ValueId, RowNodeId>,
}

impl<'a> RowBuilder<'a> {
    pub fn new(
        body: &'a Body,
        weights: &'a mut WeightTable,
        index: Option<&'a LoopIndex>,
        space: &'a [Dim],
        unit_row: bool,
    ) -> RowBuilder<'a> {
        let (program, nodes) = (RowProgram::default(), HashMap::new());
        RowBuilder { body, weights, index, space, unit_row, program, inputs: vec![], outputs: vec![], nodes }
    }

    /// An input that the kernel gives, one value for each element: an accumulator.
    pub fn accumulator(&mut self) -> Result<RowNodeId, LowerError> {
        self.given(Access::Element)
    }

    /// An input that the kernel gives. These come first.
    pub fn given(&mut self, access: Access) -> Result<RowNodeId, LowerError> {
        self.program.inputs.push(access);
        self.push(RowNode::Input(self.program.inputs.len() as u16 - 1))
    }

    /// Says which node a value is.
    pub fn bind(&mut self, value: ValueId, node: RowNodeId) {
        self.nodes.insert(value, node);
    }

    /// Appends a node, or finds it.
    pub fn push(&mut self, node: RowNode) -> Result<RowNodeId, LowerError> {
        if let Some(known) = self.program.nodes.iter().position(|&n| n == node) {
            return Ok(known as RowNodeId);
        }
        if self.program.nodes.len() == MAX_NODES {
            return Err(LowerError::TooLarge(self.body.label.clone()));
        }
        self.program.nodes.push(node);
        Ok(self.program.nodes.len() as RowNodeId - 1)
    }

    /// Stores a value.
    pub fn store(&mut self, store: &Store) -> Result<(), LowerError> {
        let node = match store.stored {
            Stored::Value(value) => self.node(value)?,
            Stored::Fill(value) => self.push(RowNode::Constant(value as f32))?,
        };
        let view = self.view(&store.target)?;
        self.program.stores.push(node);
        self.outputs.push(view);
        Ok(())
    }

    /// The iteration space and the operands.
    pub fn finish(self) -> Result<(Vec<Dim>, RowOperands), LowerError> {
        if self.program.inputs.len() + self.program.stores.len() > MAX_OPERANDS {
            return Err(LowerError::TooLarge(self.body.label.clone()));
        }
        let mut space = self.space.to_vec();
        if self.unit_row {
            space.push(1.into());
        }
        let operands = RowOperands { program: self.program, inputs: self.inputs, outputs: self.outputs };
        Ok((space, operands))
    }

    /// The node of a value, at every index of the space that the value broadcasts to.
    pub fn node(&mut self, value: ValueId) -> Result<RowNodeId, LowerError> {
        if let Some(&node) = self.nodes.get(&value) {
            return Ok(node);
        }
        let node = self.compute(value)?;
        self.nodes.insert(value, node);
        Ok(node)
    }

    fn compute(&mut self, value: ValueId) -> Result<RowNodeId, LowerError> {
        let body = self.body;
        if body.known[value.index()] {
            return self.weight(value);
        }
        let (weights, index) = (&mut *self.weights, self.index);
        let mut table = |expression: WeightExpression| {
            let ty = expression.ty().clone();
            ValueView::contiguous(Place::Weight(weights.table(expression, index)), &ty)
        };
        if let Some(operand) = body.operand(value, &mut table) {
            return self.input(&operand);
        }
        let Some(node) = body.producer(value) else {
            return Err(LowerError::unsupported("cluster", "an argument without an operand"));
        };
        match &node.op {
            Op::Unary(op) => {
                let x = self.node(node.operands[0])?;
                self.push(RowNode::Unary(op.0, x))
            }
            Op::Binary(op) => {
                let (a, b) = (self.node(node.operands[0])?, self.node(node.operands[1])?);
                let result = self.push(RowNode::Binary(op.0, a, b))?;
                let rounds = op.0 == BinaryOp::Div && !body.ty(value).dtype.is_float();
                if rounds { self.push(RowNode::Unary(UnaryOp::Floor, result)) } else { Ok(result) }
            }
            Op::Select(_) => {
                let [c, a, b] = [0, 1, 2].map(|i| self.node(node.operands[i]));
                self.push(RowNode::Select(c?, a?, b?))
            }
            Op::Cast(cast) => {
                let from = body.ty(node.operands[0]).dtype;
                let x = self.node(node.operands[0])?;
                self.cast(x, from, cast.to)
            }
            Op::Reduce(reduce) if reduce.axes == [body.ty(node.operands[0]).rank() - 1] => {
                let x = self.node(node.operands[0])?;
                self.push(RowNode::Reduce(row_reduce(reduce.kind)?, x))
            }
            Op::Constant(constant) => match constant.splat() {
                Some(x) => self.push(RowNode::Constant(x as f32)),
                None => Err(LowerError::unsupported("constant", "its values depend on a symbolic extent")),
            },
            Op::Iota(iota) => self.iota(iota.axis, body.ty(value).rank()),
            Op::Extent(extent) => self.place(Place::Extent(extent.of.clone())),
            op => Err(LowerError::unsupported(op.name(), format!("no kernel computes it ({})", body.ty(value)))),
        }
    }

    /// Values of integers are exact in f32 as long as they are positions and token numbers.
    fn cast(&mut self, x: RowNodeId, from: DType, to: DType) -> Result<RowNodeId, LowerError> {
        match to {
            DType::Bool if from != DType::Bool => {
                let zero = self.push(RowNode::Constant(0.0))?;
                self.push(RowNode::Binary(BinaryOp::Ne, x, zero))
            }
            DType::F32 | DType::Bool => Ok(x),
            DType::I32 | DType::I64 if !from.is_float() => Ok(x),
            DType::I32 | DType::I64 => {
                let size = self.push(RowNode::Unary(UnaryOp::Abs, x))?;
                let whole = self.push(RowNode::Unary(UnaryOp::Floor, size))?;
                let sign = self.push(RowNode::Unary(UnaryOp::Sign, x))?;
                self.push(RowNode::Binary(BinaryOp::Mul, whole, sign))
            }
            DType::I8 => {
                let whole = self.cast(x, from, DType::I32)?;
                let [least, most] = [i8::MIN, i8::MAX].map(|bound| self.push(RowNode::Constant(bound.into())));
                let bounded = self.push(RowNode::Binary(BinaryOp::Max, whole, least?))?;
                self.push(RowNode::Binary(BinaryOp::Min, bounded, most?))
            }
            to => Err(LowerError::unsupported("cast", format!("conversion to {to} has no kernel"))),
        }
    }

    fn weight(&mut self, value: ValueId) -> Result<RowNodeId, LowerError> {
        if let Some(Op::Constant(constant)) = self.body.producer(value).map(|n| &n.op)
            && let Some(x) = constant.splat()
        {
            return self.push(RowNode::Constant(x as f32));
        }
        let slice = self.body.slice_of_several(value);
        let expression = self.body.weight(slice.map_or(value, |(whole, _)| whole));
        let ty = expression.ty().clone();
        let number = self.weights.dense(expression, self.index);
        let whole = ValueView::contiguous(Place::Weight(number), &ty);
        let view = match slice {
            Some((_, s)) => whole.slice(s.axis, &s.start, &s.end, s.step.unwrap_or(1) as i64),
            None => whole,
        };
        self.input(&Operand { view, gathered: None })
    }

    fn iota(&mut self, axis: usize, rank: usize) -> Result<RowNodeId, LowerError> {
        let axis = self.space.len() + axis - rank;
        if axis + 1 == self.space.len() && !self.unit_row {
            return self.push(RowNode::Position);
        }
        self.place(Place::Index(axis as u32))
    }

    /// A uniform input without memory.
    fn place(&mut self, place: Place) -> Result<RowNodeId, LowerError> {
        let rank = self.space.len() + usize::from(self.unit_row);
        let strides = vec![Dim::from(0); rank];
        self.read(View { place, dtype: DType::F32, offset: 0.into(), strides, indirect: None })
    }

    fn input(&mut self, operand: &Operand) -> Result<RowNodeId, LowerError> {
        let view = self.view(operand)?;
        self.read(view)
    }

    fn read(&mut self, view: View) -> Result<RowNodeId, LowerError> {
        let given = self.program.inputs.len() - self.inputs.len();
        if let Some(known) = self.inputs.iter().position(|v| *v == view) {
            return self.push(RowNode::Input((given + known) as u16));
        }
        self.program.inputs.push(access(&view));
        self.inputs.push(view);
        self.push(RowNode::Input(self.program.inputs.len() as u16 - 1))
    }

    /// An operand over the iteration space.
    fn view(&self, operand: &Operand) -> Result<View, LowerError> {
        if !is_row_dtype(operand.view.dtype) {
            let what = format!("row programs do not take {}", operand.view.dtype);
            return Err(LowerError::unsupported(&self.body.label, what));
        }
        let mut view = self.over(&operand.view);
        if let Some(gathered) = &operand.gathered {
            let indices = self.over(&gathered.indices);
            if indices.strides.last().is_some_and(|s| s.as_constant() != Some(0)) {
                return Err(LowerError::unsupported("gather", "an index varies along the row"));
            }
            let (stride, extent) = (gathered.stride.clone(), gathered.extent.clone());
            view.indirect = Some(Box::new(Indirect { indices, stride, extent }));
        }
        Ok(view)
    }

    fn over(&self, view: &ValueView) -> View {
        let mut strides = view.strides_over(self.space);
        if self.unit_row {
            strides.push(0.into());
        }
        view.over(strides)
    }
}
