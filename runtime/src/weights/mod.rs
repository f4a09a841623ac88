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
mod layout;
mod quantise;
mod quantised;

use castiron_ir::{BlockFormat, blocks};
use serde::{Deserialize, Serialize};

pub use layout::{Layout, Plane};

/// Columns of a panel.
pub const PANEL: usize = 16;
/// Elements of a run, the contracted elements that kernels of quantised encodings take at a time.
pub const BLOCK: usize = 32;
/// Bytes of a vector of a quantised panel: four of each column.
pub const VECTOR: usize = 4 * PANEL;

/// How a packed matrix stores its numbers. The quantised ones are ggml's formats, whose numbers they hold
/// exactly; see [`Layout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Encoding {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// bfloat16.
    BF16,
    /// A scale for 32 signed bytes.
    Q8_0,
    /// A scale for 32 integers of 4 bits, offset by 8.
    Q4_0,
    /// A scale and a minimum for 32 integers of 4 bits.
    Q4_1,
    /// A scale for 32 integers of 5 bits, offset by 16.
    Q5_0,
    /// A scale and a minimum for 32 integers of 5 bits.
    Q5_1,
    /// 256 integers of 2 bits; a scale and a minimum for 16.
    Q2K,
    /// 256 integers of 3 bits, offset by 4; a scale for 16.
    Q3K,
    /// 256 integers of 4 bits; a scale and a minimum for 32.
    Q4K,
    /// 256 integers of 5 bits; a scale and a minimum for 32.
    Q5K,
    /// 256 integers of 6 bits, offset by 32; a scale for 16.
    Q6K,
    /// 256 signed bytes; a scale for 32. Holds formats whose integers come from a table.
    Q8S,
}

impl Encoding {
    /// Every encoding.
    pub const ALL: [Encoding; 14] = [
        Encoding::F32,
        Encoding::F16,
        Encoding::BF16,
        Encoding::Q8_0,
        Encoding::Q4_0,
        Encoding::Q4_1,
        Encoding::Q5_0,
        Encoding::Q5_1,
        Encoding::Q2K,
        Encoding::Q3K,
        Encoding::Q4K,
        Encoding::Q5K,
        Encoding::Q6K,
        Encoding::Q8S,
    ];

    /// Elements of `k` that are stored together, and their bytes in one column.
    pub const fn block(self) -> (usize, usize) {
        match (Layout::of(self), self) {
            (Some(layout), _) => (layout.span, layout.bytes() / PANEL),
            (None, Encoding::F32) => (1, 4),
            (None, _) => (1, 2),
        }
    }

    /// Whether blocks of elements share a scale.
    pub const fn is_quantised(self) -> bool {
        Layout::of(self).is_some()
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
    /// The blocks of a column, of a format that the matrix's encoding holds; they are only rearranged.
    Blocks(BlockFormat, &'a dyn Fn(usize) -> &'a [u8]),
}

/// Why a panel could not be packed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// Raw blocks for another encoding.
    #[error("{0:?} is not packed from blocks of {1:?}")]
    Format(Encoding, BlockFormat),
    /// A scale beyond what an f16 holds.
    #[error("column {0} has a block whose scale is too large for 16 bits; --weights f32 keeps it")]
    Scale(usize),
    /// A column of raw blocks of the wrong size.
    #[error("column {column} has {found} bytes of blocks, its extent {k} needs {expected}")]
    ColumnBytes {
        /// The column.
        column: usize,
        /// Bytes that the source gave.
        found: usize,
        /// Bytes that the format needs.
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

    /// Bytes that one column takes.
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
        out.fill(0);
        let columns = panel * PANEL..((panel + 1) * PANEL).min(self.n);
        let mut values = vec![0.0; self.k];
        for (lane, column) in columns.enumerate() {
            match (source, Layout::of(self.encoding)) {
                (Source::Values(read), layout) => {
                    read(column, &mut values);
                    match layout {
                        Some(layout) => {
                            let blocks = values.chunks(layout.span).map(|x| quantise::quantise(&layout, x));
                            interleave(&layout, lane, blocks, out);
                        }
                        None => dense::interleave(self.encoding, lane, &values, out),
                    }
                }
                (Source::Blocks(format, read), Some(layout)) if Encoding::of(format) == self.encoding => {
                    let raw = self.checked_blocks(format, column, read(column))?;
                    let blocks = raw.chunks_exact(format.block().1).map(|raw| blocks::parse(format, raw));
                    if blocks.clone().any(|block| block.d.is_finite() && block.d.abs() > half::f16::MAX.to_f32()) {
                        return Err(PackError::Scale(column));
                    }
                    interleave(&layout, lane, blocks, out);
                }
                (Source::Blocks(format, _), _) => return Err(PackError::Format(self.encoding, format)),
            }
        }
        Ok(())
    }

    fn checked_blocks<'a>(&self, format: BlockFormat, column: usize, raw: &'a [u8]) -> Result<&'a [u8], PackError> {
        let (elements, bytes) = format.block();
        let expected = self.k.div_ceil(elements).saturating_mul(bytes);
        if raw.len() == expected {
            return Ok(raw);
        }
        Err(PackError::ColumnBytes { column, found: raw.len(), expected, k: self.k })
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
        let Some(layout) = Layout::of(self.encoding) else {
            return dense::unpack(self.encoding, panel, column % PANEL, out);
        };
        for (packed, out) in panel.chunks_exact(layout.bytes()).zip(out.chunks_mut(layout.span)) {
            quantised::load(&layout, column % PANEL, packed).values(layout.group, out);
        }
    }
}

/// Writes the blocks of column `lane` of a panel.
fn interleave(layout: &Layout, lane: usize, blocks: impl Iterator<Item = blocks::Block>, panel: &mut [u8]) {
    for (packed, block) in panel.chunks_exact_mut(layout.bytes()).zip(blocks) {
        quantised::store(layout, lane, &block, packed);
    }
}

#[cfg(test)]
mod tests;
