//! The names and numbers of the artifact format, for its reader and its writer.

use std::collections::BTreeMap;

use castiron_ir::TextAssets;
use serde::{Deserialize, Serialize};

/// Key of `__metadata__` that says what kind of file it is.
pub const KEY_FORMAT: &str = "format";
/// Its value.
pub const FORMAT: &str = "castiron";
/// Key of `__metadata__` for the version of the format.
pub const KEY_VERSION: &str = "format_version";
/// Its value; readers accept no other.
pub const VERSION: &str = "4";
/// Key of `__metadata__` for the version of the compiler.
pub const KEY_CASTIRON: &str = "castiron_version";
/// Key of `__metadata__` for what identifies the checkpoint.
pub const KEY_SOURCE: &str = "source_sha256";

/// Tensor of the program: postcard of [`crate::program::Program`].
pub const PROGRAM: &str = "program";
/// Tensor of the launches on GPUs: postcard of [`crate::program::gpu::GpuProgram`]; absent unless compiled for.
pub const WGSL: &str = "wgsl";
/// Tensor of the description: JSON of [`castiron_ir::Description`].
pub const DESCRIPTION: &str = "description";
/// Tensor of the tokenizer: `tokenizer.json`; absent if there is none.
pub const TOKENIZER: &str = "tokenizer";
/// Tensor of chat template and special tokens: JSON of [`TextAside`].
pub const TEXT: &str = "text";

/// Weights begin at multiples of this many bytes of the file.
pub use crate::memory::ALIGNMENT;

/// A number of bytes, filled up to the alignment.
pub const fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT)
}

/// Tensor of an instance of a weight.
pub fn weight_name(number: u32, instance: u32) -> String {
    format!("weights.{number}.{instance}")
}

/// What [`TextAssets`] holds besides the tokenizer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TextAside {
    /// Jinja template that lays out a conversation.
    pub chat_template: Option<String>,
    /// Special tokens by role.
    pub special_tokens: BTreeMap<String, String>,
}

impl TextAside {
    /// The part of the assets that is no tokenizer.
    pub fn new(assets: &TextAssets) -> TextAside {
        TextAside { chat_template: assets.chat_template.clone(), special_tokens: assets.special_tokens.clone() }
    }
}
