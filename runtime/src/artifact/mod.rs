//! Artifacts: valid safetensors files of byte tensors.
//!
//! Opening maps the file and reads what is small: header, program, description, texts about text.
//! Everything is checked before anyone sees it, so that a hostile file gives an error. Weights are
//! used where they lie; the tokenizer is handed out as bytes, and launches on GPUs are read when they
//! are asked for.

mod depth;
pub mod format;
mod source;

use std::ops::Range;
use std::path::{Path, PathBuf};

use castiron_ir::Description;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, Metadata, SafeTensorError};
use serde::de::DeserializeOwned;

use crate::memory::{AlignedBytes, OutOfMemory};
use crate::program::gpu::GpuProgram;
use crate::program::{GpuProgramError, Program, ProgramError};
use depth::Limited;
use format::TextAside;
use source::Source;

/// Most bytes of a program; real ones have some ten thousand.
const MAX_PROGRAM: usize = 16 << 20;
/// Most bytes of the launches on GPUs, which hold the text of shaders; real ones have a million.
const MAX_WGSL: usize = 64 << 20;
/// Deepest nesting of a program's data.
const MAX_DEPTH: usize = 128;

/// A file that is no artifact, or one that cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no safetensors file.
    #[error("not a safetensors file: {0}")]
    Container(SafeTensorError),
    /// The file is a safetensors file of another kind, such as a checkpoint.
    #[error("not a castiron artifact: its metadata has no `{key}` of `{expected}`", key = format::KEY_FORMAT, expected = format::FORMAT)]
    Kind,
    /// An artifact of another format version.
    #[error("the artifact has format version {found}, this runtime reads {expected}; compile it again", expected = format::VERSION)]
    Version {
        /// The artifact's.
        found: String,
    },
    /// A tensor that every artifact of this program has.
    #[error("tensor `{0}` is missing")]
    Missing(String),
    /// A tensor of another type, size or place than the format says.
    #[error("tensor `{name}` {fault}")]
    Tensor {
        /// Its name.
        name: String,
        /// What is wrong with it.
        fault: String,
    },
    /// Data that cannot be decoded.
    #[error("`{name}` cannot be decoded: {reason}")]
    Decode {
        /// Tensor that holds it.
        name: &'static str,
        /// Why.
        reason: String,
    },
    /// A program that breaks a rule.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// Launches on GPUs that break a rule, or do not fit the program.
    #[error("`{name}`: {0}", name = format::WGSL)]
    Gpu(#[from] GpuProgramError),
    /// No memory for a copy.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
}

/// An artifact that has been checked.
#[derive(Debug)]
pub struct Artifact {
    source: Source,
    program: Program,
    description: Description,
    text: TextAside,
    tokenizer: Option<Range<usize>>,
    wgsl: Option<Range<usize>>,
    /// For each weight and instance, its bytes in the file.
    weights: Vec<Vec<Range<usize>>>,
    castiron_version: String,
    source_hash: String,
}

impl Artifact {
    /// Maps a file. It must not be changed while it is in use.
    ///
    /// # Errors
    /// A file that cannot be read, or is no artifact that this runtime can trust.
    pub fn open(path: impl AsRef<Path>) -> Result<Artifact, ArtifactError> {
        let path = path.as_ref();
        let source = Source::map(path).map_err(|source| ArtifactError::Io { path: path.to_owned(), source })?;
        Artifact::read(source)
    }

    /// Reads a copy of bytes.
    ///
    /// # Errors
    /// Bytes that are no artifact that this runtime can trust.
    pub fn from_bytes(bytes: &[u8]) -> Result<Artifact, ArtifactError> {
        Artifact::read(Source::Owned(AlignedBytes::copy_of(bytes)?))
    }

    fn read(source: Source) -> Result<Artifact, ArtifactError> {
        let tensors = Tensors::read(&source)?;
        let value = |key: &str| tensors.value(key).unwrap_or_default().to_owned();
        let program: Program = decode(format::PROGRAM, MAX_PROGRAM, &source[tensors.required(format::PROGRAM)?])?;
        program.validate()?;
        let weights = tensors.weights(&program)?;
        let description = decode_json(format::DESCRIPTION, &source[tensors.required(format::DESCRIPTION)?])?;
        let text = match tensors.optional(format::TEXT)? {
            Some(range) => decode_json(format::TEXT, &source[range])?,
            None => TextAside::default(),
        };
        let (tokenizer, wgsl) = (tensors.optional(format::TOKENIZER)?, tensors.optional(format::WGSL)?);
        let (castiron_version, source_hash) = (value(format::KEY_CASTIRON), value(format::KEY_SOURCE));
        Ok(Artifact { program, description, text, tokenizer, wgsl, weights, castiron_version, source_hash, source })
    }

