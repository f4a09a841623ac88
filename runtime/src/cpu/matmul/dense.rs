//! Products with packed F32, F16 and BF16 weights.

use std::ops::Range;

use half::{bf16, f16};

use super::blocked::{Blocked, Panels};
use super::microkernel::{Right, Upcoming};
use super::{Matmul, Tile};
use crate::cpu::isa::Isa;
use crate::cpu::scratch::Carver;
use crate::cpu::simd::{Kernel, Simd};
use crate::weights::{Encoding, PANEL, PackedMatrix};

/// Panels of a packed matrix.
struct Packed<'a> {
    isa: Isa,
    shape: PackedMatrix,
    bytes: &'a [u8],
}

impl Packed<'_> {
    /// A panel from row `k` on.
    fn rows(&self, panel: usize, group: usize, k: usize) -> Right {
        let (_, size) = self.shape.encoding.block();
        let offset = ((panel * self.shape.groups + group) * self.shape.k + k) * PANEL * size;
        let start = self.bytes.as_ptr().wrapping_add(offset);
        match self.shape.encoding {
            Encoding::F32 => Right::F32(start.cast()),
            Encoding::F16 => Right::F16(start.cast()),
            Encoding::BF16 => Right::BF16(start.cast()),
            _ => unreachable!("not a dense encoding"),
        }
    }
}

impl Panels for Packed<'_> {
    unsafe fn in_place(&self, panel: usize, group: usize, k: usize) -> Option<Right> {
        Some(self.rows(panel, group, k))
    }

    fn apart(&self) -> usize {
        self.shape.groups * self.shape.k * PANEL
    }

    unsafe fn copy(&self, panel: usize, group: usize, k: Range<usize>, to: &mut [f32], step: usize) {
        let right = self.rows(panel, group, k.start);
        self.isa.run(Widen { right, rows: k.len(), to, step });
    }

    fn next(&self, panel: usize, group: usize, k: Range<usize>) -> Upcoming {
        let (_, size) = self.shape.encoding.block();
        let row = PANEL * size;
        let offset = ((panel * self.shape.groups + group + 1) * self.shape.k + k.start) * row;
        let at = self.bytes.as_ptr().wrapping_add(offset);
        Upcoming { at, bytes: k.len() * row, apart: self.shape.groups * self.shape.k * row, pace: 1 }
    }
}

/// Copies rows of a panel as f32.
struct Widen<'a> {
    right: Right,
    rows: usize,
    to: &'a mut [f32],
    step: usize,
}

impl Kernel for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        for (i, row) in self.to.chunks_mut(self.step).take(self.rows).enumerate() {
            for (j, out) in row[..PANEL].chunks_exact_mut(S::LANES).enumerate() {
                let at = i * PANEL + j * S::LANES;
                // SAFETY: the caller of `Panels::copy` vouches for the rows.
                unsafe {
                    let x = match self.right {
                        Right::F32(p) => s.load(p.add(at)),
                        Right::F16(p) => s.load_f16(p.add(at).cast::<f16>().cast()),
                        Right::BF16(p) => s.load_bf16(p.add(at).cast::<bf16>().cast()),
                        Right::I8(p) => s.load_i8(p.add(at)),
                    };
                    s.store(out.as_mut_ptr(), x);
                }
            }
        }
    }
}

impl Matmul<'_> {
    /// # Safety
    /// As [`Matmul::run`], for these rows and panels.
    pub(super) unsafe fn run_dense(
        &self,
        rows: Range<usize>,
        panels: Range<usize>,
        scratch: Carver<'_>,
        epilogue: &mut dyn FnMut(Tile),
    ) {
        let PackedMatrix { groups, n, k, .. } = self.shape;
        let source = Packed { isa: self.isa, shape: self.shape, bytes: self.weights };
        let (left, list) = (self.x.left(), self.rows);
        let blocked = Blocked { isa: self.isa, left, list, panels: &source, groups, n, k, batch: 0 };
        // SAFETY: the caller's contract.
        unsafe { blocked.run(rows, panels, scratch, epilogue) }
    }
}
