//! Snapshots: all states of a session, to go on from there later, or more than once.

use std::collections::HashMap;

use castiron_ir::DType;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::{RunError, Session};
use crate::tensor::{Tensor, TensorRef};

/// The states of a session at one moment. Those of recurrent models are as small as ever, KV caches as large as
/// their capacity.
#[derive(Debug)]
pub struct Snapshot {
    symbols: Vec<(String, usize)>,
    /// Each instance of each state.
    states: Vec<(String, Vec<Tensor>)>,
}

/// Bytes that are no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// No safetensors file.
    #[error("not a safetensors file: {0}")]
    Format(#[from] safetensors::SafeTensorError),
    /// A safetensors file with something else.
    #[error("not a snapshot of a session: {0}")]
    Content(String),
    /// No memory.
    #[error(transparent)]
    Memory(#[from] crate::memory::OutOfMemory),
}

/// What stands between the name of a state and the number of an instance.
const INSTANCE: char = '#';
/// Says in a file's metadata that a key is a symbol.
const SYMBOL: &str = "symbol.";

impl Session {
    /// All states as they are now.
    ///
    /// # Errors
    /// No memory, or a GPU that does not give them.
    pub fn snapshot(&mut self) -> Result<Snapshot, RunError> {
        let slots: Vec<_> = self.model().program().states.iter().map(|s| (s.name.clone(), s.instances)).collect();
        let mut states = Vec::new();
        for (name, instances) in slots {
            let tensors = (0..instances as usize).map(|i| Ok(self.state(&name, i)?.to_owned()?));
            states.push((name.clone(), tensors.collect::<Result<_, RunError>>()?));
        }
        Ok(Snapshot { symbols: self.symbols().to_vec(), states })
    }

    /// Sets all states, and the extents that they depend on, to what they were.
    ///
    /// # Errors
    /// States or symbols of another model, before anything has changed; no memory, or a GPU that does not take
    /// them.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<(), RunError> {
        for slot in &self.model().program().states {
            let instances = snapshot.states.iter().find(|(name, _)| *name == slot.name).map(|(_, tensors)| tensors);
            let missing = |instance| RunError::UnknownState { name: slot.name.clone(), instance };
            let instances = instances.ok_or_else(|| missing(0))?;
            if instances.len() != slot.instances as usize {
                return Err(missing(instances.len().min(slot.instances as usize)));
            }
            let shape = snapshot.shape(&slot.ty.shape);
            let fits = |t: &Tensor| t.view().dtype() == slot.ty.dtype && shape.as_deref() == Some(t.view().shape());
            if let Some(other) = instances.iter().find(|tensor| !fits(tensor)) {
                let (found, expected) = (format!("{} {:?}", other.view().dtype(), other.view().shape()), &slot.ty);
                return Err(RunError::StateType { name: slot.name.clone(), found, expected: expected.to_string() });
            }
        }
        for (symbol, value) in &snapshot.symbols {
            self.resize(symbol, *value)?;
        }
        for (name, instances) in &snapshot.states {
            for (instance, tensor) in instances.iter().enumerate() {
                self.set_state(name, instance, tensor.view())?;
            }
        }
        Ok(())
    }
}

impl Snapshot {
    /// A shape by the symbols' values.
    fn shape(&self, shape: &[castiron_ir::Dim]) -> Option<Vec<usize>> {
        let value = |symbol: &str| self.symbols.iter().find(|(name, _)| name == symbol).map(|&(_, value)| value);
        shape.iter().map(|dim| dim.evaluate(&value).ok()).collect()
    }

    /// The snapshot as the bytes of a safetensors file, with a tensor `NAME#INSTANCE` for each instance of a state.
    ///
    /// # Errors
    /// A state of an element type that these files do not have.
    pub fn to_bytes(&self) -> Result<Vec<u8>, SnapshotError> {
        let symbols = self.symbols.iter().map(|(name, value)| (format!("{SYMBOL}{name}"), value.to_string()));
        let metadata: HashMap<String, String> = symbols.collect();
        let mut tensors = Vec::new();
        for (name, instances) in &self.states {
            for (i, tensor) in instances.iter().enumerate() {
                tensors.push((format!("{name}{INSTANCE}{i}"), stored(tensor.view())?));
            }
        }
        Ok(safetensors::serialize(tensors, Some(metadata))?)
    }

    /// The snapshot that bytes are.
    ///
    /// # Errors
    /// Bytes that are none, and no memory.
    pub fn from_bytes(bytes: &[u8]) -> Result<Snapshot, SnapshotError> {
        let content = |what: String| SnapshotError::Content(what);
        let (_, metadata) = SafeTensors::read_metadata(bytes)?;
        let file = SafeTensors::deserialize(bytes)?;
        let mut symbols = Vec::new();
        for (key, value) in metadata.metadata().iter().flatten() {
            let Some(name) = key.strip_prefix(SYMBOL) else { continue };
            let number = value.parse().ok().filter(|&value: &usize| value > 0);
            symbols.push((name.to_owned(), number.ok_or_else(|| content(format!("`{name}` is {value}")))?));
        }
        symbols.sort();
        let mut numbered = Vec::new();
        for (key, view) in file.tensors() {
            let parts =
                key.rsplit_once(INSTANCE).and_then(|(name, i)| Some((name.to_owned(), i.parse::<usize>().ok()?)));
            let place = parts.ok_or_else(|| content(format!("a tensor `{key}`")))?;
            let dtype = dtype(view.dtype()).ok_or_else(|| content(format!("{:?} of `{key}`", view.dtype())))?;
            let mut tensor = Tensor::zeros(dtype, view.shape())?;
            if tensor.bytes_mut().len() != view.data().len() {
                return Err(content(format!("`{key}` has {} bytes", view.data().len())));
            }
            tensor.bytes_mut().copy_from_slice(view.data());
            numbered.push((place, tensor));
        }
        numbered.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut states: Vec<(String, Vec<Tensor>)> = Vec::new();
        for ((name, instance), tensor) in numbered {
            match states.last_mut().filter(|(last, _)| *last == name) {
                Some((_, instances)) if instances.len() == instance => instances.push(tensor),
                None if instance == 0 => states.push((name, vec![tensor])),
                _ => return Err(content(format!("instance {instance} of `{name}` does not follow another"))),
            }
        }
        Ok(Snapshot { symbols, states })
    }
}

/// Element types that both sides know.
const DTYPES: [(DType, Dtype); 8] = [
    (DType::F64, Dtype::F64),
    (DType::F32, Dtype::F32),
    (DType::F16, Dtype::F16),
    (DType::BF16, Dtype::BF16),
    (DType::I64, Dtype::I64),
    (DType::I32, Dtype::I32),
    (DType::I8, Dtype::I8),
    (DType::Bool, Dtype::BOOL),
];

fn dtype(stored: Dtype) -> Option<DType> {
    DTYPES.iter().find(|(_, other)| *other == stored).map(|&(dtype, _)| dtype)
}

fn stored(tensor: TensorRef<'_>) -> Result<TensorView<'_>, SnapshotError> {
    let found = DTYPES.iter().find(|(dtype, _)| *dtype == tensor.dtype());
    let (_, dtype) = found.ok_or_else(|| SnapshotError::Content(format!("a state of {}", tensor.dtype())))?;
    Ok(TensorView::new(*dtype, tensor.shape().to_vec(), tensor.bytes())?)
}
