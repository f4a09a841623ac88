//! Comparison of a compiled model with what transformers computed: `reference.safetensors`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use castiron_ir::DType;
use castiron_runtime::program::EntryProgram;
use castiron_runtime::session::{Model, RunError};
use castiron_runtime::tensor::{TensorError, TensorRef};
use safetensors::{Dtype, SafeTensors};

/// A comparison that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The reference cannot be read.
    #[error("{path}: {problem}")]
    Reference {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// No entry gives an output of the reference.
    #[error("the reference has output `{0}`, which no entry of the artifact gives")]
    Output(String),
    /// The model did not run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A tensor of another type.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// A tensor of the reference; integers are i32, all else f32.
#[derive(Clone, Debug)]
pub struct Reference {
    /// Extents.
    pub shape: Vec<usize>,
    /// Elements.
    pub values: Values,
}

/// Elements of a [`Reference`].
#[derive(Clone, Debug)]
pub enum Values {
    /// Numbers.
    F32(Vec<f32>),
    /// Integers.
    I32(Vec<i32>),
}

/// How far an output is from its reference.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The output.
    pub name: String,
    /// Largest |a - b|, and the index where it is.
    pub absolute: (f64, Vec<usize>),
    /// Largest |a - b| / |b|, and the index where it is.
    pub relative: (f64, Vec<usize>),
    /// Elements with |a - b| > atol + rtol·|b|.
    pub failures: usize,
    /// Elements that were compared: all but the padding of outputs with a row for each token.
    pub compared: usize,
}

/// Largest differences that are accepted.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// Absolute.
    pub atol: f64,
    /// Relative to the reference.
    pub rtol: f64,
}

/// Runs a model on the inputs of a reference and compares every output.
///
/// # Errors
/// A reference that cannot be read or names outputs that the model does not have; a run that fails.
pub fn verify(model: &Model, reference: &Path, tolerance: Tolerance) -> Result<Vec<Comparison>, VerifyError> {
    let tensors = read(reference)?;
    let part = |prefix: &str| -> BTreeMap<&str, &Reference> {
        tensors.iter().filter_map(|(name, t)| Some((name.strip_prefix(prefix)?, t))).collect()
    };
    let (inputs, mut wanted) = (part("in."), part("out."));
    let mut session = model.smallest_session()?;
    let mut comparisons = Vec::new();
    let entries: Vec<EntryProgram> = model.program().entries.clone();
    for entry in &entries {
        let given: Vec<&str> =
            entry.outputs.iter().map(|(n, _)| n.as_str()).filter(|n| wanted.contains_key(n)).collect();
        if given.is_empty() || !entry.inputs.iter().all(|(n, _)| inputs.contains_key(n.as_str()) || is_optional(n)) {
            continue;
        }
        let mut arguments = Vec::new();
        let filled: BTreeMap<&str, Reference> = entry.inputs.iter().filter_map(|(n, _)| missing(n, &inputs)).collect();
        for (name, _) in &entry.inputs {
            let argument = inputs.get(name.as_str()).copied().or_else(|| filled.get(name.as_str()));
            let argument = match argument.map(|reference| (&reference.shape, &reference.values)) {
                Some((shape, Values::I32(values))) => TensorRef::i32(shape, values)?,
                Some((shape, Values::F32(values))) => TensorRef::f32(shape, values)?,
                None => continue,
            };
            arguments.push((name.as_str(), argument));
        }
        let outputs = session.run(&entry.name, &arguments)?;
        for name in given {
            let (Some(actual), Some(expected)) = (outputs.get(name), wanted.remove(name)) else { continue };
            comparisons.push(compare(name, actual, expected, mask_of(name, &inputs), tolerance)?);
        }
    }
    match wanted.into_keys().next() {
        Some(name) => Err(VerifyError::Output(name.to_owned())),
        None => Ok(comparisons),
    }
}

/// Inputs that a reference may lack: masks, which then hide nothing, and token types, which are zero.
const OPTIONAL: [(&str, i32, &str); 3] = [
    ("attention_mask", 1, "input_ids"),
    ("token_type_ids", 0, "input_ids"),
    ("decoder_attention_mask", 1, DECODER_IDS),
];

