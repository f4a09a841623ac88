//! ggml's block formats and their numbers (llama.cpp, `ggml-quants.c`, `dequantize_row_*`).
//!
//! Every format is integers under scales: a [`Block`] holds them apart, for compilers that store them in
//! another order, and [`decode`] multiplies them. Products are rounded in ggml's order: `d` by the scale of
//! the group first, then by the integer.

mod codebook;
mod grids;
mod microscaled;

use half::f16;

/// ggml's block formats: runs of elements along the last axis that share scales
/// (llama.cpp, `ggml-common.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names are the formats' own.
pub enum BlockFormat {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Iq4Nl,
    Iq4Xs,
    Iq3S,
    Iq3Xxs,
    Iq2S,
    Iq2Xs,
    Iq2Xxs,
    Iq1M,
    Iq1S,
    Tq1_0,
    Tq2_0,
    Mxfp4,
    Nvfp4,
}

impl BlockFormat {
    /// Elements of a block and the bytes that hold them.
    pub fn block(self) -> (usize, usize) {
        match self {
            BlockFormat::Q4_0 => (32, 18),
            BlockFormat::Q4_1 => (32, 20),
            BlockFormat::Q5_0 => (32, 22),
            BlockFormat::Q5_1 => (32, 24),
            BlockFormat::Q8_0 => (32, 34),
            BlockFormat::Q2K => (256, 84),
            BlockFormat::Q3K => (256, 110),
            BlockFormat::Q4K => (256, 144),
            BlockFormat::Q5K => (256, 176),
            BlockFormat::Q6K => (256, 210),
            BlockFormat::Iq4Nl => (32, 18),
            BlockFormat::Iq4Xs => (256, 136),
            BlockFormat::Iq3S => (256, 110),
            BlockFormat::Iq3Xxs => (256, 98),
            BlockFormat::Iq2S => (256, 82),
            BlockFormat::Iq2Xs => (256, 74),
            BlockFormat::Iq2Xxs => (256, 66),
            BlockFormat::Iq1M => (256, 56),
            BlockFormat::Iq1S => (256, 50),
            BlockFormat::Tq1_0 => (256, 54),
            BlockFormat::Tq2_0 => (256, 66),
            BlockFormat::Mxfp4 => (32, 17),
            BlockFormat::Nvfp4 => (64, 36),
        }
    }

    /// Elements that share a scale within a block.
    pub fn group(self) -> usize {
        match self {
            BlockFormat::Q2K | BlockFormat::Q3K | BlockFormat::Q6K => 16,
            BlockFormat::Iq2S | BlockFormat::Iq2Xs | BlockFormat::Iq1M | BlockFormat::Nvfp4 => 16,
            _ => 32,
        }
    }
}

/// Most elements of a block.
pub const MOST: usize = 256;

/// A block taken apart. With `g` the group of element `i`, the element is
/// `(d·scales[g])·integers[i] + m·minima[g]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// Scale of the block; in most formats an f16.
    pub d: f32,
    /// Scale of the minima, if the format has them; an f16.
    pub m: Option<f32>,
    /// A factor of `d` for each group; 1 in formats of one group.
    pub scales: [i8; 16],
    /// A factor of `m` for each group; 1 in formats of one group.
    pub minima: [u8; 16],
    /// The elements' integers, zero points and tables of levels applied.
    pub integers: [i8; MOST],
}

impl Block {
    /// The values of the first elements, whose groups have `group` elements.
    pub fn values(&self, group: usize, out: &mut [f32]) {
        for (g, out) in out.chunks_mut(group).enumerate() {
            let scale = self.d * f32::from(self.scales[g]);
            let integers = self.integers[g * group..].iter().map(|&q| f32::from(q));
            match self.m {
                None => out.iter_mut().zip(integers).for_each(|(x, q)| *x = scale * q),
                Some(m) => {
                    let minimum = m * f32::from(self.minima[g]);
                    out.iter_mut().zip(integers).for_each(|(x, q)| *x = scale * q + minimum);
                }
            }
        }
    }
}

/// Decodes whole blocks.
///
/// # Panics
/// When `raw` and `out` are not the same number of whole blocks.
pub fn decode(format: BlockFormat, raw: &[u8], out: &mut [f32]) {
    let (elements, bytes) = format.block();
    let (rest_raw, rest_out) = (raw.len() % bytes, out.len() % elements);
    assert!(rest_raw == 0 && rest_out == 0 && raw.len() / bytes == out.len() / elements, "whole blocks");
    for (raw, out) in raw.chunks_exact(bytes).zip(out.chunks_exact_mut(elements)) {
        match format {
            BlockFormat::Nvfp4 => microscaled::nvfp4(raw, out),
            _ => parse(format, raw).values(format.group(), out),
        }
    }
}

