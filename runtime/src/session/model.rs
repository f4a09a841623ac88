//! Models: an artifact with threads to execute it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::{RunError, Session};
use crate::artifact::Artifact;
use crate::bind::symbols::SymbolTable;
use crate::cpu::executor::{BoundEntry, WorkerMemory, bind};
use crate::cpu::isa::Isa;
use crate::cpu::pool::Pool;
use crate::memory::AlignedBytes;
use crate::plan::MemoryPlan;
use crate::program::{EntryProgram, Program};

/// How a model is executed.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Number of threads; by default, as many as the system says can run at once.
    pub threads: usize,
    /// Instruction set; by default, the best that the machine has.
    pub isa: Isa,
}

impl Default for Options {
    fn default() -> Options {
        Options { threads: std::thread::available_parallelism().map_or(1, usize::from), isa: Isa::detect() }
    }
}

/// An artifact with threads to execute it. Clones share both.
#[derive(Clone)]
pub struct Model {
    pub(super) shared: Arc<Shared>,
}

/// What clones and sessions share.
pub(super) struct Shared {
    pub artifact: Artifact,
    /// Symbols of each entry.
    pub tables: Vec<SymbolTable>,
    pub isa: Isa,
    pub threads: usize,
    pub engine: Mutex<Engine>,
}

/// What a run needs for itself.
pub(super) struct Engine {
    pub pool: Pool,
    pub workers: Vec<Mutex<WorkerMemory>>,
    pub arena: AlignedBytes,
}

impl Model {
    /// Opens an artifact.
    ///
    /// # Errors
    /// A file that is no artifact, or a system that gives no threads.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Model, RunError> {
        Model::new(Artifact::open(path)?, options)
    }

    /// Takes an artifact.
    ///
    /// # Errors
    /// A system that gives no threads.
    pub fn new(artifact: Artifact, options: Options) -> Result<Model, RunError> {
        let pool = Pool::new(options.threads).map_err(RunError::Threads)?;
        let threads = pool.threads();
        let workers = (0..threads).map(|_| Mutex::default()).collect();
        let program = artifact.program();
        let tables = program.entries.iter().map(|entry| SymbolTable::new(program, entry)).collect();
        let engine = Mutex::new(Engine { pool, workers, arena: AlignedBytes::default() });
        Ok(Model { shared: Arc::new(Shared { artifact, tables, isa: options.isa, threads, engine }) })
    }

    /// The artifact.
    pub fn artifact(&self) -> &Artifact {
        &self.shared.artifact
    }

    /// The program.
    pub fn program(&self) -> &Program {
        self.shared.artifact.program()
    }

    /// An entry by name.
    pub fn entry(&self, name: &str) -> Option<&EntryProgram> {
        self.program().entries.iter().find(|entry| entry.name == name)
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.shared.threads
    }

    /// Instruction set.
    pub fn isa(&self) -> Isa {
        self.shared.isa
    }

    /// A session whose states have these extents, such as a batch `b` and a capacity `c`.
    ///
    /// # Errors
    /// Symbols that the states do not have, or that are missing; no memory.
    pub fn session(&self, symbols: &[(&str, usize)]) -> Result<Session, RunError> {
        Session::new(self.clone(), symbols)
    }

    /// A session whose states are as small as can be, for entries that use none.
    ///
    /// # Errors
    /// No memory.
    pub fn smallest_session(&self) -> Result<Session, RunError> {
        let dims = self.program().states.iter().flat_map(|state| &state.ty.shape);
        let symbols: BTreeSet<&str> = dims.flat_map(|dim| dim.symbols()).collect();
        self.session(&symbols.into_iter().map(|symbol| (symbol, 1)).collect::<Vec<_>>())
    }

    /// Where the buffers of an entry lie for given extents.
    ///
    /// # Errors
    /// An unknown entry, or one that cannot be bound to these extents.
    pub fn plan(&self, entry: &str, symbols: &[(&str, usize)]) -> Result<MemoryPlan, RunError> {
        Ok(self.bind_named(entry, symbols)?.plan().clone())
    }

    /// An estimate of the elementary operations that an entry takes for given extents.
    ///
    /// # Errors
    /// An unknown entry, or one that cannot be bound to these extents.
    pub fn operations(&self, entry: &str, symbols: &[(&str, usize)]) -> Result<f64, RunError> {
        Ok(self.bind_named(entry, symbols)?.operations())
    }

    fn bind_named(&self, entry: &str, symbols: &[(&str, usize)]) -> Result<BoundEntry, RunError> {
        let number = self.shared.entry(entry)?;
        let given = |name: &String| symbols.iter().find(|(n, _)| n == name).map_or(0, |&(_, value)| value);
        let values: Vec<usize> = self.shared.tables[number].names().iter().map(given).collect();
        self.shared.bind(number, &values)
    }
}

impl Shared {
    /// Number of an entry.
    pub fn entry(&self, name: &str) -> Result<usize, RunError> {
        let entries = &self.artifact.program().entries;
        entries.iter().position(|entry| entry.name == name).ok_or_else(|| RunError::UnknownEntry {
            name: name.to_owned(),
            known: names(entries.iter().map(|e| e.name.as_str())),
        })
    }

    /// Binds an entry to the values of its symbols.
    pub fn bind(&self, number: usize, values: &[usize]) -> Result<BoundEntry, RunError> {
        let program = self.artifact.program();
        let with = (self.isa, self.threads);
        Ok(bind(program, &program.entries[number], (&self.tables[number], values), with)?)
    }

    /// The engine, whose state is whole even if a run panicked.
    pub fn engine(&self) -> std::sync::MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names for a message.
pub(super) fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if quoted.is_empty() { "none".to_owned() } else { quoted.join(", ") }
}
