//! Builder: regions written as expressions over value handles.
//!
//! Handles carry their builder, so arithmetic reads like the paper: `&x * &w + &bias`. The first type
//! error is kept, everything after it is ignored, and [`Builder::finish`] returns it; model code
//! needs no `?` at each step.

use std::cell::RefCell;
use std::ops::{Add, Div, Mul, Neg, Sub};
use std::rc::Rc;

use crate::dim::Dim;
use crate::graph::{Region, ValueId};
use crate::op::{
    Binary, BinaryOp, Broadcast, Cast, Concat, Constant, Dot, Gather, Iota, Op, OpDef, Pad, Param, Reduce, ReduceKind,
    Repeat, Reshape, Scan, Select, Slice, StateRead, StateUpdate, TopK, Transpose, TypeError, Unary, UnaryOp, Window,
};
use crate::types::{DType, Type};

/// An op that cannot be applied to its operands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{op}: {source}")]
pub struct BuildError {
    /// The op's name.
    pub op: String,
    /// The rule that it breaks.
    pub source: TypeError,
}

#[derive(Default)]
struct State {
    region: Region,
    error: Option<BuildError>,
}

/// A region under construction; clones share it.
#[derive(Clone, Default)]
pub struct Builder(Rc<RefCell<State>>);

/// A value of the region that its builder constructs.
#[derive(Clone)]
pub struct Value {
    builder: Builder,
    id: ValueId,
}

impl Builder {
    /// An empty region.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Adds an argument.
    pub fn argument(&self, name: &str, ty: Type) -> Value {
        let id = self.0.borrow_mut().region.push_argument(name, ty);
        self.value(id)
    }

    fn value(&self, id: ValueId) -> Value {
        Value { builder: self.clone(), id }
    }

    /// Applies an op; gives all its results. After an error the results are of type `f32[]`.
    pub fn apply_all(&self, op: impl Into<Op>, operands: &[&Value]) -> Vec<Value> {
        let op = op.into();
        let mut state = self.0.borrow_mut();
        let operands: Vec<ValueId> = operands.iter().map(|v| v.id).collect();
        let types = match op.result_types(&state.region.types_of(&operands)) {
            Ok(types) => types,
            Err(source) => {
                state.error.get_or_insert(BuildError { op: op.name().to_owned(), source });
                let poison = state.region.push_argument("poison", Type::f32([0; 0]));
                return vec![self.value(poison)];
            }
        };
        let ids = state.region.push_node(op, operands, types).to_vec();
        ids.into_iter().map(|id| self.value(id)).collect()
    }

    /// Applies an op with one result.
    pub fn apply(&self, op: impl Into<Op>, operands: &[&Value]) -> Value {
        self.apply_all(op, operands).swap_remove(0)
    }

    /// Records an error of the caller's own, as if an op had failed.
    pub fn fail(&self, what: &str, message: impl Into<String>) {
        let error = BuildError { op: what.to_owned(), source: TypeError(message.into()) };
        self.0.borrow_mut().error.get_or_insert(error);
    }

    /// A checkpoint tensor.
    pub fn param(&self, name: impl Into<String>, shape: impl IntoIterator<Item = usize>) -> Value {
        self.apply(Param { name: name.into(), stack: None, stored: None, ty: Type::f32(shape) }, &[])
    }

    /// Checkpoint tensors of one shape as one; `index` in their name counts the first axis.
    pub fn param_stack(&self, name: impl Into<String>, index: &str, shape: impl IntoIterator<Item = usize>) -> Value {
        let stack = Some(index.to_owned());
        self.apply(Param { name: name.into(), stack, stored: None, ty: Type::f32(shape) }, &[])
    }

    /// A rank-0 constant.
    pub fn scalar(&self, dtype: DType, value: f64) -> Value {
        self.apply(Constant::scalar(dtype, value), &[])
    }

    /// A rank-1 f32 constant.
    pub fn vector(&self, values: Vec<f64>) -> Value {
        let values: Vec<f64> = values.into_iter().map(|v| f64::from(v as f32)).collect();
        let ty = Type::f32([values.len()]);
        self.apply(Constant { values, ty }, &[])
    }