/// Takes a block apart. Blocks of [`BlockFormat::Nvfp4`], whose scales are floats, stay zeros.
///
/// # Panics
/// When `raw` is not a block.
pub fn parse(format: BlockFormat, raw: &[u8]) -> Block {
    assert_eq!(raw.len(), format.block().1, "one block");
    let mut block = Block { d: half(raw, 0), m: None, scales: [1; 16], minima: [1; 16], integers: [0; MOST] };
    let parse_into: fn(&[u8], &mut Block) = match format {
        BlockFormat::Q4_0 => q4_0,
        BlockFormat::Q4_1 => q4_1,
        BlockFormat::Q5_0 => q5_0,
        BlockFormat::Q5_1 => q5_1,
        BlockFormat::Q8_0 => q8_0,
        BlockFormat::Q2K => q2_k,
        BlockFormat::Q3K => q3_k,
        BlockFormat::Q4K => q4_k,
        BlockFormat::Q5K => q5_k,
        BlockFormat::Q6K => q6_k,
        BlockFormat::Iq4Nl => iq4_nl,
        BlockFormat::Iq4Xs => iq4_xs,
        BlockFormat::Iq3S => codebook::iq3_s,
        BlockFormat::Iq3Xxs => codebook::iq3_xxs,
        BlockFormat::Iq2S => codebook::iq2_s,
        BlockFormat::Iq2Xs => codebook::iq2_xs,
        BlockFormat::Iq2Xxs => codebook::iq2_xxs,
        BlockFormat::Iq1M => codebook::iq1_m,
        BlockFormat::Iq1S => codebook::iq1_s,
        BlockFormat::Tq1_0 => tq1_0,
        BlockFormat::Tq2_0 => tq2_0,
        BlockFormat::Mxfp4 => microscaled::mxfp4,
        BlockFormat::Nvfp4 => |_, _| {},
    };
    parse_into(raw, &mut block);
    block
}

fn half(raw: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([raw[at], raw[at + 1]]).to_f32()
}

/// Sixteen bytes to 32 integers: low nibbles are the first half, high nibbles the second.
fn nibbles(qs: &[u8], integers: &mut [i8], integer: impl Fn(usize, u8) -> i8) {
    let (low, high) = integers.split_at_mut(qs.len());
    for (i, &q) in qs.iter().enumerate() {
        low[i] = integer(i, q & 15);
        high[i] = integer(i + qs.len(), q >> 4);
    }
}

/// `d, qs[16]`
fn q4_0(raw: &[u8], block: &mut Block) {
    nibbles(&raw[2..], &mut block.integers[..32], |_, q| q as i8 - 8);
}

/// `d, m, qs[16]`
fn q4_1(raw: &[u8], block: &mut Block) {
    block.m = Some(half(raw, 2));
    nibbles(&raw[4..], &mut block.integers[..32], |_, q| q as i8);
}

/// `d, high bits[4], qs[16]`
fn q5_0(raw: &[u8], block: &mut Block) {
    nibbles(&raw[6..], &mut block.integers[..32], |i, q| (q | bit(&raw[2..6], i) << 4) as i8 - 16);
}

/// `d, m, high bits[4], qs[16]`
fn q5_1(raw: &[u8], block: &mut Block) {
    block.m = Some(half(raw, 2));
    nibbles(&raw[8..], &mut block.integers[..32], |i, q| (q | bit(&raw[4..8], i) << 4) as i8);
}

fn bit(bits: &[u8], i: usize) -> u8 {
    bits[i / 8] >> (i % 8) & 1
}

/// `d, qs[32]`
fn q8_0(raw: &[u8], block: &mut Block) {
    block.integers.iter_mut().zip(&raw[2..]).for_each(|(out, &q)| *out = q as i8);
}

/// Integer `i` of 256 that take two bits each: halves of 128, in each four planes of 32 bytes' bit pairs.
fn two_bits(qs: &[u8], i: usize) -> u8 {
    qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3
}

/// `scales[16]` (low nibble the scale, high nibble the minimum), `qs[64], d, m`
fn q2_k(raw: &[u8], block: &mut Block) {
    (block.d, block.m) = (half(raw, 80), Some(-half(raw, 82)));
    for (g, &scale) in raw[..16].iter().enumerate() {
        (block.scales[g], block.minima[g]) = ((scale & 15) as i8, scale >> 4);
    }
    block.integers.iter_mut().enumerate().for_each(|(i, out)| *out = two_bits(&raw[16..80], i) as i8);
}

