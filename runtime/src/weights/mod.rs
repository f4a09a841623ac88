//! Packed weights: matrices laid out at compile time in the order in which kernels read them.

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

impl PackedMatrix {
    /// Bytes of one panel; `None` on overflow.
    pub fn panel_bytes(&self) -> Option<usize> {
        let dense = |size: usize| self.k.checked_mul(PANEL)?.checked_mul(size);
        let blocks = |size: usize| self.k.div_ceil(BLOCK).checked_mul(PANEL)?.checked_mul(size);
        match self.encoding {
            Encoding::F32 => dense(4),
            Encoding::F16 | Encoding::BF16 => dense(2),
            Encoding::Q8_0 => blocks(2 + BLOCK),
            Encoding::Q4_0 => blocks(2 + BLOCK / 2),
            Encoding::Q4_1 => blocks(4 + BLOCK / 2),
        }
    }

    /// Bytes of the whole matrix; `None` on overflow.
    pub fn bytes(&self) -> Option<usize> {
        self.n.div_ceil(PANEL).checked_mul(self.groups)?.checked_mul(self.panel_bytes()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_count_ragged_panels_and_blocks() {
        let matrix = |encoding, n, k| PackedMatrix { encoding, groups: 2, n, k };
        assert_eq!(matrix(Encoding::F32, 17, 3).bytes(), Some(2 * 2 * 3 * 16 * 4));
        assert_eq!(matrix(Encoding::Q4_1, 16, 33).bytes(), Some(2 * 2 * 16 * 20));
        assert_eq!(matrix(Encoding::F16, usize::MAX, usize::MAX).bytes(), None);
    }
}
