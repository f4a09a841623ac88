//! ggml's IQ formats, whose integers come from codebooks: an index stands for eight or four levels
//! (llama.cpp, `ggml-quants.c`, `dequantize_row_iq*`).
//!
//! Scales of these formats are odd multiples of a fraction of `d`; [`Block::d`] is that fraction.

use super::grids::{IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS};
use super::{Block, half};

const IQ2_LEVELS: [i8; 3] = [8, 25, 43];
const IQ3_XXS_LEVELS: [i8; 8] = [4, 12, 20, 28, 36, 44, 52, 62];

/// Level `i` of an entry of two bits a level, of a codebook without its fourth level.
fn pair_level(entry: u16, i: usize) -> usize {
    usize::from(entry >> (2 * i) & 3).min(2)
}

fn word(raw: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([raw[at], raw[at + 1]])
}

fn double_word(raw: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]])
}

/// An odd number: the scale of a group.
fn odd(bits: u8) -> i8 {
    (2 * bits + 1) as i8
}

/// Seven bits of signs with the eighth that makes their number even.
fn even_signs(bits: u32) -> u8 {
    let bits = (bits & 127) as u8;
    bits | ((bits.count_ones() as u8 & 1) << 7)
}

/// Eight levels of an entry, negative where a sign bit is set.
fn put_pairs(entry: u16, signs: u8, out: &mut [i8]) {
    for (i, out) in out.iter_mut().enumerate() {
        let level = IQ2_LEVELS[pair_level(entry, i)];
        *out = if signs >> i & 1 == 0 { level } else { -level };
    }
}

/// Four levels each of two entries, negative where a sign bit is set.
fn put_quads(entries: [u16; 2], levels: impl Fn(usize) -> i8, signs: u8, out: &mut [i8]) {
    for (i, out) in out.iter_mut().enumerate() {
        let level = levels(usize::from(entries[i / 4] >> (i % 4 * 4) & 7));
        *out = if signs >> i & 1 == 0 { level } else { -level };
    }
}

/// `d`, for each 32 elements four indices and a word of four times seven sign bits and the scale
pub(super) fn iq2_xxs(raw: &[u8], block: &mut Block) {
    block.d = half(raw, 0) * 0.125;
    for (g, out) in block.integers.chunks_exact_mut(32).enumerate() {
        let (indices, signs) = (&raw[2 + 8 * g..][..4], double_word(raw, 6 + 8 * g));
        block.scales[g] = odd((signs >> 28) as u8);
        for (i, out) in out.chunks_exact_mut(8).enumerate() {
            put_pairs(IQ2_XXS[usize::from(indices[i])], even_signs(signs >> (7 * i)), out);
        }
    }
}

/// `d`, 32 words of nine bits of index and seven of signs, `scales[8]` (nibbles)
pub(super) fn iq2_xs(raw: &[u8], block: &mut Block) {
    block.d = half(raw, 0) * 0.125;
    for (i, out) in block.integers.chunks_exact_mut(8).enumerate() {
        let bits = word(raw, 2 + 2 * i);
        put_pairs(IQ2_XS[usize::from(bits & 511)], even_signs(u32::from(bits >> 9)), out);
    }
    nibble_scales(&raw[66..], block);
}

fn nibble_scales(scales: &[u8], block: &mut Block) {
    for (g, scale) in block.scales.iter_mut().enumerate() {
        *scale = odd(scales[g / 2] >> (g % 2 * 4) & 15);
    }
}

/// `d`, low index bytes[32], `signs[32]`, high index bits[8], `scales[8]` (nibbles)
pub(super) fn iq2_s(raw: &[u8], block: &mut Block) {
    block.d = half(raw, 0) * 0.125;
    for (i, out) in block.integers.chunks_exact_mut(8).enumerate() {
        let high = raw[66 + i / 4] >> (i % 4 * 2) & 3;
        put_pairs(IQ2_S[usize::from(raw[2 + i]) | usize::from(high) << 8], raw[34 + i], out);
    }
    nibble_scales(&raw[74..], block);
}

/// `d`, `indices[64]`, for each 32 elements a word of four times seven sign bits and the scale
pub(super) fn iq3_xxs(raw: &[u8], block: &mut Block) {
    block.d = half(raw, 0) * 0.25;
    for (g, out) in block.integers.chunks_exact_mut(32).enumerate() {
        let (indices, signs) = (&raw[2 + 8 * g..][..8], double_word(raw, 66 + 4 * g));
        block.scales[g] = odd((signs >> 28) as u8);
        for (i, out) in out.chunks_exact_mut(8).enumerate() {
            let entries = [indices[2 * i], indices[2 * i + 1]].map(|index| IQ3_XXS[usize::from(index)]);
            put_quads(entries, |level| IQ3_XXS_LEVELS[level], even_signs(signs >> (7 * i)), out);
        }
    }
}

/// `d`, low index bytes[64], high index bits[8], `signs[32]`, `scales[4]` (nibbles)
pub(super) fn iq3_s(raw: &[u8], block: &mut Block) {
    block.d = half(raw, 0);
    for (i, out) in block.integers.chunks_exact_mut(8).enumerate() {
        let index = |j: usize| usize::from(raw[2 + j]) | usize::from(raw[66 + j / 8] >> (j % 8) & 1) << 8;
        let entries = [2 * i, 2 * i + 1].map(|j| IQ3_S[index(j)]);
        put_quads(entries, |level| 2 * level as i8 + 1, raw[74 + i], out);
    }
    for (g, scale) in block.scales[..8].iter_mut().enumerate() {
        *scale = odd(raw[106 + g / 2] >> (g % 2 * 4) & 15);
    }
}

/// Eight of the levels -1, 0, 1, an eighth added or taken away, in eighths.
fn put_signs(entry: u16, is_less: bool, out: &mut [i8]) {
    let delta = if is_less { -1 } else { 1 };
    out.iter_mut().enumerate().for_each(|(i, out)| *out = 8 * (pair_level(entry, i) as i8 - 1) + delta);
}

/// `d`, low index bytes[32], for each 32 elements a word of four times three high bits, the scale, a sign
pub(super) fn iq1_s(raw: &[u8], block: &mut Block) {
    block.d = half(raw, 0) * 0.125;
    for (g, out) in block.integers.chunks_exact_mut(32).enumerate() {
        let bits = word(raw, 34 + 2 * g);
        block.scales[g] = odd((bits >> 12 & 7) as u8);
        for (i, out) in out.chunks_exact_mut(8).enumerate() {
            let index = usize::from(raw[2 + 4 * g + i]) | usize::from(bits >> (3 * i) & 7) << 8;
            put_signs(IQ1_S[index], bits & 0x8000 != 0, out);
        }
    }
}

/// Low index bytes[32], nibbles[32] of three high bits and a sign, four words of four times three bits of
/// scale and a nibble of `d`
pub(super) fn iq1_m(raw: &[u8], block: &mut Block) {
    let words = [0, 1, 2, 3].map(|i| word(raw, 48 + 2 * i));
    let d = words.iter().rev().fold(0, |d, word| d << 4 | word >> 12);
    block.d = half(&d.to_le_bytes(), 0) * 0.125;
    for (g, scale) in block.scales.iter_mut().enumerate() {
        *scale = odd((words[g / 4] >> (g % 4 * 3) & 7) as u8);
    }
    for (i, out) in block.integers.chunks_exact_mut(8).enumerate() {
        let high = raw[32 + i / 2] >> (i % 2 * 4) & 15;
        put_signs(IQ1_S[usize::from(raw[i]) | usize::from(high & 7) << 8], high & 8 != 0, out);
    }
}