/// `high bits[32], qs[64], scales[12]` (six bits each, less 32), `d`; a clear high bit takes 4 away
fn q3_k(raw: &[u8], block: &mut Block) {
    let (high, qs, scales) = (&raw[..32], &raw[32..96], &raw[96..108]);
    block.d = half(raw, 108);
    for (g, scale) in block.scales.iter_mut().enumerate() {
        let bits = (scales[g % 8] >> (g / 8 * 4) & 15) | (scales[8 + g % 4] >> (g / 4 * 2) & 3) << 4;
        *scale = bits as i8 - 32;
    }
    for (i, out) in block.integers.iter_mut().enumerate() {
        let is_set = high[i % 32] >> (i / 32) & 1;
        *out = two_bits(qs, i) as i8 - 4 * (1 - is_set as i8);
    }
}

/// `d, m, scales[12], qs[128]`
fn q4_k(raw: &[u8], block: &mut Block) {
    with_minima(raw, &raw[16..], block, |_, q| q);
}

/// `d, m, scales[12], high bits[32], qs[128]`
fn q5_k(raw: &[u8], block: &mut Block) {
    with_minima(raw, &raw[48..], block, |i, q| q | (raw[16 + i % 32] >> (i / 32) & 1) << 4);
}

/// Nibbles in four runs of 64, with `d, m, scales[12]` at the head of the block.
fn with_minima(raw: &[u8], qs: &[u8], block: &mut Block, integer: impl Fn(usize, u8) -> u8) {
    block.m = Some(-half(raw, 2));
    for group in 0..8 {
        (block.scales[group], block.minima[group]) = scale_and_minimum(&raw[4..16], group);
    }
    for (run, (qs, out)) in qs.chunks_exact(32).zip(block.integers.chunks_exact_mut(64)).enumerate() {
        nibbles(qs, out, |i, q| integer(64 * run + i, q) as i8);
    }
}

/// Six-bit scale and minimum of group `g` of eight, of the 12 bytes that hold them all.
fn scale_and_minimum(packed: &[u8], g: usize) -> (i8, u8) {
    if g < 4 {
        ((packed[g] & 63) as i8, packed[g + 4] & 63)
    } else {
        ((packed[g + 4] & 15 | packed[g - 4] >> 6 << 4) as i8, packed[g + 4] >> 4 | packed[g] >> 6 << 4)
    }
}

/// `low nibbles[128], high bit pairs[64], scales[16] (i8), d`
fn q6_k(raw: &[u8], block: &mut Block) {
    block.d = half(raw, 208);
    block.scales.iter_mut().zip(&raw[192..]).for_each(|(scale, &bits)| *scale = bits as i8);
    for (i, out) in block.integers.iter_mut().enumerate() {
        let low = raw[i / 128 * 64 + i % 64] >> (i % 128 / 64 * 4) & 15;
        *out = (low | two_bits(&raw[128..192], i) << 4) as i8 - 32;
    }
}

/// Levels of the non-linear four-bit formats.
const LEVELS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// `d, qs[16]`
fn iq4_nl(raw: &[u8], block: &mut Block) {
    nibbles(&raw[2..], &mut block.integers[..32], |_, q| LEVELS[usize::from(q)]);
}

/// `d, high scale bits[2], low scale nibbles[4], qs[128]`; six-bit scales, less 32
fn iq4_xs(raw: &[u8], block: &mut Block) {
    let high = u16::from_le_bytes([raw[2], raw[3]]);
    for (g, (qs, out)) in raw[8..].chunks_exact(16).zip(block.integers.chunks_exact_mut(32)).enumerate() {
        let low = raw[4 + g / 2] >> (g % 2 * 4) & 15;
        block.scales[g] = (low | ((high >> (2 * g) & 3) as u8) << 4) as i8 - 32;
        nibbles(qs, out, |_, q| LEVELS[usize::from(q)]);
    }
}

/// Integers of three values as the digits of bytes to base 3, the largest digit first: 5 × 32, 5 × 16 and
/// 4 × 4 elements, then `d`
fn tq1_0(raw: &[u8], block: &mut Block) {
    const POWERS: [u8; 5] = [1, 3, 9, 27, 81];
    block.d = half(raw, 52);
    let digit = |byte: u8, place: usize| ((u16::from(byte.wrapping_mul(POWERS[place])) * 3) >> 8) as i8 - 1;
    for (i, out) in block.integers.iter_mut().enumerate() {
        *out = match i {
            0..160 => digit(raw[i % 32], i / 32),
            160..240 => digit(raw[32 + i % 16], (i - 160) / 16),
            _ => digit(raw[48 + i % 4], (i - 240) / 4),
        };
    }
}

/// `qs[64], d`; integers of three values
fn tq2_0(raw: &[u8], block: &mut Block) {
    block.d = half(raw, 64);
    block.integers.iter_mut().enumerate().for_each(|(i, out)| *out = two_bits(raw, i) as i8 - 1);
}

#[cfg(test)]
mod tests;
