//! What can be wrong with a PyTorch checkpoint.

/// A file of `torch.save` that is malformed, or asks for what is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TorchError {
    /// Neither a zip archive nor the older format.
    #[error("not a file that torch.save wrote")]
    Magic,
    /// A damaged or unusual archive.
    #[error("archive: {0}")]
    Archive(String),
    /// The pickle asks for a function or a class that does not rebuild tensors; nothing is ever called.
    #[error("the pickle asks for `{0}`, which is not among the globals that rebuild tensors")]
    Global(String),
    /// The file ends within a pickle.
    #[error("the pickle ends early, at offset {0}")]
    Truncated(usize),
    /// A pickle that does not hold together.
    #[error("the pickle, at offset {offset}: {problem}")]
    Pickle {
        /// Where.
        offset: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A storage that is missing, too short or of an unsupported kind.
    #[error("storage `{key}` {problem}")]
    Storage {
        /// Its key.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A tensor that does not lie in its storage, or is of an unsupported kind.
    #[error("tensor `{name}` {problem}")]
    Tensor {
        /// Its name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No dictionary of tensors where one belongs.
    #[error(
        "holds no state dict: a dictionary of tensors by name, at the top or under `state_dict`, `model` or `module`"
    )]
    NoTensors,
}