    /// What is executed.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// How the program is executed on GPUs, checked; nothing if it was not compiled for them.
    ///
    /// # Errors
    /// Data that cannot be decoded, or that does not fit the program.
    pub fn gpu_program(&self) -> Result<Option<GpuProgram>, ArtifactError> {
        let Some(range) = self.wgsl.clone() else { return Ok(None) };
        let launches: GpuProgram = decode(format::WGSL, MAX_WGSL, &self.source[range])?;
        launches.validate(&self.program)?;
        Ok(Some(launches))
    }

    /// What the model is for.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Chat template and special tokens.
    pub fn text(&self) -> &TextAside {
        &self.text
    }

    /// `tokenizer.json`, if there is one.
    pub fn tokenizer(&self) -> Option<&[u8]> {
        self.tokenizer.clone().map(|range| &self.source[range])
    }

    /// Bytes of an instance of a weight, aligned to [`format::ALIGNMENT`].
    ///
    /// # Panics
    /// When there is no such weight or instance.
    pub fn weight(&self, number: usize, instance: usize) -> &[u8] {
        &self.source[self.weights[number][instance].clone()]
    }

    /// Version of the compiler that wrote it.
    pub fn castiron_version(&self) -> &str {
        &self.castiron_version
    }

    /// What identifies the checkpoint.
    pub fn source_hash(&self) -> &str {
        &self.source_hash
    }
}

/// The header of a file.
struct Tensors {
    metadata: Metadata,
    /// Where the data begins.
    start: usize,
}

impl Tensors {
    fn read(bytes: &[u8]) -> Result<Tensors, ArtifactError> {
        let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(ArtifactError::Container)?;
        let tensors = Tensors { metadata, start: header + size_of::<u64>() };
        if tensors.value(format::KEY_FORMAT) != Some(format::FORMAT) {
            return Err(ArtifactError::Kind);
        }
        match tensors.value(format::KEY_VERSION) {
            Some(format::VERSION) => Ok(tensors),
            found => Err(ArtifactError::Version { found: found.unwrap_or("unknown").to_owned() }),
        }
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.metadata.metadata().as_ref()?.get(key).map(String::as_str)
    }

    fn required(&self, name: &str) -> Result<Range<usize>, ArtifactError> {
        self.optional(name)?.ok_or_else(|| ArtifactError::Missing(name.to_owned()))
    }

    /// Where a tensor lies in the file. The header's offsets have been checked against its length.
    fn optional(&self, name: &str) -> Result<Option<Range<usize>>, ArtifactError> {
        let Some(info) = self.metadata.info(name) else { return Ok(None) };
        if info.dtype != Dtype::U8 {
            return Err(fault(name, format!("is {:?}, not U8", info.dtype)));
        }
        Ok(Some(self.start + info.data_offsets.0..self.start + info.data_offsets.1))
    }

    /// Where the instances of each weight of a valid program lie.
    fn weights(&self, program: &Program) -> Result<Vec<Vec<Range<usize>>>, ArtifactError> {
        let mut weights = Vec::new();
        for (number, weight) in program.weights.iter().enumerate() {
            let mut instances = Vec::new();
            for instance in 0..weight.instances {
                let size = weight.bytes(instance as usize).unwrap_or(usize::MAX);
                let name = format::weight_name(number as u32, instance);
                let range = self.required(&name)?;
                if !range.start.is_multiple_of(format::ALIGNMENT) {
                    return Err(fault(&name, format!("starts at {}, which is not aligned", range.start)));
                }
                if size.checked_next_multiple_of(format::ALIGNMENT) != Some(range.len()) {
                    return Err(fault(&name, format!("has {} bytes for a weight of {size}", range.len())));
                }
                instances.push(range.start..range.start + size);
            }
            weights.push(instances);
        }
        Ok(weights)
    }
}

fn fault(name: &str, fault: String) -> ArtifactError {
    ArtifactError::Tensor { name: name.to_owned(), fault }
}

/// Decodes program data; its nesting is bounded before it can exhaust the stack.
fn decode<T: DeserializeOwned>(name: &'static str, most: usize, bytes: &[u8]) -> Result<T, ArtifactError> {
    let failure = |reason: String| ArtifactError::Decode { name, reason };
    if bytes.len() > most {
        return Err(failure(format!("it has {} bytes, more than {most}", bytes.len())));
    }
    let mut decoder = postcard::Deserializer::from_bytes(bytes);
    let data = T::deserialize(Limited::new(&mut decoder, MAX_DEPTH)).map_err(|e| failure(e.to_string()))?;
    match decoder.finalize() {
        Ok([]) => Ok(data),
        Ok(rest) => Err(failure(format!("{} bytes follow it", rest.len()))),
        Err(e) => Err(failure(e.to_string())),
    }
}

fn decode_json<T: DeserializeOwned>(name: &'static str, bytes: &[u8]) -> Result<T, ArtifactError> {
    serde_json::from_slice(bytes).map_err(|e| ArtifactError::Decode { name, reason: e.to_string() })
}
