//! Panels of quantised encodings: 16 columns interleaved, block after block of `k`.
//!
//! ```text
//!  panel = [block 0][block 1] …, each block of 32 or 256 k:
//!  ┌──────────┬───────────┬──────────────────┬──────────────────┬───────────────┬─────────┐
//!  │ 16 × d   │ 16 × m    │ scales of groups │ minima of groups │ run 0 of 32 k │ run 1 … │
//!  │ f16      │ f16       │ 16 × i8 each     │ 16 × u8 each     │               │         │
//!  └──────────┴───────────┴──────────────────┴──────────────────┴───────────────┴─────────┘
//!              if it has m   if groups are scaled
//!
//!  a run is its planes, of vectors of 64 bytes: four bytes of each column (a dot instruction's lane)
//!
//!             column 0          column 1               column 15
//!          ┌──┬──┬──┬──┐     ┌──┬──┬──┬──┐          ┌──┬──┬──┬──┐
//!  8 bits  │k0│k1│k2│k3│     │k0│k1│k2│k3│    …     │k0│k1│k2│k3│   vector 0 of 8
//!  4 bits  │k0│k1│k2│k3│ low │k0│k1│k2│k3│    …     │k0│k1│k2│k3│   vector 0 of 4
//!          │16│17│18│19│ high│16│17│18│19│    …     │16│17│18│19│
//!  2 bits  │k0 k4 k16 k20│   in the pairs of bits of byte 0, and so on:   vector 0 of 2
//!  1 bit   │k0 k4 k8 k12 k16 k20 k24 k28│ in the bits of byte 0:          the only vector
//!          └──┴──┴──┴──┘     └──┴──┴──┴──┘          └──┴──┴──┴──┘
//! ```
//!
//! Elements `i` and `i + 16` of a run stand half a byte apart in all planes of fewer than 8 bits, so that one
//! shift serves a whole vector. All vectors lie on multiples of 32 bytes; processors with shorter ones take
//! them in parts.

use castiron_ir::blocks::Block;
use half::f16;

use super::layout::{Layout, empty_block};
use super::{BLOCK, PANEL, VECTOR};

/// Writes a block of column `lane` into a panel's block, which holds zeros there.
pub(super) fn store(layout: &Layout, lane: usize, block: &Block, packed: &mut [u8]) {
    let mut put = |at: usize, x: f32| packed[2 * at..][..2].copy_from_slice(&f16::from_f32(x).to_le_bytes());
    put(lane, block.d);
    if layout.has_minimum {
        put(PANEL + lane, block.m.unwrap_or_default());
    }
    for group in (0..layout.groups()).filter(|_| layout.is_scaled) {
        packed[layout.scale(group) + lane] = block.scales[group] as u8;
        if layout.has_minimum {
            packed[layout.minimum(group) + lane] = block.minima[group];
        }
    }
    each_quad(layout, lane, |first, plane_at, plane, bit| {
        let quad = &block.integers[first..first + 4];
        for (byte, &integer) in packed[plane_at..plane_at + 4].iter_mut().zip(quad) {
            let stored = (integer as u8).wrapping_add(layout.zero);
            *byte |= (stored >> plane.at & plane.mask()) << bit;
        }
    });
}

/// Reads the block of column `lane`.
pub(super) fn load(layout: &Layout, lane: usize, packed: &[u8]) -> Block {
    let number = |at: usize| f16::from_le_bytes([packed[2 * at], packed[2 * at + 1]]).to_f32();
    let mut block = empty_block();
    block.d = number(lane);
    block.m = layout.has_minimum.then(|| number(PANEL + lane));
    for group in (0..layout.groups()).filter(|_| layout.is_scaled) {
        block.scales[group] = packed[layout.scale(group) + lane] as i8;
        if layout.has_minimum {
            block.minima[group] = packed[layout.minimum(group) + lane];
        }
    }
    each_quad(layout, lane, |first, plane_at, plane, bit| {
        let quad = &mut block.integers[first..first + 4];
        for (integer, &byte) in quad.iter_mut().zip(&packed[plane_at..plane_at + 4]) {
            *integer |= ((byte >> bit & plane.mask()) << plane.at) as i8;
        }
    });
    if layout.zero > 0 {
        block.integers[..layout.span].iter_mut().for_each(|i| *i = (*i as u8).wrapping_sub(layout.zero) as i8);
    }
    block
}

/// Calls `each(first element, offset of their four bytes, plane, bit)` for all elements of a column's block.
#[inline(always)]
fn each_quad(layout: &Layout, lane: usize, mut each: impl FnMut(usize, usize, &super::layout::Plane, usize)) {
    for run in 0..layout.span / BLOCK {
        let mut at = layout.integers(run);
        for plane in layout.planes {
            for (half, step) in (0..2).flat_map(|half| (0..4).map(move |step| (half, step))) {
                let (vector, bit) = plane.place(step, half);
                each(BLOCK * run + 16 * half + 4 * step, at + VECTOR * vector + 4 * lane, plane, bit);
            }
            at += VECTOR * plane.bits;
        }
    }
}
