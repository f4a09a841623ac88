//! Rounding of values to blocks. Formats of one group are rounded as ggml does
//! (`ggml-quants.c`, `quantize_row_*_ref`); scales of groups are rounded to bytes after that.

use castiron_ir::blocks::Block;
use half::f16;

use super::layout::{Layout, empty_block};

/// A scale as panels hold it.
fn rounded(scale: f32) -> f32 {
    f16::from_f32(scale).to_f32()
}

/// Rounds the values of a block; the elements beyond them are zeros.
pub(super) fn quantise(layout: &Layout, values: &[f32]) -> Block {
    let mut x = [0.0; castiron_ir::blocks::MOST];
    x[..values.len()].copy_from_slice(values);
    let x = &x[..layout.span];
    let mut block = empty_block();
    let (mut scales, mut minima) = ([0.0; 16], [0.0; 16]);
    for (g, x) in x.chunks(layout.group).enumerate() {
        (scales[g], minima[g]) = range(layout, x);
    }
    let most = |values: &[f32; 16]| values.iter().fold(0.0_f32, |a, v| if v.abs() > a.abs() { *v } else { a });
    if layout.is_scaled {
        block.d = rounded(most(&scales).abs() / 127.0);
        block.scales = scales.map(|scale| round(scale * inverse(block.d)) as i8);
        if layout.has_minimum {
            let m = rounded(most(&minima) / 255.0);
            block.m = Some(m);
            block.minima = minima.map(|minimum| round(minimum * inverse(m)) as u8);
        }
        scales = block.scales.map(|scale| block.d * f32::from(scale));
        minima = block.minima.map(|minimum| block.m.unwrap_or_default() * f32::from(minimum));
    } else {
        block.d = rounded(scales[0]);
        block.m = layout.has_minimum.then(|| rounded(minima[0]));
    }
    let low = if layout.is_signed() { -127.0 } else { -f32::from(layout.zero) };
    let high = low + if layout.is_signed() { 254.0 } else { largest(layout) };
    for (i, (integer, x)) in block.integers.iter_mut().zip(x).enumerate() {
        let (scale, minimum) = (scales[i / layout.group], minima[i / layout.group]);
        *integer = round((x - minimum) * inverse(scale)).clamp(low, high) as i8;
    }
    block
}

/// Scale and minimum of a group. Minima of groups have no sign of their own: they are below zero.
fn range(layout: &Layout, x: &[f32]) -> (f32, f32) {
    let (low, high) = x.iter().fold((f32::MAX, f32::MIN), |(low, high), &v| (low.min(v), high.max(v)));
    let extreme = if -low > high { low } else { high };
    if layout.has_minimum {
        let low = if layout.is_scaled { low.min(0.0) } else { low };
        ((high - low) / largest(layout), low)
    } else if layout.is_signed() {
        (extreme.abs() / 127.0, 0.0)
    } else {
        (extreme / -f32::from(layout.zero), 0.0)
    }
}

/// The largest stored integer.
fn largest(layout: &Layout) -> f32 {
    f32::from((1_u16 << layout.bits()) - 1)
}

fn round(x: f32) -> f32 {
    (x + 0.5).floor()
}

fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}
