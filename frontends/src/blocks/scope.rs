//! The builder that models are written with: a region, a scope of tensor names, and what every
//! layer of a pass sees.

use std::cell::RefCell;
use std::rc::Rc;

use castiron_ir::op::fused::FusedOp;
use castiron_ir::op::{Extent, StateWrite};
use castiron_ir::template::{self, TemplateError};
use castiron_ir::{BuildError, Builder, DType, Dim, Entry, State, Type, Value};

use super::runs::{Run, runs};
use super::{Context, Inventory, Size};

/// Name of the loop index in templates of tensor and state names.
const INDEX: &str = "i";
/// Missing tensors of one template after which no more are looked for.
const MOST_MISSING: usize = 10_000;
/// Name of the index that counts the tensors of a stack.
const STACK_INDEX: &str = "e";

/// Writes ops into a region and names their params relative to a scope such as `model.layers.{i}.`.
/// The blocks are its methods.
#[derive(Clone)]
pub struct ModelBuilder<'a> {
    /// The region.
    pub(super) builder: Builder,
    /// What every layer sees.
    pub(super) context: Context,
    tensors: &'a Inventory<'a>,
    states: Rc<RefCell<Vec<State>>>,
    scope: String,
    layer: LayerIndex,
}

/// Which layer is being written: `period · i + offset` in iteration `i` of a loop.
#[derive(Clone, Copy, Debug, Default)]
struct LayerIndex {
    /// How often the loop runs; `None` for a layer that stands alone.
    iterations: Option<usize>,
    period: usize,
    offset: usize,
}

impl LayerIndex {
    /// As templates of names write it: `{i}`, `{2i+1}`, `7`.
    fn template(self) -> String {
        let LayerIndex { iterations, period, offset } = self;
        if iterations.is_none() {
            return offset.to_string();
        }
        let factor = if period == 1 { String::new() } else { period.to_string() };
        let offset = if offset == 0 { String::new() } else { format!("+{offset}") };
        format!("{{{factor}{INDEX}{offset}}}")
    }
}

impl<'a> ModelBuilder<'a> {
    /// Writes an entry; `body` gives its outputs by name.
    ///
    /// # Errors
    /// The first op that could not be applied.
    pub fn entry(
        name: &str,
        tensors: &'a Inventory<'a>,
        body: impl FnOnce(&ModelBuilder<'a>) -> Vec<(&'static str, Value)>,
    ) -> Result<Entry, BuildError> {
        let m = ModelBuilder {
            builder: Builder::new(),
            context: Context::default(),
            tensors,
            states: Rc::default(),
            scope: String::new(),
            layer: LayerIndex::default(),
        };
        let outputs = body(&m);
        let results: Vec<&Value> = outputs.iter().map(|(_, value)| value).collect();
        let body = m.builder.finish(&results)?;
        let outputs = outputs.iter().map(|(name, _)| name.to_string()).collect();
        Ok(Entry { name: name.to_owned(), states: m.states.take(), outputs, body })
    }

    /// An input of the entry.
    pub fn input(&self, name: &str, ty: Type) -> Value {
        self.builder.argument(name, ty)
    }

