//! Matmul clusters: products with weights, products of activations, and what follows them.

use castiron_ir::op::{BinaryOp, Dot, GatedMlp, Op};
use castiron_ir::{Dim, Node, OpDef, Type, ValueId};
use castiron_runtime::program::row::RowNode;
use castiron_runtime::program::view::Place;
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
            Op::Dot(dot) => self.product(body, node, dot, targets)?,
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
        let (_, epilogue) = self.sum_epilogue(body, node, &space, false, targets)?;
        Ok(KernelBody::Matmul(Matmul { space, x: x.transpose(&order).over_own_axes(), weight, epilogue }))
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
        let epilogue = {
            let mut rows = RowBuilder::new(body, self.weights, self.index.as_ref(), &space, false);
            let mut sums = [rows.accumulator()?, rows.accumulator()?];
            for (sum, &bias) in sums.iter_mut().zip(&node.operands[3..]) {
                let bias = rows.node(bias)?;
                *sum = rows.push(RowNode::Binary(BinaryOp::Add, *sum, bias))?;
            }
            let gate = rows.push(RowNode::Unary(op.activation, sums[0]))?;
            let gated = rows.push(RowNode::Binary(BinaryOp::Mul, gate, sums[1]))?;
            rows.bind(node.results[0], gated);
            finish(rows, body, targets)?.1
        };
        Ok(KernelBody::Matmul(Matmul { space, x: x.over_own_axes(), weight, epilogue }))
    }

    fn product(
        &mut self,
        body: &Body,
        node: &Node,
        dot: &Dot,
        targets: &[ValueView],
    ) -> Result<KernelBody, LowerError> {
        let (mut lhs, mut rhs) = (self.operand(body, node.operands[0])?, self.operand(body, node.operands[1])?);
        let mut pairs = (dot.batch.clone(), dot.contract.clone());
        let (mut rows, mut columns) = (dot.free_lhs(lhs.shape.len()), dot.free_rhs(rhs.shape.len()));
        if rows.is_empty() {
            // A product with a vector: the vector is the right operand, and its one column has no axis.
            (lhs, rhs, rows, columns) = (rhs, lhs, columns, rows);
            pairs.0.iter_mut().chain(&mut pairs.1).for_each(|pair| *pair = (pair.1, pair.0));
        }
        let ([(left, right)], [row], [] | [_]) = (pairs.1.as_slice(), rows.as_slice(), columns.as_slice()) else {
            let what = format!("{} rows, {} columns and {} summed axes", rows.len(), columns.len(), pairs.1.len());
            return Err(LowerError::unsupported("dot", what));
        };
        let batch = |side: fn(&(usize, usize)) -> usize| pairs.0.iter().map(side);
        let lhs_order: Vec<usize> = batch(|p| p.0).chain([*row, *left]).collect();
        let rhs_order: Vec<usize> = batch(|p| p.1).chain(columns.iter().copied()).chain([*right]).collect();
        let k = lhs.shape[*left].clone();
        let shape = &body.ty(node.results[0]).shape;
        let (space, epilogue) = self.sum_epilogue(body, node, shape, columns.is_empty(), targets)?;
        let (lhs, mut rhs) = (lhs.transpose(&lhs_order).over_own_axes(), rhs.transpose(&rhs_order).over_own_axes());
        if columns.is_empty() {
            rhs.strides.insert(pairs.0.len(), 0.into());
        }
        Ok(KernelBody::Product(Product { space, k, lhs, rhs, epilogue }))
    }

    /// The iteration space and what follows a product with one accumulator.
    fn sum_epilogue(
        &mut self,
        body: &Body,
        node: &Node,
        space: &[Dim],
        unit_row: bool,
        targets: &[ValueView],
    ) -> Result<(Vec<Dim>, RowOperands), LowerError> {
        let mut rows = RowBuilder::new(body, self.weights, self.index.as_ref(), space, unit_row);
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

fn finish(mut rows: RowBuilder<'_>, body: &Body, targets: &[ValueView]) -> Result<(Vec<Dim>, RowOperands), LowerError> {
    body.stores(targets)?.iter().try_for_each(|store| rows.store(store))?;
    rows.finish()
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
