//! F32, F16 and BF16 panels: the 16 columns of one `k` stand together.
//!
//! ```text
//!   k = 0                 k = 1                      last k
//!  ┌────┬────┬───┬─────┐ ┌────┬────┬───┬─────┐      ┌────┬────┬───┬─────┐
//!  │ c0 │ c1 │ … │ c15 │ │ c0 │ c1 │ … │ c15 │  …   │ c0 │ c1 │ … │ c15 │
//!  └────┴────┴───┴─────┘ └────┴────┴───┴─────┘      └────┴────┴───┴─────┘
//! ```
//!
//! A kernel reads a panel from end to end: two vectors of eight f32 for each element of `x` that it
//! broadcasts.

use half::{bf16, f16};

use super::{Encoding, PANEL};

/// Writes the values of column `lane` of a panel.
pub(super) fn interleave(encoding: Encoding, lane: usize, values: &[f32], panel: &mut [u8]) {
    match encoding {
        Encoding::F32 => scatter(lane, values.iter().map(|x| x.to_le_bytes()), panel),
        Encoding::F16 => scatter(lane, values.iter().map(|&x| f16::from_f32(x).to_le_bytes()), panel),
        Encoding::BF16 => scatter(lane, values.iter().map(|&x| bf16::from_f32(x).to_le_bytes()), panel),
        _ => unreachable!("not a dense encoding"),
    }
}

fn scatter<const SIZE: usize>(lane: usize, values: impl Iterator<Item = [u8; SIZE]>, panel: &mut [u8]) {
    for (row, value) in panel.chunks_exact_mut(SIZE * PANEL).zip(values) {
        row[lane * SIZE..][..SIZE].copy_from_slice(&value);
    }
}

/// Reads column `lane` of a panel.
pub(super) fn unpack(encoding: Encoding, panel: &[u8], lane: usize, out: &mut [f32]) {
    match encoding {
        Encoding::F32 => gather(panel, lane, f32::from_le_bytes, out),
        Encoding::F16 => gather(panel, lane, |b| f16::from_le_bytes(b).to_f32(), out),
        Encoding::BF16 => gather(panel, lane, |b| bf16::from_le_bytes(b).to_f32(), out),
        _ => unreachable!("not a dense encoding"),
    }
}

fn gather<const SIZE: usize>(panel: &[u8], lane: usize, value: impl Fn([u8; SIZE]) -> f32, out: &mut [f32]) {
    for (row, out) in panel.chunks_exact(SIZE * PANEL).zip(out) {
        *out = value(std::array::from_fn(|i| row[lane * SIZE + i]));
    }
}
