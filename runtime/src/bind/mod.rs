//! Binding: symbols become numbers, and every address that a kernel can form is checked against the
//! memory it falls in.
//!
//! ```text
//!  symbols.rs   values of symbols, inferred from the shapes of inputs
//!  view.rs      views in numbers, and their bounds
//!  padding/     rows of padding that need not be computed
//!  reach.rs     how far the addresses of kernels reach
//!  hazard.rs    what is written is written once, and not read by others at the same time
//! ```

pub(crate) mod hazard;
pub(crate) mod padding;
#[cfg(feature = "gpu")]
pub(crate) mod reach;
pub(crate) mod symbols;
pub(crate) mod view;

use castiron_ir::dim::DimError;

use crate::cpu::row::CompileError;

/// Why an entry cannot be bound to the extents of its inputs.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A kernel is at fault.
    #[error("entry `{entry}`, kernel {number} `{label}`: {fault}")]
    Kernel {
        /// The entry.
        entry: String,
        /// Number of the kernel.
        number: usize,
        /// Its label.
        label: String,
        /// What is wrong.
        fault: BindFault,
    },
    /// Something else of the entry is at fault.
    #[error("entry `{entry}`: {fault}")]
    Entry {
        /// The entry.
        entry: String,
        /// What is wrong.
        fault: BindFault,
    },
}

/// Rules that a program can break once the extents are known.
#[derive(Debug, thiserror::Error)]
pub enum BindFault {
    /// A dim without value.
    #[error(transparent)]
    Dim(#[from] DimError),
    /// A size that does not fit.
    #[error("{0} is too large")]
    TooLarge(&'static str),
    /// An extent that is summed over and is 0.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// An operand that leaves its memory.
    #[error("{operand} reaches byte {needed} of {available}")]
    Bounds {
        /// The operand.
        operand: String,
        /// End of the last byte it can touch.
        needed: usize,
        /// Bytes of its memory.
        available: usize,
    },
    /// An operand with more elements than code counts.
    #[error("{operand} reaches beyond element {most}")]
    TooFar {
        /// The operand.
        operand: String,
        /// The last element that has a number.
        most: usize,
    },
    /// A packed weight that is not read as whole or parts of rows.
    #[error("{0} does not lie within the rows of its packed weight")]
    PackedRow(String),
    /// An index that varies along the row.
    #[error("the index of {0} varies along the row")]
    VaryingIndex(String),
    /// A result that would be written at one address for several indices.
    #[error("{0} is written twice at one place")]
    WrittenTwice(String),
    /// Memory that is read while other threads write it.
    #[error("{read} shares memory with {written}, which is written at the same time")]
    Overlap {
        /// What is read or written.
        read: String,
        /// What is written.
        written: String,
    },
    /// A row program without code.
    #[error(transparent)]
    Compile(#[from] CompileError),
}

/// Checks that a row has as many elements as shall be taken of it.
pub(crate) fn check_row(n: usize, k: u32) -> Result<(), BindFault> {
    let (needed, available) = (k as usize, n);
    if needed <= available {
        Ok(())
    } else {
        Err(BindFault::Bounds { operand: "the number of elements that are taken".into(), needed, available })
    }
}
