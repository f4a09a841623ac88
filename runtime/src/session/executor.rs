//! What a session asks of a device: the CPU or a GPU.

use castiron_ir::DType;

use super::RunError;
use super::extents::Extents;
use crate::memory::AlignedBytes;
use crate::profile::RunProfile;
use crate::tensor::TensorRef;

/// How many bound entries a session keeps: a decoding loop needs one, a prompt another.
pub(crate) const BINDINGS: usize = 8;

/// A call of an entry whose inputs have been checked.
pub(crate) struct Call<'a> {
    /// Number of the entry.
    pub entry: usize,
    /// Values of its symbols, in the order of its table.
    pub values: &'a [usize],
    /// All of its inputs, by name.
    pub inputs: &'a [(&'a str, TensorRef<'a>)],
    /// For each output, whether it is read.
    #[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "what lies on the host need not be read"))]
    pub wanted: &'a [bool],
}

impl<'a> Call<'a> {
    /// An input by name.
    pub fn input(&self, name: &str) -> Option<&TensorRef<'a>> {
        self.inputs.iter().find(|(n, _)| *n == name).map(|(_, tensor)| tensor)
    }
}

/// What a run leaves on the host.
pub(crate) struct Results<'a> {
    /// Element type and shape of each output.
    pub types: &'a [(DType, Vec<usize>)],
    /// The bytes of each output, as many as its type says if it was read.
    pub bytes: &'a [AlignedBytes],
}

/// A session's states and results on a device, with what executes entries there.
pub(crate) trait Executor: Send + Sync {
    /// Sets all states to zero.
    fn reset(&mut self);

    /// Gives the states other extents; what fits both is kept. A failure changes nothing.
    fn resize(&mut self, extents: &Extents) -> Result<(), RunError>;

    /// Replaces row `i` along a symbol's axis by what was row `rows[i]`; all these rows exist.
    fn select(&mut self, symbol: &str, rows: &[usize]) -> Result<(), RunError>;

    /// An instance of a state, if there is one.
    fn state(&mut self, number: usize, instance: usize) -> Result<Option<TensorRef<'_>>, RunError>;

    /// Replaces an instance of a state, which there is, by as many bytes.
    fn set_state(&mut self, number: usize, instance: usize, bytes: &[u8]) -> Result<(), RunError>;

    /// Executes an entry.
    fn run(&mut self, call: &Call<'_>) -> Result<Results<'_>, RunError>;

    /// Where the time of the last run went that came to its end, if it was measured.
    fn profile(&self) -> Option<&RunProfile> {
        None
    }
}
