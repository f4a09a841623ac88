//! What can be wrong with a GGUF file.

/// A GGUF file that is malformed, or holds what is not supported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GgufError {
    /// Other bytes than GGUF's at the start.
    #[error("not a GGUF file")]
    Magic,
    /// A version of the format that is not read here.
    #[error("GGUF version {0} is not supported, only the little-endian versions 2 and 3 are")]
    Version(u32),
    /// The file ends within the header.
    #[error("the file ends early: {needed} bytes are needed at offset {offset}, {left} are left")]
    Truncated {
        /// Where.
        offset: usize,
        /// Bytes that the header asks for.
        needed: u64,
        /// Bytes that there are.
        left: usize,
    },
    /// A name or text that is not UTF-8.
    #[error("the text at offset {offset} is not UTF-8")]
    Text {
        /// Where.
        offset: usize,
    },
    /// A key with an impossible or unsupported value, or one that is missing.
    #[error("key `{key}` {problem}")]
    Key {
        /// The key.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A tensor with an impossible or unsupported description, or one that is missing.
    #[error("tensor `{name}` {problem}")]
    Tensor {
        /// Its name in the file.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An architecture without a builder.
    #[error("architecture `{found}` is not supported in GGUF, known are: {known}")]
    Architecture {
        /// The architecture.
        found: String,
        /// Those that are.
        known: String,
    },
    /// Keys of the architecture that are not implemented and could change the numbers.
    #[error("keys {0:?} are not implemented")]
    Unread(Vec<String>),
}

impl GgufError {
    pub(super) fn key(key: &str, problem: impl Into<String>) -> GgufError {
        GgufError::Key { key: key.to_owned(), problem: problem.into() }
    }

    pub(super) fn tensor(name: &str, problem: impl Into<String>) -> GgufError {
        GgufError::Tensor { name: name.to_owned(), problem: problem.into() }
    }
}
