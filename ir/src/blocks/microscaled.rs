//! Formats of 4-bit floats (one bit of sign, two of exponent, one of mantissa) under 8-bit float scales
//! (OCP Microscaling Formats 1.0; llama.cpp, `dequantize_row_mxfp4` and `_nvfp4`).

use super::{Block, nibbles};

/// Twice the values of the floats.
const LEVELS: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Exponent of a power of two, `qs[16]`
pub(super) fn mxfp4(raw: &[u8], block: &mut Block) {
    let exponent = u32::from(raw[0]);
    // Half of 2^(exponent - 127), which is no normal number for the two smallest.
    let bits = if exponent < 2 { 0x0020_0000 << exponent } else { (exponent - 1) << 23 };
    block.d = f32::from_bits(bits);
    nibbles(&raw[1..], &mut block.integers[..32], |_, q| LEVELS[usize::from(q)]);
}

/// Four scales without sign, of four bits of exponent and three of mantissa, then `qs[8]` for each
pub(super) fn nvfp4(raw: &[u8], out: &mut [f32]) {
    for (g, out) in out.chunks_exact_mut(16).enumerate() {
        let scale = half_of_e4m3(raw[g]);
        let mut integers = [0; 16];
        nibbles(&raw[4 + 8 * g..][..8], &mut integers, |_, q| LEVELS[usize::from(q)]);
        out.iter_mut().zip(integers).for_each(|(x, q)| *x = scale * f32::from(q));
    }
}

/// Half of an 8-bit float without sign; its NaN counts as 0.
fn half_of_e4m3(bits: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(bits >> 3 & 15), f32::from(bits & 7));
    match (bits, exponent) {
        (0x7f, _) => 0.0,
        (_, 0) => mantissa * 2f32.powi(-10),
        _ => (8.0 + mantissa) * 2f32.powi(exponent - 11),
    }
}
