//! Writing artifacts: a safetensors file of byte tensors, its weights aligned for mapping.
//!
//! ```text
//!  8 bytes   length of the header
//!  header    JSON: `__metadata__`, then each tensor; filled up with spaces to a multiple of 64
//!  weights   `weights.{number}.{instance}`, each filled up to a multiple of 64 bytes
//!  the rest  `program`, `description`, `text`, `wgsl`, `tokenizer`
//! ```

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use castiron_ir::{Description, TensorSource, TextAssets};
use castiron_runtime::artifact::format;
use castiron_runtime::program::gpu::GpuProgram;
use castiron_runtime::program::{Program, Weight};
use serde_json::{Map, Value, json};
use tempfile::NamedTempFile;

use crate::lower::{Lowered, retype};
use crate::weights::{PlannedWeight, WeightError, WeightFormat};
use crate::wgsl::{self, WgslError};

/// An artifact that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file system refuses.
    #[error("{path}: {source}")]
    Io {
        /// The artifact.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A weight that cannot be had.
    #[error(transparent)]
    Weight(#[from] WeightError),
    /// A program or description without serial form.
    #[error("the program cannot be serialised: {0}")]
    Serialise(String),
}

/// A compiled model, all but the bytes of its weights.
pub struct Compiled<'a> {
    /// What is executed.
    pub program: Program,
    /// How it is executed on GPUs, if it was compiled for them.
    pub gpu: Option<GpuProgram>,
    weights: Vec<PlannedWeight>,
    source: &'a dyn TensorSource,
}

/// What an artifact holds besides the program.
pub struct Companions<'a> {
    /// What the model is for.
    pub description: &'a Description,
    /// How it reads text.
    pub text: &'a TextAssets,
    /// What identifies the checkpoint.
    pub source_hash: &'a str,
}

impl<'a> Compiled<'a> {
    /// Chooses the encoding of each weight.
    ///
    /// # Errors
    /// Parameters that the checkpoint lacks or has in another shape.
    pub fn new(
        lowered: Lowered,
        source: &'a dyn TensorSource,
        format: WeightFormat,
    ) -> Result<Compiled<'a>, WeightError> {
        let weights = lowered.weights.finish(source, format)?;
        let described: Vec<Weight> = weights.iter().map(|w| w.weight.clone()).collect();
        let mut entries = lowered.entries;
        retype(&mut entries, &described);
        let program = Program { weights: described, states: lowered.states, entries };
        Ok(Compiled { program, gpu: None, weights, source })
    }

    /// Adds the shaders for GPUs.
    ///
    /// # Errors
    /// A kernel that cannot be written in WGSL.
    pub fn add_wgsl(&mut self) -> Result<(), WgslError> {
        self.gpu = Some(wgsl::generate(&self.program)?);
        Ok(())
    }

    /// Bytes of all weights.
    ///
    /// # Errors
    /// More than memory can hold.
    pub fn weight_bytes(&self) -> Result<u64, WeightError> {
        let instances = self.weights.iter().flat_map(|w| (0..w.weight.instances as usize).map(move |i| w.bytes(i)));
        instances.map(|bytes| Ok(bytes? as u64)).sum()
    }

    /// Writes the artifact: under another name first, so that the path never holds a part of it.
    /// `progress` is told how many bytes of weights are done, after each.
    ///
    /// # Errors
    /// A file system that refuses, weights that cannot be had. No file is left behind.
    pub fn write(&self, path: &Path, companions: &Companions<'_>, progress: &dyn Fn(u64)) -> Result<u64, WriteError> {
        let io = |source| WriteError::Io { path: path.to_owned(), source };
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = NamedTempFile::new_in(folder).map_err(io)?;
        let texts = self.texts(companions)?;
        let header = self.header(companions, &texts)?;
        let mut out = BufWriter::new(file.as_file_mut());
        let length = (header.len() as u64).to_le_bytes();
        out.write_all(&length).and_then(|()| out.write_all(&header)).map_err(io)?;
        let mut written = (length.len() + header.len()) as u64;
        let mut done = 0;
        for weight in &self.weights {
            let mut buffer = Vec::new();
            for instance in 0..weight.weight.instances as usize {
                let bytes = weight.bytes(instance)?;
                buffer.clear();
                buffer.resize(format::padded(bytes), 0);
                weight.write(self.source, instance, &mut buffer[..bytes])?;
                out.write_all(&buffer).map_err(io)?;
                written += buffer.len() as u64;
                done += bytes as u64;
                progress(done);
            }
        }
        for (_, text) in &texts {
            out.write_all(text).map_err(io)?;
            written += text.len() as u64;
        }
        out.flush().map_err(io)?;
        drop(out);
        publish(file, path).map_err(io)?;
        Ok(written)
    }

    /// The tensors after the weights.
    fn texts(&self, companions: &Companions<'_>) -> Result<Vec<(&'static str, Vec<u8>)>, WriteError> {
        let serialise = |e: String| WriteError::Serialise(e);
        let program = postcard::to_stdvec(&self.program).map_err(|e| serialise(e.to_string()))?;
        let gpu = self.gpu.as_ref().map(postcard::to_stdvec).transpose().map_err(|e| serialise(e.to_string()))?;
        let json = |value: Result<Vec<u8>, serde_json::Error>| value.map_err(|e| serialise(e.to_string()));
        let text = format::TextAside::new(companions.text);
        let mut texts = vec![
            (format::PROGRAM, program),
            (format::DESCRIPTION, json(serde_json::to_vec(companions.description))?),
            (format::TEXT, json(serde_json::to_vec(&text))?),
        ];
        texts.extend(gpu.map(|gpu| (format::WGSL, gpu)));
        if !companions.text.tokenizer.is_empty() {
            texts.push((format::TOKENIZER, companions.text.tokenizer.clone()));
        }
        Ok(texts)
    }

    fn header(&self, companions: &Companions<'_>, texts: &[(&str, Vec<u8>)]) -> Result<Vec<u8>, WriteError> {
        let mut tensors = Map::new();
        let metadata = json!({
            format::KEY_FORMAT: format::FORMAT,
            format::KEY_VERSION: format::VERSION,
            format::KEY_CASTIRON: env!("CARGO_PKG_VERSION"),
            format::KEY_SOURCE: companions.source_hash,
        });
        tensors.insert("__metadata__".to_owned(), metadata);
        let mut offset = 0;
        let mut add = |name: String, bytes: usize| {
            let entry: Value = json!({ "dtype": "U8", "shape": [bytes], "data_offsets": [offset, offset + bytes] });
            tensors.insert(name, entry);
            offset += bytes;
        };
        for (number, weight) in self.weights.iter().enumerate() {
            for instance in 0..weight.weight.instances {
                add(format::weight_name(number as u32, instance), format::padded(weight.bytes(instance as usize)?));
            }
        }
        texts.iter().for_each(|(name, text)| add((*name).to_owned(), text.len()));
        let mut header = serde_json::to_vec(&tensors).map_err(|e| WriteError::Serialise(e.to_string()))?;
        header.resize(format::padded(header.len() + 8) - 8, b' ');
        Ok(header)
    }
}

/// Gives a finished file its name and the permissions of a file that is created as usual.
fn publish(file: NamedTempFile, path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    file.persist(path).map(drop).map_err(|e| e.error)
}
