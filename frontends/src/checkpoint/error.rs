//! What can be wrong with a checkpoint.

use std::path::PathBuf;

use super::gguf::GgufError;
use super::torch::TorchError;
use crate::config::ConfigError;

/// A path that cannot be read as a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A file that cannot be opened or read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A JSON file that does not parse, or is no object where one belongs.
    #[error("{path}: not the expected JSON: {message}")]
    Json {
        /// The file.
        path: PathBuf,
        /// The parser's words.
        message: String,
    },
    /// A file that parses but says what cannot be: a value of another type, an unknown name.
    #[error("{path}: {problem}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, naming the key.
        problem: String,
    },
    /// A file that is not valid safetensors.
    #[error("{path}: not a valid safetensors file: {source}")]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ::safetensors::SafeTensorError,
    },
    /// A file that is not valid GGUF, or holds what is not supported.
    #[error("{path}: {source}")]
    Gguf {
        /// The file.
        path: PathBuf,
        /// Why.
        source: GgufError,
    },
    /// A file that is no valid file of PyTorch's, or asks for more than tensors.
    #[error("{path}: {source}")]
    Torch {
        /// The file.
        path: PathBuf,
        /// Why.
        source: TorchError,
    },
    /// A folder without weights, or a file that holds none.
    #[error(
        "{0}: neither a GGUF file nor a folder with model.safetensors, pytorch_model.bin, the index of either, \
         one *.gguf or one *.pth"
    )]
    NoWeights(PathBuf),
    /// Several files of weights, of which none is the obvious one.
    #[error("{folder}: holds several files of weights, name one of them: {}", files.join(", "))]
    SeveralFiles {
        /// The folder.
        folder: PathBuf,
        /// Their names.
        files: Vec<String>,
    },
    /// An index without a map of names to files, or with a file outside the folder.
    #[error("{path}: `weight_map` {problem}")]
    Index {
        /// The index.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A name that occurs twice.
    #[error("tensor `{0}` occurs twice in the checkpoint")]
    Duplicate(String),
    /// An element type without a counterpart in the IR.
    #[error("tensor `{name}` has element type {dtype}, which is not supported")]
    DType {
        /// The tensor.
        name: String,
        /// Its type in the file.
        dtype: String,
    },
    /// A quantisation that is not implemented.
    #[error(transparent)]
    Config(ConfigError),
    /// Integers and scales that do not fit one another.
    #[error("quantised weight `{name}` {problem}")]
    Quantised {
        /// What the names of its tensors begin with.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
}
