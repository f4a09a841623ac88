//! Packed weights: matrices laid out at compile time in the order in which kernels read them.
//!
//! ```text
//!  W[group][n][k]            packed: one run of bytes, little-endian, panel after panel
//!
//!        k ──►                columns 0..16          columns 16..32
//!   n  ┌────────┐            ┌─────────┬─────────┐  ┌─────────┬─────────┐
//!   │  │ 16 rows│ panel 0    │ group 0 │ group 1 │  │ group 0 │ group 1 │ …
//!   ▼  ├────────┤            └─────────┴─────────┘  └─────────┴─────────┘
//!      │ 16 rows│ panel 1     panel_bytes each
//!      └────────┘
//! ```
//!
//! A row of `W` is a column of the product `x · Wᵀ`, and is called a column here. The inside of a
//! panel is drawn in the file of its encoding family: `dense.rs` and `quantised.rs`.

mod dense;
mod ggml;
mod quantised;

use serde::{Deserialize, Serialize};

/// Columns of a panel.
pub const PANEL: usize = 16;
/// Contracted elements that share a scale in quantised encodings.
pub const BLOCK: usize = 32;

/// How a packed matrix stores its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Encoding {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// bfloat16.
    BF16,
    /// ggml's Q8_0: a scale for 32 signed bytes.
    Q8_0,
    /// ggml's Q4_0: a scale for 32 nibbles offset by 8.
    Q4_0,
    /// ggml's Q4_1: a scale and a minimum for 32 nibbles.
    Q4_1,
}

impl Encoding {
    /// Every encoding.
    pub const ALL: [Encoding; 6] =
        [Encoding::F32, Encoding::F16, Encoding::BF16, Encoding::Q8_0, Encoding::Q4_0, Encoding::Q4_1];

    /// Elements of `k` that are stored together, and their bytes in one column.
    pub const fn block(self) -> (usize, usize) {
        match self {
            Encoding::F32 => (1, 4),
            Encoding::F16 | Encoding::BF16 => (1, 2),
            Encoding::Q8_0 => (BLOCK, 2 + BLOCK),
            Encoding::Q4_0 => (BLOCK, 2 + BLOCK / 2),
            Encoding::Q4_1 => (BLOCK, 4 + BLOCK / 2),
        }
    }

    /// Whether blocks of elements share a scale.
    pub const fn is_quantised(self) -> bool {
        self.block().0 > 1
    }
}

/// A weight `W[group][n][k]` packed into panels of [`PANEL`] output columns.
///
/// Groups are merged linears of equal width, such as gate and up, whose panels alternate:
/// `[ceil(n / 16)][group][panel]`. Ragged columns and a ragged last block of `k` are filled with
/// zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PackedMatrix {
    /// Storage of the numbers.
    pub encoding: Encoding,
    /// Merged linears.
    pub groups: usize,
    /// Output columns of each group.
    pub n: usize,
    /// Contracted extent.
    pub k: usize,
}

/// Where the columns of a group come from; the argument is the column, below `n`.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// Writes the `k` values of a column.
    Values(&'a dyn Fn(usize, &mut [f32])),
    /// The ggml blocks of a column, in the matrix's own encoding; they are only rearranged.
    Blocks(&'a dyn Fn(usize) -> &'a [u8]),
}

/// Why a panel could not be packed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// Raw blocks for an encoding that has none.
    #[error("{0:?} is packed from values, not from blocks")]
    NoBlocks(Encoding),
    /// A column of raw blocks of the wrong size.
    #[error("column {column} has {found} bytes of blocks, its extent {k} needs {expected}")]
    ColumnBytes {
        /// The column.
        column: usize,
        /// Bytes that the source gave.
        found: usize,
        /// Bytes that the encoding needs.
        expected: usize,
        /// The contracted extent.
        k: usize,
    },
    /// An output of another size than a panel.
    #[error("a panel takes {expected} bytes, not {found}")]
    PanelBytes {
        /// Bytes of the output.
        found: usize,
        /// Bytes of a panel.
        expected: usize,
    },
}