    /// Indices `0, 1, …` along an axis of an i32 tensor.
    pub fn iota(&self, shape: impl IntoIterator<Item = impl Into<Dim>>, axis: usize) -> Value {
        self.apply(Iota { axis, ty: Type::i32(shape) }, &[])
    }

    /// Value of a state before the call.
    pub fn state_read(&self, state: &str, ty: Type) -> Value {
        self.apply(StateRead { state: state.to_owned(), ty }, &[])
    }

    /// Appends rows to a state at each batch entry's position; gives the whole state.
    pub fn state_update(&self, state: &str, ty: Type, axis: usize, rows: &Value, position: &Value) -> Value {
        self.apply(StateUpdate { state: state.to_owned(), axis, ty }, &[rows, position])
    }

    /// Values one after another along an axis.
    pub fn concat(&self, axis: usize, parts: &[&Value]) -> Value {
        self.apply(Concat { axis }, parts)
    }

    /// Repeats a region. `body` gets the carried values and the shared ones, and gives the carried.
    pub fn repeat(
        &self,
        count: usize,
        index: &str,
        carried: &[&Value],
        shared: &[&Value],
        body: impl FnOnce(&Builder, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let inner = Builder::new();
        let operands: Vec<&Value> = carried.iter().chain(shared).copied().collect();
        let name = |i: usize| if i < carried.len() { format!("x{i}") } else { format!("s{}", i - carried.len()) };
        let arguments: Vec<Value> =
            operands.iter().enumerate().map(|(i, v)| inner.argument(&name(i), v.ty())).collect();
        let results = body(&inner, &arguments);
        match inner.finish(&results.iter().collect::<Vec<_>>()) {
            Ok(body) => {
                let repeat = Repeat { count, index: index.to_owned(), carried: carried.len(), body };
                self.apply_all(repeat, &operands)
            }
            Err(error) => {
                self.0.borrow_mut().error.get_or_insert(error);
                carried.iter().map(|&v| v.clone()).collect()
            }
        }
    }

    /// A recurrence along an axis: `body` gets the carried values, one step of each sequence and the shared values,
    /// and gives the carried values and its outputs. The results are the last carried values and the outputs of
    /// all steps.
    pub fn scan(
        &self,
        axis: usize,
        [carried, sequences, shared]: [&[&Value]; 3],
        body: impl FnOnce(&Builder, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let inner = Builder::new();
        let mut arguments = Vec::new();
        for (prefix, values) in [("x", carried), ("t", sequences), ("s", shared)] {
            for (i, value) in values.iter().enumerate() {
                let mut ty = value.ty();
                if prefix == "t" && axis < ty.rank() {
                    ty.shape.remove(axis);
                }
                arguments.push(inner.argument(&format!("{prefix}{i}"), ty));
            }
        }
        let results = body(&inner, &arguments);
        let operands: Vec<&Value> = carried.iter().chain(sequences).chain(shared).copied().collect();
        match inner.finish(&results.iter().collect::<Vec<_>>()) {
            Ok(body) => {
                let (carried, sequences) = (carried.len(), sequences.len());
                self.apply_all(Scan { axis, carried, sequences, reverse: false, body }, &operands)
            }
            Err(error) => {
                self.0.borrow_mut().error.get_or_insert(error);
                results.iter().map(|_| operands[0].clone()).collect()
            }
        }
    }

    /// Copies a region's nodes here with its arguments replaced; gives its results.
    pub fn inline(&self, region: &Region, arguments: &[Value]) -> Vec<Value> {
        let mut map: Vec<Option<Value>> = vec![None; region.value_count()];
        for (a, v) in region.arguments.iter().zip(arguments) {
            map[a.index()] = Some(v.clone());
        }
        let defined = "a verified region defines operands before their uses";
        for node in &region.nodes {
            let operands: Vec<&Value> = node.operands.iter().map(|o| map[o.index()].as_ref().expect(defined)).collect();
            let results = self.apply_all(node.op.clone(), &operands);
            for (r, v) in node.results.iter().zip(results) {
                map[r.index()] = Some(v);
            }
        }
        region.results.iter().map(|r| map[r.index()].clone().expect(defined)).collect()
    }

    /// Ends the region with its results.
    ///
    /// # Errors
    /// The first op that could not be applied.
    pub fn finish(self, results: &[&Value]) -> Result<Region, BuildError> {
        let mut state = self.0.borrow_mut();
        state.region.results = results.iter().map(|v| v.id).collect();
        match state.error.take() {
            Some(error) => Err(error),
            None => Ok(std::mem::take(&mut state.region)),
        }
    }
}

impl Value {
    /// Id in the region.
    pub fn id(&self) -> ValueId {
        self.id
    }

    /// The op that the value is a result of, with its operands; `None` for an argument.
    pub fn producer(&self) -> Option<(Op, Vec<Value>)> {
        let state = self.builder.0.borrow();
        let nodes = &state.region.nodes;
        let after = nodes.partition_point(|n| n.results.first().is_none_or(|r| *r <= self.id));
        let node = nodes[..after].last().filter(|n| n.results.contains(&self.id))?;
        Some((node.op.clone(), node.operands.iter().map(|&o| self.builder.value(o)).collect()))
    }

    /// The builder of the region that the value belongs to.
    pub fn builder(&self) -> &Builder {
        &self.builder
    }

    /// Type of the value.
    pub fn ty(&self) -> Type {
        self.builder.0.borrow().region.type_of(self.id).clone()
    }

    /// Extent of an axis; 1 after an error.
    pub fn dim(&self, axis: usize) -> Dim {
        self.ty().shape.get(axis).cloned().unwrap_or_else(|| Dim::from(1))
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.ty().rank()
    }

    /// Applies an op with one result to this value and others.
    pub fn apply(&self, op: impl Into<Op>, others: &[&Value]) -> Value {
        let operands: Vec<&Value> = std::iter::once(self).chain(others.iter().copied()).collect();
        self.builder.apply(op, &operands)
    }

    /// A function of each element.
    pub fn unary(&self, op: UnaryOp) -> Value {
        self.apply(Unary(op), &[])
    }

    /// A function of each pair of elements.
    pub fn binary(&self, op: BinaryOp, other: &Value) -> Value {
        self.apply(Binary(op), &[other])
    }

    /// A constant of this value's element type.
    pub fn constant(&self, value: f64) -> Value {
        self.builder.scalar(self.ty().dtype, value)
    }

    /// `self ? a : b`
    pub fn select(&self, a: &Value, b: &Value) -> Value {
        self.apply(Select, &[a, b])
    }

    /// Conversion to another element type; the value itself if it has it already.
    pub fn cast(&self, to: DType) -> Value {
        if self.ty().dtype == to { self.clone() } else { self.apply(Cast { to }, &[]) }
    }

    /// The elements under another shape.
    pub fn reshape(&self, to: impl IntoIterator<Item = impl Into<Dim>>) -> Value {
        self.apply(Reshape { to: to.into_iter().map(Into::into).collect() }, &[])
    }

    /// Axes in another order.
    pub fn transpose(&self, axes: &[usize]) -> Value {
        self.apply(Transpose { axes: axes.to_vec() }, &[])
    }

    /// Repeated to a larger shape.
    pub fn broadcast(&self, to: impl IntoIterator<Item = impl Into<Dim>>) -> Value {
        self.apply(Broadcast { to: to.into_iter().map(Into::into).collect() }, &[])
    }

    /// Elements `start..end` along an axis.
    pub fn slice(&self, axis: usize, start: impl Into<Dim>, end: impl Into<Dim>) -> Value {
        self.apply(Slice { axis, start: start.into(), end: end.into(), step: None }, &[])
    }

    /// The elements that a window of `taps` elements sees at each position along an axis.
    pub fn window(&self, axis: usize, taps: usize, stride: usize, dilation: usize) -> Value {
        let step = |n: usize| (n != 1).then_some(n);
        self.apply(Window { axis, taps, stride: step(stride), dilation: step(dilation) }, &[])
    }

    /// Zeros before and after along an axis.
    pub fn pad(&self, axis: usize, before: impl Into<Dim>, after: impl Into<Dim>) -> Value {
        self.apply(Pad { axis, before: before.into(), after: after.into(), value: 0.0 }, &[])
    }

    /// Reduction that keeps the axes with extent 1.
    pub fn reduce(&self, kind: ReduceKind, axes: &[usize]) -> Value {
        self.apply(Reduce { kind, axes: axes.to_vec() }, &[])
    }

    /// Mean over the last axis, which must have a constant extent; it stays with extent 1.
    pub fn mean_last(&self) -> Value {
        let last = self.rank().saturating_sub(1);
        match self.dim(last).as_constant() {
            Some(n) => self.reduce(ReduceKind::Sum, &[last]) * (1.0 / n as f64),
            None => {
                self.builder.fail("mean", "the last axis has no constant extent");
                self.clone()
            }
        }
    }

    /// Index of the largest element along the last axis, which goes and must have a constant extent; the
    /// smallest index among equals, the extent where no element is a number above -∞.
    pub fn arg_max_last(&self) -> Value {
        let last = self.rank().saturating_sub(1);
        let Some(extent) = self.dim(last).as_constant() else {
            self.builder.fail("arg_max", "the last axis has no constant extent");
            return self.clone();
        };
        // What is not above the lowest number equals none.
        let largest = self.reduce(ReduceKind::Max, &[last]).binary(BinaryOp::Max, &self.constant(f32::MIN.into()));
        let index = self.builder.iota([extent], 0);
        let candidates = self.binary(BinaryOp::Eq, &largest).select(&index, &index.constant(extent as f64));
        candidates.reduce(ReduceKind::Min, &[last]).reshape(self.ty().shape.into_iter().take(last))
    }

    /// Slices at indices along an axis.
    pub fn gather(&self, axis: usize, indices: &Value) -> Value {
        self.apply(Gather { axis, batch: None }, &[indices])
    }

    /// The `k` largest elements of each row of the last axis and their indices, in descending order.
    pub fn top_k(&self, k: usize) -> (Value, Value) {
        let mut results = self.builder.apply_all(TopK { k }, &[self]).into_iter();
        let poison = || self.clone();
        (results.next().unwrap_or_else(poison), results.next().unwrap_or_else(poison))
    }

    /// The logistic function.
    pub fn sigmoid(&self) -> Value {
        self.unary(UnaryOp::Sigmoid)
    }

    /// `x · Wᵀ` with a weight for each row: `x: [B.., k]` with `W: [B.., C.., n, k]` → `[B.., C.., n]`, where `B` are
    /// `shared` axes.
    pub fn chosen_linear(&self, weights: &Value, shared: usize) -> Value {
        let contract = vec![(shared, weights.rank().saturating_sub(1))];
        self.apply(Dot { batch: (0..shared).map(|axis| (axis, axis)).collect(), contract }, &[weights])
    }

    /// `self · Wᵀ` with a weight of shape `[n, k]`.
    pub fn linear(&self, weight: &Value) -> Value {
        self.apply(Dot::linear(self.rank().max(1)), &[weight])
    }
}

macro_rules! operators {
    ($($Trait:ident $method:ident $op:ident;)+) => { $(
        impl $Trait<&Value> for &Value {
            type Output = Value;
            fn $method(self, other: &Value) -> Value {
                self.binary(BinaryOp::$op, other)
            }
        }
        impl $Trait<Value> for Value {
            type Output = Value;
            fn $method(self, other: Value) -> Value {
                self.binary(BinaryOp::$op, &other)
            }
        }
        impl $Trait<&Value> for Value {
            type Output = Value;
            fn $method(self, other: &Value) -> Value {
                self.binary(BinaryOp::$op, other)
            }
        }
        impl $Trait<Value> for &Value {
            type Output = Value;
            fn $method(self, other: Value) -> Value {
                self.binary(BinaryOp::$op, &other)
            }
        }
        impl $Trait<f64> for Value {
            type Output = Value;
            fn $method(self, other: f64) -> Value {
                self.binary(BinaryOp::$op, &self.constant(other))
            }
        }
        impl $Trait<f64> for &Value {
            type Output = Value;
            fn $method(self, other: f64) -> Value {
                self.binary(BinaryOp::$op, &self.constant(other))
            }
        }
    )+ };
}

operators! {
    Add add Add;
    Sub sub Sub;
    Mul mul Mul;
    Div div Div;
}

impl Neg for Value {
    type Output = Value;
    fn neg(self) -> Value {
        self.unary(UnaryOp::Neg)
    }
}
