//! Rows of any element type as f32 and back.
#![allow(unsafe_code)] // Strided memory is read and written through pointers.

use castiron_ir::DType;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// Reads elements that lie `step` bytes apart.
///
/// # Safety
/// As many elements as `out` has can be read at `from`, aligned.
pub(super) unsafe fn load(dtype: DType, from: *const u8, step: usize, out: &mut [f32]) {
    let is_dense = step == dtype.size();
    // SAFETY: the caller's contract, for elements of this type.
    unsafe {
        match dtype {
            DType::F16 if is_dense => {
                std::slice::from_raw_parts(from.cast::<f16>(), out.len()).convert_to_f32_slice(out);
            }
            DType::F32 => read(from, step, out, |x: f32| x),
            DType::F16 => read(from, step, out, f16::to_f32),
            DType::BF16 => read(from, step, out, |x: u16| f32::from_bits(u32::from(x) << 16)),
            DType::F64 => read(from, step, out, |x: f64| x as f32),
            DType::I64 => read(from, step, out, |x: i64| x as f32),
            DType::I32 => read(from, step, out, |x: i32| x as f32),
            DType::I8 => read(from, step, out, |x: i8| f32::from(x)),
            DType::U8 => read(from, step, out, |x: u8| f32::from(x)),
            DType::Bool => read(from, step, out, |x: u8| f32::from(u8::from(x != 0))),
        }
    }
}

/// Writes elements `step` bytes apart. Integers are rounded towards zero.
///
/// # Safety
/// As many elements as there are values can be written at `to`, aligned.
pub(super) unsafe fn store(dtype: DType, values: &[f32], to: *mut u8, step: usize) {
    let is_dense = step == dtype.size();
    // SAFETY: the caller's contract, for elements of this type.
    unsafe {
        match dtype {
            DType::F32 => write(values, to, step, |x| x),
            DType::F16 if is_dense => {
                std::slice::from_raw_parts_mut(to.cast::<f16>(), values.len()).convert_from_f32_slice(values);
            }
            DType::F16 => write(values, to, step, f16::from_f32),
            DType::BF16 => write(values, to, step, bf16::from_f32),
            DType::F64 => write(values, to, step, f64::from),
            DType::I64 => write(values, to, step, |x| x as i64),
            DType::I32 => write(values, to, step, |x| x as i32),
            DType::I8 if is_dense => {
                let to = std::slice::from_raw_parts_mut(to.cast::<i8>(), values.len());
                to.iter_mut().zip(values).for_each(|(to, &x)| *to = x as i8);
            }
            DType::I8 => write(values, to, step, |x| x as i8),
            DType::U8 => write(values, to, step, |x| x as u8),
            DType::Bool => write(values, to, step, |x| u8::from(x != 0.0)),
        }
    }
}

/// # Safety
/// As [`load`].
unsafe fn read<T: Copy>(from: *const u8, step: usize, out: &mut [f32], value: impl Fn(T) -> f32) {
    for (i, out) in out.iter_mut().enumerate() {
        // SAFETY: the caller's contract.
        *out = value(unsafe { from.add(i * step).cast::<T>().read_unaligned() });
    }
}

/// # Safety
/// As [`store`].
unsafe fn write<T>(values: &[f32], to: *mut u8, step: usize, element: impl Fn(f32) -> T) {
    for (i, &x) in values.iter().enumerate() {
        // SAFETY: the caller's contract.
        unsafe { to.add(i * step).cast::<T>().write_unaligned(element(x)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_integers_survive_every_type() {
        let values = [0.0, 1.0, 1.0, 0.0, 1.0];
        for dtype in DType::ALL {
            for step in [dtype.size(), 3 * dtype.size()] {
                let mut bytes = vec![0_u64; 20];
                let mut back = [9.0; 5];
                // SAFETY: five elements of at most 24 bytes lie in 160 bytes.
                unsafe {
                    store(dtype, &values, bytes.as_mut_ptr().cast(), step);
                    load(dtype, bytes.as_ptr().cast(), step, &mut back);
                }
                assert_eq!(back, values, "{dtype} {step}");
            }
        }
    }
}
