//! Values of symbols.

use castiron_ir::Dim;
use castiron_ir::dim::DimError;

use crate::program::{EntryProgram, Program, lone_symbol};

/// The symbols of an entry, each with a place for its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SymbolTable {
    names: Vec<String>,
    /// For each symbol, whether an extent of a state that the entry uses is it.
    of_states: Vec<bool>,
    /// For each input, for each axis.
    inputs: Vec<Vec<Extent>>,
}

/// An extent of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Extent {
    Constant(usize),
    /// Gives symbol number `.0` its value.
    Symbol(usize),
    /// Follows from symbols.
    Computed(Dim),
}

/// Numbers for the symbols of an entry, in the order of its table; 0 for none yet.
pub(crate) type Values = [usize];

/// An input that does not fit what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mismatch {
    /// Another number of axes; the one expected.
    Rank(usize),
    /// An axis without elements.
    Empty(usize),
    /// Axis, and the extent it should have.
    Extent(usize, usize),
}

impl SymbolTable {
    /// The symbols of a valid entry.
    pub fn new(program: &Program, entry: &EntryProgram) -> SymbolTable {
        let names: Vec<String> =
            entry.symbols(program).map(|symbols| symbols.into_iter().map(str::to_owned).collect()).unwrap_or_default();
        let states = entry.states(program).unwrap_or_default();
        let is_of_state = |name: &String| {
            let mut dims = states.iter().flat_map(|&number| &program.states[number].ty.shape);
            dims.any(|dim| lone_symbol(dim) == Some(name))
        };
        let of_states = names.iter().map(is_of_state).collect();
        let extent = |dim: &Dim| {
            let symbol = lone_symbol(dim).and_then(|name| names.iter().position(|n| n == name));
            match (symbol, dim.as_constant().map(usize::try_from)) {
                (Some(number), _) => Extent::Symbol(number),
                (None, Some(Ok(n))) => Extent::Constant(n),
                _ => Extent::Computed(dim.clone()),
            }
        };
        let inputs = entry.inputs.iter().map(|(_, ty)| ty.shape.iter().map(extent).collect()).collect();
        SymbolTable { names, of_states, inputs }
    }

    /// Names of the symbols that states give values, with their numbers.
    pub fn of_states(&self) -> impl Iterator<Item = (usize, &str)> {
        let named = self.names.iter().map(String::as_str).enumerate();
        named.zip(&self.of_states).filter(|(_, is_of_state)| **is_of_state).map(|(named, _)| named)
    }

    /// The symbols.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Value of a dim.
    ///
    /// # Errors
    /// Those of [`Dim::evaluate`].
    pub fn evaluate(&self, dim: &Dim, values: &Values) -> Result<usize, DimError> {
        if let Some(constant) = dim.as_constant() {
            return usize::try_from(constant).map_err(|_| DimError::OutOfRange(dim.to_string()));
        }
        dim.evaluate(&|name| {
            let at = self.names.iter().position(|n| n == name)?;
            values.get(at).copied().filter(|&value| value > 0)
        })
    }

    /// Takes the values that the shape of an input gives.
    ///
    /// # Errors
    /// A shape that contradicts what is known.
    pub fn infer(&self, input: usize, shape: &[usize], values: &mut Values) -> Result<(), Mismatch> {
        let extents = &self.inputs[input];
        if extents.len() != shape.len() {
            return Err(Mismatch::Rank(extents.len()));
        }
        for (axis, (extent, &found)) in extents.iter().zip(shape).enumerate() {
            match *extent {
                _ if found == 0 => return Err(Mismatch::Empty(axis)),
                Extent::Symbol(number) if values[number] == 0 => values[number] = found,
                Extent::Symbol(number) if values[number] != found => {
                    return Err(Mismatch::Extent(axis, values[number]));
                }
                Extent::Constant(expected) if expected != found => return Err(Mismatch::Extent(axis, expected)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Checks the extents that follow from symbols, once all inputs are known.
    ///
    /// # Errors
    /// A shape that contradicts what is known.
    pub fn check(&self, input: usize, shape: &[usize], values: &Values) -> Result<(), Mismatch> {
        for (axis, (extent, &found)) in self.inputs[input].iter().zip(shape).enumerate() {
            if let Extent::Computed(dim) = extent {
                let expected = self.evaluate(dim, values).unwrap_or(0);
                if expected != found {
                    return Err(Mismatch::Extent(axis, expected));
                }
            }
        }
        Ok(())
    }
}
