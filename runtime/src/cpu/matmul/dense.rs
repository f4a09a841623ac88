//! Products with packed F32, F16 and BF16 weights.

use std::ops::Range;

use half::{bf16, f16};

use super::blocked::{Blocked, K_BLOCK, Panels};
use super::microkernel::Right;
use super::{Matmul, Tile};
use crate::cpu::isa::Isa;
use crate::cpu::scratch::Carver;
use crate::cpu::simd::{Kernel, LANES, Simd};
use crate::weights::{Encoding, PANEL, PackedMatrix};

/// Panels of a packed matrix.
struct Packed<'a> {
    isa: Isa,
    shape: PackedMatrix,
    bytes: &'a [u8],
}

impl Panels for Packed<'_> {
    const IN_PLACE: bool = true;

    unsafe fn block(&self, panel: usize, group: usize, k: Range<usize>, reused: bool, room: &mut [f32]) -> Right {
        let (_, size) = self.shape.encoding.block();
        let offset = ((panel * self.shape.groups + group) * self.shape.k + k.start) * PANEL * size;
        debug_assert!(offset + k.len() * PANEL * size <= self.bytes.len());
        // SAFETY: the caller vouches that this part of the matrix exists.
        let start = unsafe { self.bytes.as_ptr().add(offset) };
        let right = match self.shape.encoding {
            Encoding::F32 => return Right::F32(start.cast()),
            Encoding::F16 => Right::F16(start.cast()),
            Encoding::BF16 => Right::BF16(start.cast()),
            _ => unreachable!("not a dense encoding"),
        };
        if !reused {
            return right;
        }
        debug_assert!(k.len() <= K_BLOCK);
        self.isa.run(Widen { right, out: &mut room[..k.len() * PANEL] });
        Right::F32(room.as_ptr())
    }
}

/// Converts a panel's block to f32, once for all rows that use it.
struct Widen<'a> {
    right: Right,
    out: &'a mut [f32],
}

impl Kernel for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        for (i, out) in self.out.chunks_exact_mut(LANES).enumerate() {
            // SAFETY: `Packed::block` bounds the source by the extent of the output.
            unsafe {
                let x = match self.right {
                    Right::F32(p) => s.load(p.add(i * LANES)),
                    Right::F16(p) => s.load_f16(p.add(i * LANES).cast::<f16>().cast()),
                    Right::BF16(p) => s.load_bf16(p.add(i * LANES).cast::<bf16>().cast()),
                };
                s.store(out.as_mut_ptr(), x);
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
        let blocked = Blocked { isa: self.isa, left: self.x.left(), panels: &source, groups, n, k, batch: 0 };
        // SAFETY: the caller's contract.
        unsafe { blocked.run(rows, panels, scratch, epilogue) }
    }
}
