//! Models: an artifact with what executes it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::cpu::{CpuModel, bind_entry};
use super::executor::Executor;
use super::extents::Extents;
use super::{RunError, Session};
use crate::artifact::Artifact;
use crate::bind::symbols::SymbolTable;
use crate::cpu::isa::Isa;
use crate::gpu::{AdapterInfo, DeviceMemory, GpuModel, GpuOptions};
use crate::plan::MemoryPlan;
use crate::program::gpu::Features;
use crate::program::{EntryProgram, Program};

/// How a model is executed.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of threads; by default, as many as the system says can run at once.
    pub threads: usize,
    /// Instruction set; by default, the best that the machine has.
    pub isa: Isa,
    /// What executes it; by default, the CPU.
    pub device: Device,
    /// Whether runs are measured, so that [`Session::profile`] can tell where their time goes. Measuring takes
    /// some time itself.
    pub profile: bool,
}

/// What executes a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The machine's CPU.
    #[default]
    Cpu,
    /// A GPU.
    Gpu(GpuOptions),
}

impl Default for Options {
    fn default() -> Options {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Options { threads, isa: Isa::detect(), device: Device::Cpu, profile: false }
    }
}

/// An artifact with what executes it. Clones share both.
#[derive(Clone)]
pub struct Model {
    pub(super) common: Arc<Common>,
    options: Arc<Options>,
    engine: Engine,
}

/// What does not depend on the device.
pub(crate) struct Common {
    pub artifact: Artifact,
    /// Symbols of each entry.
    pub tables: Vec<SymbolTable>,
}

/// What executes entries.
#[derive(Clone)]
enum Engine {
    Cpu(Arc<CpuModel>),
    Gpu(Arc<GpuModel>),
}

impl Model {
    /// Opens an artifact.
    ///
    /// # Errors
    /// A file that is no artifact, and those of [`Model::new`].
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Model, RunError> {
        Model::new(Artifact::open(path)?, options)
    }

    /// Takes an artifact.
    ///
    /// # Errors
    /// A system that gives no threads. On a GPU: no such adapter, an artifact that was not compiled for
    /// GPUs, or weights that the device does not take.
    pub fn new(artifact: Artifact, options: Options) -> Result<Model, RunError> {
        let program = artifact.program();
        let tables = program.entries.iter().map(|entry| SymbolTable::new(program, entry)).collect();
        let common = Arc::new(Common { artifact, tables });
        let engine = match &options.device {
            Device::Cpu => Engine::Cpu(Arc::new(CpuModel::new(common.clone(), &options)?)),
            Device::Gpu(gpu) => Engine::Gpu(Arc::new(GpuModel::open(common.clone(), gpu, options.profile)?)),
        };
        Ok(Model { common, options: Arc::new(options), engine })
    }

    /// The artifact.
    pub fn artifact(&self) -> &Artifact {
        &self.common.artifact
    }

    /// The program.
    pub fn program(&self) -> &Program {
        self.common.artifact.program()
    }

    /// An entry by name.
    pub fn entry(&self, name: &str) -> Option<&EntryProgram> {
        self.program().entries.iter().find(|entry| entry.name == name)
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        match &self.engine {
            Engine::Cpu(cpu) => cpu.threads(),
            Engine::Gpu(_) => self.options.threads,
        }
    }

    /// Instruction set.
    pub fn isa(&self) -> Isa {
        self.options.isa
    }

    /// The GPU that executes it, with the features that its shaders may use.
    pub fn adapter(&self) -> Option<(&AdapterInfo, Features)> {
        self.gpu().map(|gpu| gpu.adapter())
    }

    /// Memory that it takes on its GPU, where that is known.
    pub fn device_memory(&self) -> Option<DeviceMemory> {
        self.gpu()?.device_memory()
    }

    /// Ends its GPU device, as a driver may do at any time: everything that is asked of the model and
    /// its sessions from then on is an error. For tests of what follows.
    pub fn destroy_device(&self) {
        if let Some(gpu) = self.gpu() {
            gpu.destroy_device();
        }
    }

