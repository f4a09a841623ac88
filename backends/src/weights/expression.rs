//! Weight expressions: what of a kernel's body depends on parameters, constants and the loop index
//! alone, and is therefore computed when a model is compiled.

use std::collections::HashMap;
use std::sync::Arc;

use castiron_ir::interpret::{EvalError, Frame};
use castiron_ir::op::Op;
use castiron_ir::{OpDef, Region, Tensor, TensorSource, Type, ValueId, template};

use super::WeightError;

/// The loop that a weight stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoopIndex {
    /// Name of the index in templates.
    pub name: String,
    /// Number of iterations.
    pub count: usize,
}

/// A value of a region that is known at compile time, for each iteration of a loop.
#[derive(Clone, Debug)]
pub struct WeightExpression {
    region: Arc<Region>,
    value: ValueId,
    label: String,
}

/// For each value of a region, whether it is known at compile time; `index` is the loop's index, the
/// only symbol that an extent may depend on.
pub fn known_values(region: &Region, index: Option<&LoopIndex>) -> Vec<bool> {
    let constant_dim = |d: &castiron_ir::Dim| d.symbols().iter().all(|&s| index.is_some_and(|i| i.name == s));
    let mut known = vec![false; region.value_count()];
    for node in &region.nodes {
        let is_static = node.results.iter().all(|&r| region.type_of(r).shape.iter().all(|d| d.as_constant().is_some()));
        let is_known = match &node.op {
            Op::Param(_) | Op::Constant(_) => true,
            Op::Extent(extent) => constant_dim(&extent.of),
            Op::StateRead(_) | Op::StateUpdate(_) | Op::StateWrite(_) | Op::Iota(_) => false,
            op => op.region().is_none() && node.operands.iter().all(|o| known[o.index()]),
        };
        node.results.iter().for_each(|r| known[r.index()] = is_known && is_static);
    }
    known
}

impl WeightExpression {
    /// A value of a region; [`known_values`] holds for it.
    pub fn new(region: &Arc<Region>, definitions: &[Option<usize>], value: ValueId) -> WeightExpression {
        WeightExpression { region: Arc::clone(region), value, label: label(region, definitions, value) }
    }

    /// The expression as text; equal texts have equal values.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Type of the value.
    pub fn ty(&self) -> &Type {
        self.region.type_of(self.value)
    }

    /// Extents of the value.
    pub fn shape(&self) -> Vec<usize> {
        let constant = |d: &castiron_ir::Dim| d.as_constant().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        self.ty().shape.iter().map(constant).collect()
    }

    /// The region, and the value in it.
    pub(super) fn parts(&self) -> (&Region, ValueId) {
        (&self.region, self.value)
    }

    /// Whether the value differs from iteration to iteration.
    pub fn depends_on(&self, index: &LoopIndex) -> bool {
        let definitions = self.region.definitions();
        let mut pending = vec![self.value];
        while let Some(value) = pending.pop() {
            let Some(node) = definitions[value.index()].map(|d| &self.region.nodes[d]) else { continue };
            let uses_index = match &node.op {
                Op::Param(param) => template::indices(&param.name).is_ok_and(|names| names.contains(&index.name)),
                Op::Extent(extent) => extent.of.symbols().contains(&index.name.as_str()),
                _ => false,
            };
            if uses_index {
                return true;
            }
            pending.extend(&node.operands);
        }
        false
    }

    /// The value in iteration `instance`.
    ///
    /// # Errors
    /// A missing parameter, or an op that has no value.
    pub fn evaluate(&self, source: &dyn TensorSource, index: Option<(&str, usize)>) -> Result<Tensor, WeightError> {
        let params = |name: &str| {
            let stored = source.tensor(name)?;
            let mut values = vec![0.0; stored.shape.iter().product()];
            stored.read(0, &mut values);
            let data = values.into_iter().map(f64::from).collect();
            Some(Tensor { dtype: castiron_ir::DType::F32, shape: stored.shape, data })
        };
        let (binding, mut states) = (HashMap::new(), HashMap::new());
        let mut frame = Frame::new(&params, &binding, &mut states);
        let (name, instance) = index.unwrap_or(("", 0));
        let definitions = self.region.definitions();
        let mut known = HashMap::new();
        let evaluate = |f: &mut Frame<'_>| evaluate(&self.region, &definitions, self.value, f, &mut known);
        frame.with_index(name, instance, evaluate).map_err(|e| WeightError::Evaluate(self.label.clone(), e))
    }
}

/// A known value by its definitions alone; `known` holds what has been computed.
fn evaluate(
    region: &Region,
    definitions: &[Option<usize>],
    value: ValueId,
    frame: &mut Frame<'_>,
    known: &mut HashMap<ValueId, Tensor>,
) -> Result<Tensor, EvalError> {
    if let Some(tensor) = known.get(&value) {
        return Ok(tensor.clone());
    }
    let node = &region.nodes[definitions[value.index()].expect("a known value has a definition")];
    let operands =
        node.operands.iter().map(|&o| evaluate(region, definitions, o, frame, known)).collect::<Result<Vec<_>, _>>()?;
    let results = node.op.evaluate(&operands.iter().collect::<Vec<_>>(), frame)?;
    let at = node.results.iter().position(|&r| r == value).expect("a definition gives its value");
    let result = results.into_iter().nth(at).expect("an op gives all its results");
    known.insert(value, result.clone());
    Ok(result)
}

fn label(region: &Region, definitions: &[Option<usize>], value: ValueId) -> String {
    let Some(node) = definitions[value.index()].map(|d| &region.nodes[d]) else { return String::from("?") };
    if let Op::Param(param) = &node.op {
        return param.name.clone();
    }
    let mut text = node.op.name().to_owned();
    node.op.print_attributes(&mut text);
    let operands: Vec<String> = node.operands.iter().map(|&o| label(region, definitions, o)).collect();
    if operands.is_empty() {
        format!("{text} : {}", region.type_of(value))
    } else {
        format!("{text}({})", operands.join(", "))
    }
}
