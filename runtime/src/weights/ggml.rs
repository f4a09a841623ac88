//! ggml's blocks of 32 elements, one column at a time; definitions as in ggml's `ggml-quants.c`
//! (`quantize_row_*_ref`, `dequantize_row_*`).
//!
//! ```text
//!  Q8_0  d: f16 │ 32 × i8                     x[i] = d·q[i]
//!  Q4_0  d: f16 │ 16 bytes: x[i] low, x[i+16] high    x = d·(q - 8)
//!  Q4_1  d: f16 │ m: f16 │ 16 bytes, likewise         x = d·q + m
//! ```

use half::f16;

use super::{BLOCK, Encoding};

/// Quantises a column into blocks; a ragged last block is filled with zeros.
pub(super) fn quantise(encoding: Encoding, values: &[f32], blocks: &mut [u8]) {
    let quantise_block = match encoding {
        Encoding::Q8_0 => q8_0,
        Encoding::Q4_0 => q4_0,
        Encoding::Q4_1 => q4_1,
        Encoding::F32 | Encoding::F16 | Encoding::BF16 => unreachable!("not a quantised encoding"),
    };
    let (_, size) = encoding.block();
    for (values, block) in values.chunks(BLOCK).zip(blocks.chunks_exact_mut(size)) {
        let mut full = [0.0; BLOCK];
        full[..values.len()].copy_from_slice(values);
        quantise_block(&full, block);
    }
}

fn q8_0(x: &[f32; BLOCK], block: &mut [u8]) {
    let largest = x.iter().fold(0.0_f32, |a, v| a.max(v.abs()));
    let scale = largest / 127.0;
    block[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
    for (q, v) in block[2..].iter_mut().zip(x) {
        *q = (v * inverse(scale)).round() as i8 as u8;
    }
}

fn q4_0(x: &[f32; BLOCK], block: &mut [u8]) {
    let extreme = x.iter().fold(0.0_f32, |a, &v| if v.abs() > a.abs() { v } else { a });
    let scale = extreme / -8.0;
    block[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
    nibbles(&mut block[2..], |i| x[i] * inverse(scale) + 8.5);
}

fn q4_1(x: &[f32; BLOCK], block: &mut [u8]) {
    let (low, high) = x.iter().fold((f32::MAX, f32::MIN), |(low, high), &v| (low.min(v), high.max(v)));
    let scale = (high - low) / 15.0;
    block[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
    block[2..4].copy_from_slice(&f16::from_f32(low).to_le_bytes());
    nibbles(&mut block[4..], |i| (x[i] - low) * inverse(scale) + 0.5);
}

fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// Writes 16 bytes of two nibbles; `value` gives element `i`, truncated here.
fn nibbles(bytes: &mut [u8], value: impl Fn(usize) -> f32) {
    let nibble = |i| (value(i) as u8).min(15);
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = nibble(i) | nibble(i + BLOCK / 2) << 4;
    }
}

/// Values of the first elements of a block.
pub(super) fn dequantise(encoding: Encoding, block: &[u8], out: &mut [f32]) {
    let param = |i: usize| f16::from_le_bytes([block[2 * i], block[2 * i + 1]]).to_f32();
    let scale = param(0);
    match encoding {
        Encoding::Q8_0 => out.iter_mut().zip(&block[2..]).for_each(|(x, &q)| *x = scale * f32::from(q as i8)),
        Encoding::Q4_0 => unpack_nibbles(&block[2..], out, |q| scale * (q - 8.0)),
        Encoding::Q4_1 => unpack_nibbles(&block[4..], out, |q| scale * q + param(1)),
        Encoding::F32 | Encoding::F16 | Encoding::BF16 => unreachable!("not a quantised encoding"),
    }
}

fn unpack_nibbles(bytes: &[u8], out: &mut [f32], value: impl Fn(f32) -> f32) {
    for (i, x) in out.iter_mut().enumerate() {
        let byte = bytes[i % (BLOCK / 2)];
        *x = value(f32::from(if i < BLOCK / 2 { byte & 15 } else { byte >> 4 }));
    }
}
