//! Matmul clusters: products with weights, products of activations, and what follows them.

use castiron_ir::op::{BinaryOp, ChosenAxes, Dot, GatedMlp, Op};
use castiron_ir::{Dim, Node, OpDef, Type, ValueId};
use castiron_runtime::program::row::RowNode;
use castiron_runtime::program::view::{Place, View};
use castiron_runtime::program::{KernelBody, Matmul, Product, RowOperands, Step};

use super::body::Body;
use super::rows::RowBuilder;
use super::view::ValueView;
use super::{LowerError, Lowering};
use crate::weights::Matrix;

impl Lowering<'_> {
    pub(super) fn contraction(
        &mut self,
        body: &Body,
        targets: &[ValueView],
        steps: &mut Vec<Step>,
    ) -> Result<(), LowerError> {
        let is_product = |n: &&Node| matches!(n.op, Op::Dot(_) | Op::GatedMlp(_)) && !body.known[n.results[0].index()];
        let node = body.region.nodes.iter().find(is_product);
        let node = node.ok_or_else(|| LowerError::unsupported("cluster", "a matmul cluster without product"))?;
        let kernel = match &node.op {
            Op::GatedMlp(op) => self.gated(body, node, op, targets)?,
            Op::Dot(dot) if is_weight_product(body, node, dot) => self.matmul(body, node, dot, targets)?,
            Op::Dot(dot) => match Chosen::of(body, node, dot) {
                Some(chosen) => self.stacked(body, node, &chosen, targets)?,
                None => self.product(body, node, dot, targets)?,
            },
            op => return Err(LowerError::unsupported(op.name(), "it is no product")),
        };
        steps.push(self.kernels.push(body.label.clone(), kernel));
        Ok(())
    }

    fn matmul(&mut self, body: &Body, node: &Node, dot: &Dot, targets: &[ValueView]) -> Result<KernelBody, LowerError> {
        let x = self.operand(body, node.operands[0])?;
        let (axis, weight_axis) = dot.contract[0];
        let matrix = Matrix { expression: body.weight(node.operands[1]), transposed: weight_axis == 0 };
        let weight = self.weights.product(vec![matrix], self.index.as_ref());
        let order: Vec<usize> = dot.free_lhs(x.shape.len()).into_iter().chain([axis]).collect();
        let space = body.ty(node.results[0]).shape.clone();
        let (space, epilogue) = self.sum_epilogue(body, node, &space, false, targets)?;
        Ok(KernelBody::Matmul(Matmul { space, x: x.transpose(&order).over_own_axes(), weight, chosen: None, epilogue }))
    }

    /// A product whose rows choose their matrix from a stack.
    fn stacked(
        &mut self,
        body: &Body,
        node: &Node,
        chosen: &Chosen,
        targets: &[ValueView],
    ) -> Result<KernelBody, LowerError> {
        let x = self.operand(body, chosen.rows)?;
        let indices = self.operand(body, chosen.indices)?;
        let ChosenAxes { batch, free, rest, summed, transposed } = &chosen.axes;
        let matrices = Matrix { expression: body.weight(chosen.stack), transposed: *transposed };
        let weight = self.weights.stack(matrices, self.index.as_ref());
        let still = |axes: &[usize]| vec![Dim::from(0); axes.len()];
        let of_x: Vec<usize> = batch.iter().map(|pair| pair.0).chain(free.iter().copied()).collect();
        let [of_x, summed] = [of_x, vec![*summed]].map(|axes| x.transpose(&axes).strides);
        let [shared, own] = [batch.iter().map(|pair| pair.1).collect(), rest.clone()];
        let [shared, own] = [shared, own].map(|axes: Vec<usize>| indices.transpose(&axes).strides);
        let x = x.over([of_x, still(rest), summed].concat());
        let chosen = indices.over([shared, still(free), own, vec![Dim::from(0)]].concat());
        let space = body.ty(node.results[0]).shape.clone();
        let (space, epilogue) = self.sum_epilogue(body, node, &space, false, targets)?;
        Ok(KernelBody::Matmul(Matmul { space, x, weight, chosen: Some(chosen), epilogue }))
    }

    fn gated(
        &mut self,
        body: &Body,
        node: &Node,
        op: &GatedMlp,
        targets: &[ValueView],
    ) -> Result<KernelBody, LowerError> {
        if !node.operands[1..3].iter().all(|o| body.known[o.index()]) {
            return Err(LowerError::unsupported("gated_mlp", "its weights are computed"));
        }
        let x = self.operand(body, node.operands[0])?;
        let matrix = |i: usize| Matrix { expression: body.weight(node.operands[i]), transposed: false };
        let weight = self.weights.product(vec![matrix(1), matrix(2)], self.index.as_ref());
        let space = body.ty(node.results[0]).shape.clone();
        let (space, epilogue) = {
            let mut rows = RowBuilder::new(body, self.weights, self.index.as_ref(), &space, false);
            let mut sums = [rows.accumulator()?, rows.accumulator()?];
            for (sum, &bias) in sums.iter_mut().zip(&node.operands[3..]) {
                let bias = rows.node(bias)?;
                *sum = rows.push(RowNode::Binary(BinaryOp::Add, *sum, bias))?;
            }
            let gate = rows.push(RowNode::Unary(op.activation, sums[0]))?;
            let gated = rows.push(RowNode::Binary(BinaryOp::Mul, gate, sums[1]))?;
            rows.bind(node.results[0], gated);
            finish(rows, body, targets)?
        };
        Ok(KernelBody::Matmul(Matmul { space, x: x.over_own_axes(), weight, chosen: None, epilogue }))
    }

    fn product(
        &mut self,
        body: &Body,
        node: &Node,
        dot: &Dot,
        targets: &[ValueView],
    ) -> Result<KernelBody, LowerError> {
        let (lhs, rhs) = (self.operand(body, node.operands[0])?, self.operand(body, node.operands[1])?);
        let factors = Factors::new(dot, &lhs, &rhs)?;
        let shape = &body.ty(node.results[0]).shape;
        let (space, epilogue) = self.sum_epilogue(body, node, shape, factors.is_column, targets)?;
        let Factors { k, lhs, rhs, .. } = factors;
        Ok(KernelBody::Product(Product { space, k, lhs, rhs, epilogue }))
    }

    /// What follows a product with one accumulator, over the shape of its result and perhaps one column.
    fn sum_epilogue(
        &mut self,
        body: &Body,
        node: &Node,
        shape: &[Dim],
        is_column: bool,
        targets: &[ValueView],
    ) -> Result<(Vec<Dim>, RowOperands), LowerError> {
        let mut rows = RowBuilder::new(body, self.weights, self.index.as_ref(), shape, is_column);
        let sum = rows.accumulator()?;
        rows.bind(node.results[0], sum);
        finish(rows, body, targets)
    }

    /// An operand of a product, which kernels read as a strided tensor.
    pub(super) fn operand(&mut self, body: &Body, value: ValueId) -> Result<ValueView, LowerError> {
        if body.known[value.index()] {
            let expression = body.weight(value);
            let ty: Type = expression.ty().clone();
            return Ok(ValueView::contiguous(Place::Weight(self.weights.dense(expression, self.index.as_ref())), &ty));
        }
        let argument = body.argument(value).cloned();
        argument.ok_or_else(|| LowerError::unsupported("dot", "an operand is computed in its own cluster"))
    }
}