impl PackedMatrix {
    /// Bytes of one panel; `None` on overflow.
    pub fn panel_bytes(&self) -> Option<usize> {
        self.column_bytes()?.checked_mul(PANEL)
    }

    /// Bytes of the whole matrix; `None` on overflow.
    pub fn bytes(&self) -> Option<usize> {
        self.panels().checked_mul(self.groups)?.checked_mul(self.panel_bytes()?)
    }

    /// Panels of a group.
    pub fn panels(&self) -> usize {
        self.n.div_ceil(PANEL)
    }

    /// Bytes that one column takes: those of its ggml blocks, for quantised encodings.
    pub fn column_bytes(&self) -> Option<usize> {
        let (elements, bytes) = self.encoding.block();
        self.k.div_ceil(elements).checked_mul(bytes)
    }

    /// Packs panel `panel` of a group. Panels are independent, so that packing may be spread over
    /// threads and streamed; panel `p` of group `g` goes to `(p · groups + g) · panel_bytes`.
    ///
    /// # Errors
    /// Sizes that do not fit the matrix.
    pub fn pack_panel(&self, panel: usize, source: Source<'_>, out: &mut [u8]) -> Result<(), PackError> {
        let expected = self.panel_bytes().unwrap_or(usize::MAX);
        if out.len() != expected {
            return Err(PackError::PanelBytes { found: out.len(), expected });
        }
        let columns = panel * PANEL..((panel + 1) * PANEL).min(self.n);
        if columns.len() < PANEL {
            out.fill(0);
        }
        let mut values = vec![0.0; self.k];
        let mut blocks = vec![0; if self.encoding.is_quantised() { expected / PANEL } else { 0 }];
        for (lane, column) in columns.enumerate() {
            match source {
                Source::Values(read) => {
                    read(column, &mut values);
                    if self.encoding.is_quantised() {
                        ggml::quantise(self.encoding, &values, &mut blocks);
                        quantised::interleave(self.encoding, lane, &blocks, out);
                    } else {
                        dense::interleave(self.encoding, lane, &values, out);
                    }
                }
                Source::Blocks(read) => {
                    quantised::interleave(self.encoding, lane, self.checked_blocks(column, read(column))?, out);
                }
            }
        }
        Ok(())
    }

    fn checked_blocks<'a>(&self, column: usize, blocks: &'a [u8]) -> Result<&'a [u8], PackError> {
        let expected = self.column_bytes().unwrap_or(usize::MAX);
        if !self.encoding.is_quantised() {
            Err(PackError::NoBlocks(self.encoding))
        } else if blocks.len() != expected {
            Err(PackError::ColumnBytes { column, found: blocks.len(), expected, k: self.k })
        } else {
            Ok(blocks)
        }
    }

    /// Writes the values of one column of a packed matrix: an embedding read from the table that
    /// also serves as the output projection.
    ///
    /// # Panics
    /// When `bytes` is not [`PackedMatrix::bytes`] long, `out` not `k`, or there is no such column.
    pub fn unpack_row(&self, bytes: &[u8], group: usize, column: usize, out: &mut [f32]) {
        assert!(group < self.groups && column < self.n, "column {column} of group {group} is outside the matrix");
        assert_eq!(out.len(), self.k);
        let size = bytes.len() / (self.panels() * self.groups);
        assert_eq!(Some(size), self.panel_bytes());
        let panel = &bytes[(column / PANEL * self.groups + group) * size..][..size];
        if self.encoding.is_quantised() {
            quantised::unpack(self.encoding, panel, column % PANEL, out);
        } else {
            dense::unpack(self.encoding, panel, column % PANEL, out);
        }
    }
}

#[cfg(test)]
mod tests;
