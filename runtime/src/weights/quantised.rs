//! Q8_0, Q4_0 and Q4_1 panels: blocks of 32 `k`, columns interleaved in two octets.
//!
//! ```text
//!  panel = [block 0][block 1] …, each block of 32 k:
//!  ┌──────────────┬──────────────────┬──────────────────┬──────────────────┐
//!  │ 16 scales f16│ 16 minima f16    │ octet 0: c0..c7  │ octet 1: c8..c15 │
//!  │              │ (Q4_1 only)      │                  │                  │
//!  └──────────────┴──────────────────┴──────────────────┴──────────────────┘
//!  an octet is vectors of 32 bytes, four bytes of each column (a dot instruction's lane):
//!
//!             column 0          column 1               column 7
//!          ┌──┬──┬──┬──┐     ┌──┬──┬──┬──┐          ┌──┬──┬──┬──┐
//!  Q8_0    │k0│k1│k2│k3│     │k0│k1│k2│k3│    …     │k0│k1│k2│k3│   vector 0 of 8
//!  Q4      │k0│k1│k2│k3│ low │k0│k1│k2│k3│    …     │k0│k1│k2│k3│   vector 0 of 4
//!          │16│17│18│19│ high│16│17│18│19│    …     │16│17│18│19│
//!          └──┴──┴──┴──┘     └──┴──┴──┴──┘          └──┴──┴──┴──┘
//! ```
//!
//! Byte `i` of a ggml block of nibbles holds elements `i` and `i + 16`, as here, so ggml blocks are
//! packed by moving their bytes. All vectors lie on multiples of 32 bytes.

use super::{BLOCK, Encoding, PANEL, ggml};

/// Columns of an octet.
const OCTET: usize = PANEL / 2;

/// Where the parts of a ggml block and of a panel's block lie.
struct Layout {
    /// f16 numbers of a column: its scale, then its minimum if it has one.
    params: usize,
    /// Bytes of integers of a column.
    integers: usize,
}

impl Layout {
    fn of(encoding: Encoding) -> Layout {
        match encoding {
            Encoding::Q8_0 => Layout { params: 1, integers: BLOCK },
            Encoding::Q4_0 => Layout { params: 1, integers: BLOCK / 2 },
            Encoding::Q4_1 => Layout { params: 2, integers: BLOCK / 2 },
            Encoding::F32 | Encoding::F16 | Encoding::BF16 => unreachable!("not a quantised encoding"),
        }
    }

    /// Bytes of a column's block.
    fn bytes(&self) -> usize {
        2 * self.params + self.integers
    }

    /// Calls `each(offset in the panel's block, offset in the column's block, length)` for the runs
    /// of bytes of column `lane`.
    fn runs(&self, lane: usize, mut each: impl FnMut(usize, usize, usize)) {
        for param in 0..self.params {
            each(2 * (param * PANEL + lane), 2 * param, 2);
        }
        let octet = 2 * PANEL * self.params + lane / OCTET * OCTET * self.integers;
        for quad in 0..self.integers / 4 {
            each(octet + 4 * (quad * OCTET + lane % OCTET), 2 * self.params + 4 * quad, 4);
        }
    }
}

/// Writes the ggml blocks of column `lane` of a panel.
pub(super) fn interleave(encoding: Encoding, lane: usize, blocks: &[u8], panel: &mut [u8]) {
    let layout = Layout::of(encoding);
    let size = layout.bytes();
    for (packed, block) in panel.chunks_exact_mut(PANEL * size).zip(blocks.chunks_exact(size)) {
        layout.runs(lane, |to, from, len| packed[to..to + len].copy_from_slice(&block[from..from + len]));
    }
}

/// Reads column `lane` of a panel.
pub(super) fn unpack(encoding: Encoding, panel: &[u8], lane: usize, out: &mut [f32]) {
    let layout = Layout::of(encoding);
    let size = layout.bytes();
    let mut block = [0; 2 + BLOCK];
    for (packed, out) in panel.chunks_exact(PANEL * size).zip(out.chunks_mut(BLOCK)) {
        layout.runs(lane, |from, to, len| block[to..to + len].copy_from_slice(&packed[from..from + len]));
        ggml::dequantise(encoding, &block[..size], out);
    }
}