    /// The same builder with names relative to a nested scope; the scope itself for an empty name.
    pub fn scope(&self, name: &str) -> ModelBuilder<'a> {
        let dot = if name.is_empty() || name.ends_with('.') { "" } else { "." };
        ModelBuilder { scope: format!("{}{name}{dot}", self.scope), ..self.clone() }
    }

    /// The same builder with names of tensors as they are.
    pub fn root(&self) -> ModelBuilder<'a> {
        ModelBuilder { scope: String::new(), ..self.clone() }
    }

    /// The same builder for layers that see something else.
    pub fn with_context(&self, context: Context) -> ModelBuilder<'a> {
        ModelBuilder { context, ..self.clone() }
    }

    /// A tensor of the checkpoint, named relative to the scope.
    pub fn param(&self, name: &str, shape: &[&Size]) -> Value {
        let name = format!("{}{name}", self.scope);
        self.request(&name, 1, shape);
        self.builder.param(name, shape.iter().map(|s| s.value()))
    }

    /// Tensors of the checkpoint whose names `{e}` counts, `[count, shape..]`.
    pub(super) fn param_stack(&self, name: &str, count: &Size, shape: &[&Size]) -> Value {
        let name = format!("{}{name}", self.scope);
        self.request(&name, count.value(), shape);
        let extents = [count].into_iter().chain(shape.iter().copied()).map(Size::value);
        self.builder.param_stack(name, STACK_INDEX, extents)
    }

    /// Notes that the model uses a tensor in every layer, or so many.
    fn request(&self, template: &str, count: usize, shape: &[&Size]) {
        let mut missing = 0;
        for (i, e) in (0..self.layer.iterations.unwrap_or(1)).flat_map(|i| (0..count).map(move |e| (i, e))) {
            match self.instance(template, i, e) {
                Ok(name) => missing += usize::from(!self.tensors.request(&name, shape)),
                Err(error) => self.builder.fail("param", error.to_string()),
            }
            if missing > MOST_MISSING {
                return;
            }
        }
    }

    /// The name that a template stands for in an iteration.
    fn instance(&self, template: &str, iteration: usize, number: usize) -> Result<String, TemplateError> {
        template::expand(template, &|symbol| match symbol {
            INDEX if self.layer.iterations.is_some() => Some(iteration),
            STACK_INDEX => Some(number),
            _ => None,
        })
    }

    /// Whether the checkpoint has a tensor of that name, in the first of the layers.
    pub(super) fn has(&self, name: &str) -> bool {
        self.instance(&format!("{}{name}", self.scope), 0, 0).is_ok_and(|name| self.tensors.has(&name))
    }

    /// Extent of the first axis of the checkpoint's tensor of that name, in the first of the layers.
    pub(super) fn rows_of(&self, name: &str) -> Option<usize> {
        let name = self.instance(&format!("{}{name}", self.scope), 0, 0).ok()?;
        self.tensors.shape(&name)?.first().copied()
    }

    /// The layers `name.0`, `name.1`, …, each applied to the result of the one before. Layers that repeat
    /// a pattern become one loop over the pattern.
    pub fn layers<L: PartialEq>(
        &self,
        name: &str,
        layers: &[L],
        x: &Value,
        write: impl Fn(&ModelBuilder<'a>, &L, &Value) -> Value,
    ) -> Value {
        let mut x = x.clone();
        for Run { start, period, count } in runs(layers) {
            let pattern = &layers[start..start + period];
            let write_all = |m: &ModelBuilder<'a>, iterations: Option<usize>, x: &Value| {
                pattern.iter().enumerate().fold(x.clone(), |x, (j, layer)| {
                    let layer_index = LayerIndex { iterations, period, offset: start + j };
                    let scope = format!("{}{name}.{}.", m.scope, layer_index.template());
                    write(&ModelBuilder { layer: layer_index, scope, ..m.clone() }, layer, &x)
                })
            };
            x = match count {
                1 => write_all(self, None, &x),
                _ => self.repeat(count, &x, |m, x| write_all(m, Some(count), x)),
            };
        }
        x
    }

    /// The same layers, with the same tensors, `times` times over, each applied to the result of the one before.
    pub fn shared_layers<L>(
        &self,
        name: &str,
        layers: &[L],
        times: usize,
        x: &Value,
        write: impl Fn(&ModelBuilder<'a>, &L, &Value) -> Value,
    ) -> Value {
        let write_all = |m: &ModelBuilder<'a>, x: &Value| {
            let layers = layers.iter().enumerate();
            layers.fold(x.clone(), |x, (j, layer)| write(&m.scope(&format!("{name}.{j}")), layer, &x))
        };
        match times {
            0 => x.clone(),
            1 => write_all(self, x),
            _ => self.repeat(times, x, write_all),
        }
    }

    /// A loop whose body sees the context.
    fn repeat(&self, count: usize, x: &Value, body: impl FnOnce(&ModelBuilder<'a>, &Value) -> Value) -> Value {
        let body = |inner: &Builder, values: &[Value]| {
            let (x, shared) = values.split_at(1);
            let mut m = self.with_context(self.context.rebound(shared));
            m.builder = inner.clone();
            vec![body(&m, &x[0])]
        };
        self.builder.repeat(count, INDEX, &[x], &self.context.values(), body).swap_remove(0)
    }

    /// Number of the current layer as `f32[]`, counted from 1.
    pub(super) fn layer_number(&self) -> Value {
        let LayerIndex { iterations, period, offset } = self.layer;
        let number = Dim::from(offset + 1);
        let of = if iterations.is_some() { Dim::symbol(INDEX) * Dim::from(period) + number } else { number };
        self.builder.apply(Extent { of }, &[]).cast(DType::F32)
    }

    /// Appends rows `[b, …, s, …]` to the layer's cache at each batch entry's position; gives the
    /// whole cache, whose capacity along that axis is the symbol `c`.
    pub(super) fn cached(&self, name: &str, axis: usize, rows: &Value, position: &Value) -> Value {
        let mut ty = rows.ty();
        ty.shape[axis] = "c".into();
        let name = self.state(&self.layer_state(name), &ty);
        self.builder.state_update(&name, ty, axis, rows, position)
    }

    /// Keeps a value of the layer for other entries.
    pub(super) fn keep_in_layer(&self, name: &str, value: &Value) {
        self.keep(&self.layer_state(name), value);
    }

    /// What another entry has kept of the layer.
    pub(super) fn kept_in_layer(&self, name: &str, ty: Type) -> Value {
        self.kept(&self.layer_state(name), ty)
    }

    /// Full name of a state of the layer.
    pub(super) fn layer_state(&self, name: &str) -> String {
        format!("layers.{}.{name}", self.layer.template())
    }

    /// Keeps a value for other entries.
    pub(super) fn keep(&self, name: &str, value: &Value) {
        let state = self.state(name, &value.ty());
        value.apply(StateWrite { state }, &[]);
    }

    /// What another entry has kept.
    pub(super) fn kept(&self, name: &str, ty: Type) -> Value {
        let name = self.state(name, &ty);
        self.builder.state_read(&name, ty)
    }

    /// Declares a state; gives its name.
    fn state(&self, name: &str, ty: &Type) -> String {
        let state = State { name: name.to_owned(), instances: self.layer.iterations, ty: ty.clone() };
        self.states.borrow_mut().push(state);
        name.to_owned()
    }

    /// The plain ops of a fused op with one result.
    pub(super) fn expand(&self, what: &str, op: &impl FusedOp, operands: &[&Value]) -> Value {
        self.expand_all(what, op, operands).swap_remove(0)
    }

    /// The plain ops of a fused op. If it does not take the operands, these stand for its results, and the entry
    /// fails.
    pub(super) fn expand_all(&self, what: &str, op: &impl FusedOp, operands: &[&Value]) -> Vec<Value> {
        let operands: Vec<Value> = operands.iter().map(|&v| v.clone()).collect();
        op.expand(&operands).unwrap_or_else(|error| {
            self.builder.fail(what, error.to_string());
            operands
        })
    }
}
