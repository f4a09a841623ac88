//! Element types of checkpoint files, and the IR's types that hold the same numbers.

use castiron_ir::DType;
use half::f16;

/// An element type of safetensors, PyTorch or GGUF files; little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names are the formats' own.
pub enum Number {
    F64,
    F32,
    F16,
    BF16,
    /// Four bits of exponent, three of mantissa, no infinity (arXiv:2209.05433).
    F8E4M3,
    /// The upper half of an f16.
    F8E5M2,
    /// A power of two (OCP microscaling formats).
    F8E8M0,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
}

impl Number {
    /// Bytes of an element.
    pub(super) fn size(self) -> usize {
        match self {
            Number::F64 | Number::I64 | Number::U64 => 8,
            Number::F32 | Number::I32 | Number::U32 => 4,
            Number::F16 | Number::BF16 | Number::I16 | Number::U16 => 2,
            Number::F8E4M3 | Number::F8E5M2 | Number::F8E8M0 | Number::I8 | Number::U8 | Number::Bool => 1,
        }
    }

    /// The smallest type of the IR that holds every value: exactly, but for integers above 2⁵³.
    pub(super) fn dtype(self) -> DType {
        match self {
            Number::F64 | Number::U64 => DType::F64,
            Number::F32 | Number::F8E8M0 => DType::F32,
            Number::F16 | Number::F8E4M3 | Number::F8E5M2 => DType::F16,
            Number::BF16 => DType::BF16,
            Number::I64 | Number::U32 => DType::I64,
            Number::I32 | Number::I16 | Number::U16 => DType::I32,
            Number::I8 => DType::I8,
            Number::U8 => DType::U8,
            Number::Bool => DType::Bool,
        }
    }

    /// Whether the IR's type has the same bytes.
    pub(super) fn is_native(self) -> bool {
        self.size() == self.dtype().size() && self != Number::U64
    }

    /// The bytes of elements as the IR's type has them.
    pub(super) fn convert(self, raw: &[u8]) -> Vec<u8> {
        fn each<const N: usize, const M: usize>(raw: &[u8], convert: impl Fn([u8; N]) -> [u8; M]) -> Vec<u8> {
            raw.as_chunks::<N>().0.iter().flat_map(|&element| convert(element)).collect()
        }
        match self {
            Number::F8E4M3 => each(raw, |[b]| f16::from_f32(e4m3(b)).to_le_bytes()),
            Number::F8E5M2 => each(raw, |[b]| [0, b]),
            Number::F8E8M0 => each(raw, |[b]| e8m0(b).to_le_bytes()),
            Number::I16 => each(raw, |b| i32::from(i16::from_le_bytes(b)).to_le_bytes()),
            Number::U16 => each(raw, |b| i32::from(u16::from_le_bytes(b)).to_le_bytes()),
            Number::U32 => each(raw, |b| i64::from(u32::from_le_bytes(b)).to_le_bytes()),
            Number::U64 => each(raw, |b| (u64::from_le_bytes(b) as f64).to_le_bytes()),
            _ => raw.to_vec(),
        }
    }
}

/// The value of an 8-bit number of four bits of exponent (bias 7) and three of mantissa.
pub(super) fn e4m3(bits: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(bits >> 3 & 15), f32::from(bits & 7));
    let magnitude = match (exponent, bits & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa * 2f32.powi(-9),
        _ => (8.0 + mantissa) * 2f32.powi(exponent - 10),
    };
    if bits & 0x80 == 0 { magnitude } else { -magnitude }
}

/// A power of two of bias 127.
pub(super) fn e8m0(bits: u8) -> f32 {
    match bits {
        255 => f32::NAN,
        0 => 2f32.powi(-127),
        _ => f32::from_bits(u32::from(bits) << 23),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bit_floats_have_the_values_of_their_definition() {
        let values: Vec<f32> = [0x00, 0x01, 0x08, 0x38, 0x7e, 0xb8, 0x80].into_iter().map(e4m3).collect();
        assert_eq!(values, [0.0, 2f32.powi(-9), 2f32.powi(-6), 1.0, 448.0, -1.0, 0.0]);
        assert!(e4m3(0x7f).is_nan() && e4m3(0xff).is_nan() && e8m0(255).is_nan());
        assert_eq!([e8m0(0), e8m0(127), e8m0(254)], [2f32.powi(-127), 1.0, 2f32.powi(127)]);
        let halves = |number: Number, bits: u8| {
            let bytes = number.convert(&[bits]);
            f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
        };
        for bits in (0..=255).filter(|bits| bits & 0x7f != 0x7f) {
            assert_eq!(halves(Number::F8E4M3, bits), e4m3(bits), "f16 holds all of them");
        }
        assert_eq!([halves(Number::F8E5M2, 0x3c), halves(Number::F8E5M2, 0x7b)], [1.0, 57344.0]);
    }

    #[test]
    fn converted_elements_have_the_size_of_their_type() {
        use Number::*;
        for number in [F64, F32, F16, BF16, F8E4M3, F8E5M2, F8E8M0, I64, I32, I16, I8, U64, U32, U16, U8, Bool] {
            assert_eq!(number.convert(&vec![1; 3 * number.size()]).len(), 3 * number.dtype().size(), "{number:?}");
        }
        assert_eq!(I16.convert(&[0xfe, 0xff]), (-2_i32).to_le_bytes());
        assert_eq!(U16.convert(&[0xfe, 0xff]), 65534_i32.to_le_bytes());
        assert_eq!(U32.convert(&[255; 4]), 0xffff_ffff_i64.to_le_bytes());
    }
}