fn finish(rows: RowBuilder<'_>, body: &Body, targets: &[ValueView]) -> Result<(Vec<Dim>, RowOperands), LowerError> {
    let mut rows = rows;
    body.stores(targets)?.iter().try_for_each(|store| rows.store(store))?;
    rows.finish()
}

/// The operands of a product of activations over batch axes, rows and columns, then k.
struct Factors {
    lhs: View,
    rhs: View,
    k: Dim,
    /// Whether the result has no axis of columns: there is one, which the space has at its end.
    is_column: bool,
}

impl Factors {
    /// Leading rows are batch axes along which the right operand is the same.
    fn new(dot: &Dot, lhs: &ValueView, rhs: &ValueView) -> Result<Factors, LowerError> {
        let (rows, columns) = (dot.free_lhs(lhs.shape.len()), dot.free_rhs(rhs.shape.len()));
        let pairs = |pairs: &[(usize, usize)]| -> [Vec<usize>; 2] {
            [pairs.iter().map(|p| p.0).collect(), pairs.iter().map(|p| p.1).collect()]
        };
        let ([left_batch, right_batch], [left, right]) = (pairs(&dot.batch), pairs(&dot.contract));
        let (left, right) = ((lhs, left_batch, rows, left), (rhs, right_batch, columns, right));
        // A product without rows is one without columns of the operands exchanged.
        let (left, right) = if left.2.is_empty() { (right, left) } else { (left, right) };
        let (batch, rows, columns) = (left.1.len(), left.2.len(), right.2.len());
        let nested = |(view, batch, free, contract): (&ValueView, Vec<usize>, Vec<usize>, Vec<usize>)| {
            let order = [batch, free, contract].concat();
            let view = view.transpose(&order);
            let kept = order.len() - dot.contract.len();
            let shape = [&view.shape[..kept], &[Dim::product(&view.shape[kept..])]].concat();
            if dot.contract.len() == 1 { Some(view) } else { view.reshape(&shape) }
        };
        let (Some(lhs), Some(rhs), 1.., ..=1) = (nested(left), nested(right), rows, columns) else {
            let what = format!("{rows} rows, {columns} columns and {} summed axes", dot.contract.len());
            return Err(LowerError::unsupported("dot", what));
        };
        let mut strides = rhs.strides.clone();
        // The leading rows, and the column if there is none.
        strides.splice(batch..batch, vec![Dim::from(0); rows - columns]);
        let k = lhs.shape[batch + rows].clone();
        Ok(Factors { lhs: lhs.over_own_axes(), rhs: rhs.over(strides), k, is_column: columns == 0 })
    }
}

/// A product of rows with matrices that are gathered from a stack known at compile time.
struct Chosen {
    rows: ValueId,
    stack: ValueId,
    indices: ValueId,
    axes: ChosenAxes,
}

impl Chosen {
    fn of(body: &Body, node: &Node, dot: &Dot) -> Option<Chosen> {
        (0..2).find_map(|side| {
            let (matrices, rows) = (node.operands[side], node.operands[1 - side]);
            let gather = body.producer(matrices).filter(|n| matches!(n.op, Op::Gather(_)))?;
            let (stack, indices) = (gather.operands[0], gather.operands[1]);
            let is_fit = body.known[stack.index()] && body.ty(stack).rank() == 3;
            let axes = dot.over_gathered(side, body.ty(rows).rank(), body.ty(indices).rank());
            Some(Chosen { rows, stack, indices, axes: axes.filter(|_| is_fit)? })
        })
    }
}

/// Whether the right operand is a matrix known at compile time, so that it can be packed.
fn is_weight_product(body: &Body, node: &Node, dot: &Dot) -> bool {
    let weight = node.operands[1];
    let constant = |d: &Dim| d.as_constant().is_some();
    body.known[weight.index()]
        && !body.known[node.operands[0].index()]
        && body.ty(weight).rank() == 2
        && body.ty(weight).shape.iter().all(constant)
        && dot.batch.is_empty()
        && dot.contract.len() == 1
}
