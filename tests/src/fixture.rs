//! Reference folders: a small checkpoint, inputs, and what transformers made of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use castiron_ir::{DType, Tensor};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

/// A reference folder.
pub struct Fixture {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Inputs of `forward`, by name.
    pub inputs: BTreeMap<String, Tensor>,
    /// Outputs of transformers, by name.
    pub outputs: BTreeMap<String, Tensor>,
    /// What transformers generated; nothing for encoders.
    pub generations: Vec<Generated>,
}

/// A prompt and how transformers goes on.
#[derive(Clone, Debug, Deserialize)]
pub struct Generated {
    /// Tokens to start from; an encoder–decoder's source.
    pub prompt: Vec<u32>,
    /// The prompt, or an encoder–decoder's start, and what greedy search appends.
    pub greedy: Vec<u32>,
    /// The same of a search with four beams, where transformers has one.
    pub beam4: Option<Vec<u32>>,
    /// How many tokens either appends.
    pub max_new_tokens: usize,
    /// Of encoder–decoders, the same of greedy search as the folder's own settings have it.
    pub defaults: Option<Vec<u32>>,
}

impl Generated {
    /// What greedy search goes on from, and what it appends.
    pub fn split(&self) -> (&[u32], &[u32]) {
        self.greedy.split_at(self.greedy.len() - self.max_new_tokens)
    }
}

/// All reference folders, by name.
pub fn all() -> Vec<Fixture> {
    folders().iter().map(|path| Fixture::open(path)).collect()
}

/// Where the reference folders are, by name.
pub fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

impl Fixture {
    fn open(path: &Path) -> Fixture {
        let tensors = read_safetensors(&path.join("reference.safetensors"));
        let part = |prefix: &str| -> BTreeMap<String, Tensor> {
            tensors.iter().filter_map(|(n, t)| Some((n.strip_prefix(prefix)?.to_owned(), t.clone()))).collect()
        };
        let generations = match std::fs::read(path.join("generate.json")) {
            Ok(text) => serde_json::from_slice(&text).unwrap(),
            Err(_) => Vec::new(),
        };
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        Fixture { name, path: path.to_owned(), inputs: part("in."), outputs: part("out."), generations }
    }

    /// The first element of an output that is out of tolerance, in words. Positions that the mask
    /// pads do not count in outputs that have a row for each token.
    pub fn mismatch(&self, name: &str, actual: &Tensor, atol: f64, rtol: f64) -> Option<String> {
        let expected = &self.outputs[name];
        if actual.shape != expected.shape {
            return Some(format!("{name} has shape {:?}, not {:?}", actual.shape, expected.shape));
        }
        let within = |i: usize| {
            let (a, b) = (actual.data[i], expected.data[i]);
            (a - b).abs() <= atol + rtol * b.abs()
        };
        let at = self.counted(name).find(|&i| !within(i))?;
        let place = index(at, &expected.shape);
        Some(format!("{name}{place:?} is {}, not {}", actual.data[at], expected.data[at]))
    }

    /// The largest error of an output, relative to the expected element where that is above 1.
    pub fn largest_error(&self, name: &str, actual: &Tensor) -> f64 {
        let expected = &self.outputs[name];
        let error = |i: usize| (actual.data[i] - expected.data[i]).abs() / expected.data[i].abs().max(1.0);
        if actual.shape == expected.shape { self.counted(name).map(error).fold(0.0, f64::max) } else { f64::INFINITY }
    }

    /// Offsets of the elements of an output that are no padding.
    fn counted<'a>(&'a self, name: &str) -> impl Iterator<Item = usize> + 'a {
        let expected = &self.outputs[name];
        let is_decoders = self.inputs.contains_key("decoder_input_ids") && !name.starts_with("encoder_");
        let mask = if is_decoders { "decoder_attention_mask" } else { "attention_mask" };
        let mask = self.inputs.get(mask).filter(|m| expected.shape.starts_with(&m.shape));
        let width = mask.map_or(1, |m| expected.data.len() / m.data.len());
        (0..expected.data.len()).filter(move |i| mask.is_none_or(|m| m.data[i / width] != 0.0))
    }
}

/// The index of an element along each axis.
fn index(mut offset: usize, shape: &[usize]) -> Vec<usize> {
    let mut index: Vec<usize> = Vec::new();
    for extent in shape.iter().rev() {
        index.insert(0, offset % extent);
        offset /= extent;
    }
    index
}

/// All tensors of a file.
pub fn read_safetensors(path: &Path) -> BTreeMap<String, Tensor> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let convert = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        let chunks = |size: usize| view.data().chunks_exact(size);
        let (dtype, data): (DType, Vec<f64>) = match view.dtype() {
            Dtype::F32 => (DType::F32, chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()).into()).collect()),
            Dtype::F64 => (DType::F64, chunks(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()),
            Dtype::I64 => (DType::I64, chunks(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64).collect()),
            Dtype::I32 => (DType::I32, chunks(4).map(|b| i32::from_le_bytes(b.try_into().unwrap()).into()).collect()),
            other => panic!("{name} has element type {other:?}"),
        };
        (name, Tensor { dtype, shape: view.shape().to_vec(), data })
    };
    tensors.tensors().into_iter().map(convert).collect()
}
