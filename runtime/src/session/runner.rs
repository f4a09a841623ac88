//! Sessions: what outlives the calls of a model's entries.

use super::executor::{Call, Executor};
use super::extents::Extents;
use super::infer::{choose, infer};
use super::model::Model;
use super::{Outputs, RunError};
use crate::profile::RunProfile;
use crate::tensor::TensorRef;

/// What outlives the calls of a model's entries: states, results, and entries bound to recent extents.
pub struct Session {
    model: Model,
    extents: Extents,
    /// Values of the symbols of the entry that is about to run.
    values: Vec<usize>,
    /// For each of its outputs, whether it is read.
    wanted: Vec<bool>,
    executor: Box<dyn Executor>,
}

impl Session {
    pub(super) fn new(model: Model, extents: Extents) -> Result<Session, RunError> {
        let executor = model.executor(&extents)?;
        Ok(Session { model, extents, values: Vec::new(), wanted: Vec::new(), executor })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The extent that a symbol of the states stands for.
    pub fn symbol(&self, name: &str) -> Option<usize> {
        self.extents.get(name)
    }

    /// What the symbols of the states stand for, by name.
    pub(super) fn symbols(&self) -> &[(String, usize)] {
        self.extents.symbols()
    }

    /// Sets all states to zero.
    pub fn reset(&mut self) {
        self.executor.reset();
    }

    /// Gives a symbol of the states another extent, such as a larger capacity. What fits both extents
    /// is kept, the rest is zero.
    ///
    /// # Errors
    /// An unknown symbol, or no memory; then nothing changes.
    pub fn resize(&mut self, symbol: &str, value: usize) -> Result<(), RunError> {
        if self.extents.get(symbol) == Some(value) {
            return Ok(());
        }
        let extents = self.extents.with(symbol, value)?;
        self.executor.resize(&extents)?;
        self.extents = extents;
        Ok(())
    }

    /// Replaces row `i` of all states along a symbol's axis by what was row `rows[i]`: a batch whose
    /// sequences continue others, as in beam search.
    ///
    /// # Errors
    /// A row that does not exist, or another number of rows than there are.
    pub fn select(&mut self, symbol: &str, rows: &[usize]) -> Result<(), RunError> {
        let count = self.extents.get(symbol).unwrap_or(0);
        if let Some(&row) = rows.iter().find(|&&row| row >= count) {
            return Err(RunError::Row { symbol: symbol.to_owned(), row, count });
        }
        if rows.len() != count {
            return Err(RunError::Row { symbol: symbol.to_owned(), row: rows.len(), count });
        }
        self.executor.select(symbol, rows)
    }

    /// An instance of a state, which is read back if it lies on a GPU.
    ///
    /// # Errors
    /// No such state or instance, or a GPU that does not give it.
    pub fn state(&mut self, name: &str, instance: usize) -> Result<TensorRef<'_>, RunError> {
        let unknown = || RunError::UnknownState { name: name.to_owned(), instance };
        let number = self.model.program().states.iter().position(|s| s.name == name).ok_or_else(unknown)?;
        self.executor.state(number, instance)?.ok_or_else(unknown)
    }

    /// Replaces an instance of a state.
    ///
    /// # Errors
    /// No such state or instance, another type or shape, or a GPU that does not take it.
    pub fn set_state(&mut self, name: &str, instance: usize, value: TensorRef<'_>) -> Result<(), RunError> {
        let unknown = || RunError::UnknownState { name: name.to_owned(), instance };
        let states = &self.model.program().states;
        let number = states.iter().position(|s| s.name == name).ok_or_else(unknown)?;
        let slot = &states[number];
        let shape = self.extents.shape(slot)?;
        if instance >= slot.instances as usize {
            return Err(unknown());
        }
        if (value.dtype(), value.shape()) != (slot.ty.dtype, shape.as_slice()) {
            let (found, expected) =
                (format!("{} {:?}", value.dtype(), value.shape()), format!("{} {shape:?}", slot.ty.dtype));
            return Err(RunError::StateType { name: name.to_owned(), found, expected });
        }
        self.executor.set_state(number, instance, value.bytes())
    }

    /// Executes an entry. Extents follow from the shapes of the inputs and from the states.
    ///
    /// # Errors
    /// Inputs that do not fit the entry or one another, no memory, or an index from memory that is
    /// out of range; after the last, outputs and states are unspecified. A GPU has reasons of its own.
    pub fn run(&mut self, entry: &str, inputs: &[(&str, TensorRef<'_>)]) -> Result<Outputs<'_>, RunError> {
        self.call(entry, inputs, None)
    }

    /// Executes an entry of which only some outputs are read: the others are not there, and what lies
    /// on a GPU stays there.
    ///
    /// # Errors
    /// As [`Session::run`], and an output that the entry does not have.
    pub fn run_for(
        &mut self,
        entry: &str,
        inputs: &[(&str, TensorRef<'_>)],
        outputs: &[&str],
    ) -> Result<Outputs<'_>, RunError> {
        self.call(entry, inputs, Some(outputs))
    }

    /// Where the time of the last run went that came to its end, if the model was opened with
    /// [`Options::profile`](super::Options::profile).
    pub fn profile(&self) -> Option<&RunProfile> {
        self.executor.profile()
    }

    fn call(
        &mut self,
        entry: &str,
        inputs: &[(&str, TensorRef<'_>)],
        outputs: Option<&[&str]>,
    ) -> Result<Outputs<'_>, RunError> {
        let common = &self.model.common;
        let number = common.entry(entry)?;
        let entry = &common.artifact.program().entries[number];
        infer(entry, &common.tables[number], &self.extents, inputs, &mut self.values)?;
        choose(entry, outputs, &mut self.wanted)?;
        let call = Call { entry: number, values: &self.values, inputs, wanted: &self.wanted };
        let results = self.executor.run(&call)?;
        Ok(Outputs::new(entry, results, &self.wanted))
    }
}
