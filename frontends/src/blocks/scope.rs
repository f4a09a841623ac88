//! The builder that models are written with: a region, a scope of tensor names, and what every
//! layer of a pass sees.

use std::cell::RefCell;
use std::rc::Rc;

use castiron_ir::op::fused::FusedOp;
use castiron_ir::op::{Extent, StateWrite};
use castiron_ir::{BuildError, Builder, DType, Dim, Entry, State, Type, Value, template};

use super::runs::{Run, runs};
use super::{Context, Inventory, Size};

/// Name of the loop index in templates of tensor and state names.
const INDEX: &str = "i";

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

    /// The same builder for layers that see something else.
    pub fn with_context(&self, context: Context) -> ModelBuilder<'a> {
        ModelBuilder { context, ..self.clone() }
    }

    /// A tensor of the checkpoint, named relative to the scope.
    pub fn param(&self, name: &str, shape: &[&Size]) -> Value {
        let name = format!("{}{name}", self.scope);
        let iterations = self.layer.iterations;
        for i in 0..iterations.unwrap_or(1) {
            let index = |symbol: &str| (symbol == INDEX && iterations.is_some()).then_some(i);
            match template::expand(&name, &index) {
                Ok(instance) => self.tensors.request(&instance, shape),
                Err(error) => self.builder.fail("param", error.to_string()),
            }
        }
        self.builder.param(name, shape.iter().map(|s| s.value()))
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
        let name = self.state(&format!("layers.{}.{name}", self.layer.template()), &ty);
        self.builder.state_update(&name, ty, axis, rows, position)
    }

    /// Keeps a value of the layer for other entries.
    pub(super) fn keep_in_layer(&self, name: &str, value: &Value) {
        self.keep(&format!("layers.{}.{name}", self.layer.template()), value);
    }

    /// What another entry has kept of the layer.
    pub(super) fn kept_in_layer(&self, name: &str, ty: Type) -> Value {
        self.kept(&format!("layers.{}.{name}", self.layer.template()), ty)
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
        let operands: Vec<Value> = operands.iter().map(|&v| v.clone()).collect();
        match op.expand(&operands) {
            Ok(mut results) => results.swap_remove(0),
            Err(error) => {
                self.builder.fail(what, error.to_string());
                operands[0].clone()
            }
        }
    }
}