    fn gpu(&self) -> Option<&GpuModel> {
        match &self.engine {
            Engine::Cpu(_) => None,
            Engine::Gpu(gpu) => Some(gpu),
        }
    }

    /// A session whose states have these extents, such as a batch `b` and a capacity `c`.
    ///
    /// # Errors
    /// Symbols that the states do not have, or that are missing; no memory.
    pub fn session(&self, symbols: &[(&str, usize)]) -> Result<Session, RunError> {
        Session::new(self.clone(), Extents::new(self.program(), symbols)?)
    }

    /// As [`Model::session`], for callers that do not know which of the symbols the states have: recurrent models
    /// have no capacity `c`.
    ///
    /// # Errors
    /// Symbols that are missing; no memory.
    pub fn session_with(&self, symbols: &[(&str, usize)]) -> Result<Session, RunError> {
        let known = self.state_symbols();
        self.session(&symbols.iter().copied().filter(|(symbol, _)| known.contains(symbol)).collect::<Vec<_>>())
    }

    /// A session whose states are as small as can be, for entries that use none.
    ///
    /// # Errors
    /// No memory.
    pub fn smallest_session(&self) -> Result<Session, RunError> {
        self.session(&self.state_symbols().into_iter().map(|symbol| (symbol, 1)).collect::<Vec<_>>())
    }

    /// Symbols in the extents of states.
    fn state_symbols(&self) -> BTreeSet<&str> {
        let dims = self.program().states.iter().flat_map(|state| &state.ty.shape);
        dims.flat_map(|dim| dim.symbols()).collect()
    }

    /// What a session of this model works with.
    pub(super) fn executor(&self, extents: &Extents) -> Result<Box<dyn Executor>, RunError> {
        Ok(match &self.engine {
            Engine::Cpu(cpu) => Box::new(cpu.clone().session(extents)?),
            Engine::Gpu(gpu) => gpu.clone().session(extents)?,
        })
    }

    /// Where the buffers of an entry lie for given extents.
    ///
    /// # Errors
    /// An unknown entry, or one that cannot be bound to these extents.
    pub fn plan(&self, entry: &str, symbols: &[(&str, usize)]) -> Result<MemoryPlan, RunError> {
        let (number, values) = self.values(entry, symbols)?;
        match &self.engine {
            Engine::Cpu(_) => Ok(bind_entry(&self.common, number, &values, self.with(), None)?.plan().clone()),
            Engine::Gpu(gpu) => gpu.plan(number, &values),
        }
    }

    /// An estimate of the elementary operations that an entry takes for given extents.
    ///
    /// # Errors
    /// An unknown entry, or one that cannot be bound to these extents.
    pub fn operations(&self, entry: &str, symbols: &[(&str, usize)]) -> Result<f64, RunError> {
        let (number, values) = self.values(entry, symbols)?;
        Ok(bind_entry(&self.common, number, &values, self.with(), None)?.operations())
    }

    fn with(&self) -> (Isa, usize) {
        (self.isa(), self.threads())
    }

    /// Number of an entry, and the values of its symbols.
    fn values(&self, entry: &str, symbols: &[(&str, usize)]) -> Result<(usize, Vec<usize>), RunError> {
        let number = self.common.entry(entry)?;
        let given = |name: &String| symbols.iter().find(|(n, _)| n == name).map_or(0, |&(_, value)| value);
        Ok((number, self.common.tables[number].names().iter().map(given).collect()))
    }
}

impl Common {
    /// Number of an entry.
    pub fn entry(&self, name: &str) -> Result<usize, RunError> {
        let entries = &self.artifact.program().entries;
        entries.iter().position(|entry| entry.name == name).ok_or_else(|| RunError::UnknownEntry {
            name: name.to_owned(),
            known: names(entries.iter().map(|e| e.name.as_str())),
        })
    }
}

/// Names for a message.
pub(super) fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if quoted.is_empty() { "none".to_owned() } else { quoted.join(", ") }
}