/// The input that says that a model reads two sequences.
const DECODER_IDS: &str = "decoder_input_ids";

fn is_optional(name: &str) -> bool {
    OPTIONAL.iter().any(|(optional, ..)| *optional == name)
}

/// The values of an optional input that a reference lacks.
fn missing<'a>(name: &'a str, inputs: &BTreeMap<&str, &Reference>) -> Option<(&'a str, Reference)> {
    let (_, value, like) = OPTIONAL.iter().find(|(optional, ..)| *optional == name && !inputs.contains_key(name))?;
    let shape = inputs.get(like)?.shape.clone();
    let values = Values::I32(vec![*value; shape.iter().product()]);
    Some((name, Reference { shape, values }))
}

/// The mask of the sequence that an output belongs to.
fn mask_of<'a>(output: &str, inputs: &BTreeMap<&str, &'a Reference>) -> Option<&'a Reference> {
    let is_decoders = inputs.contains_key(DECODER_IDS) && !output.starts_with("encoder_");
    inputs.get(if is_decoders { "decoder_attention_mask" } else { "attention_mask" }).copied()
}

fn compare(
    name: &str,
    actual: TensorRef<'_>,
    expected: &Reference,
    mask: Option<&Reference>,
    tolerance: Tolerance,
) -> Result<Comparison, VerifyError> {
    let Values::F32(expected_values) = &expected.values else {
        return Err(VerifyError::Output(format!("{name}, of integers")));
    };
    if actual.shape() != expected.shape {
        return Err(TensorError::Size {
            dtype: DType::F32,
            shape: expected.shape.clone(),
            bytes: actual.bytes().len(),
        }
        .into());
    }
    let mask = mask.filter(|m| expected.shape.starts_with(&m.shape));
    let per_token = mask.map_or(1, |m| expected_values.len() / m.shape.iter().product::<usize>().max(1));
    let counts = |i: usize| match mask.map(|m| &m.values) {
        Some(Values::I32(mask)) => mask[i / per_token] != 0,
        _ => true,
    };
    let none = || (0.0, vec![]);
    let mut result = Comparison { name: name.to_owned(), absolute: none(), relative: none(), failures: 0, compared: 0 };
    for (i, (&a, &b)) in actual.as_f32()?.iter().zip(expected_values).enumerate().filter(|(i, _)| counts(*i)) {
        let (a, b) = (f64::from(a), f64::from(b));
        let difference = if a.is_nan() { f64::INFINITY } else { (a - b).abs() };
        result.compared += 1;
        result.failures += usize::from(difference > tolerance.atol + tolerance.rtol * b.abs());
        if difference > result.absolute.0 {
            result.absolute = (difference, index(i, &expected.shape));
        }
        if b != 0.0 && difference / b.abs() > result.relative.0 {
            result.relative = (difference / b.abs(), index(i, &expected.shape));
        }
    }
    Ok(result)
}

fn index(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut at = vec![0; shape.len()];
    for axis in (0..shape.len()).rev() {
        at[axis] = flat % shape[axis];
        flat /= shape[axis];
    }
    at
}

/// All tensors of a file.
fn read(path: &Path) -> Result<BTreeMap<String, Reference>, VerifyError> {
    let problem = |problem: String| VerifyError::Reference { path: path.to_owned(), problem };
    let bytes = std::fs::read(path).map_err(|e| problem(e.to_string()))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| problem(e.to_string()))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        let data = view.data();
        let values = match view.dtype() {
            Dtype::F32 => Values::F32(data.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()),
            Dtype::I32 => Values::I32(data.as_chunks().0.iter().map(|&b| i32::from_le_bytes(b)).collect()),
            Dtype::I64 => Values::I32(data.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b) as i32).collect()),
            Dtype::BOOL => Values::I32(data.iter().map(|&b| b.into()).collect()),
            other => return Err(problem(format!("`{name}` has element type {other:?}"))),
        };
        tensors.insert(name, Reference { shape: view.shape().to_vec(), values });
    }
    Ok(tensors)
}
