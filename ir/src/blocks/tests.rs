use super::*;
use BlockFormat::*;

/// A block whose f16 fields, at `halves`, are 0.5 and 0.25, so that every value is exact.
fn block(format: BlockFormat, halves: &[usize]) -> Vec<u8> {
    let mut raw: Vec<u8> = (0..format.block().1).map(|i| (i * i * 7 + i * 37 + 11) as u8).collect();
    for (&at, number) in halves.iter().zip([0x3800_u16, 0x3400]) {
        raw[at..at + 2].copy_from_slice(&number.to_le_bytes());
    }
    raw
}

/// Sums over the values `x_i` that no two orders of elements share: `Σ x_i · (1 + i·i mod 97)`.
fn fingerprint(values: &[f32]) -> f64 {
    values.iter().enumerate().map(|(i, &x)| f64::from(x) * (1 + i * i % 97) as f64).sum()
}

#[test]
fn blocks_decode_as_the_python_package_gguf_decodes_them() {
    // format, places of the f16 fields, first and last value, fingerprint
    let cases: &[(BlockFormat, &[usize], f32, f32, f64)] = &[
        (Q4_0, &[0], -3.5, -1.0, 173.0),
        (Q4_1, &[0, 2], 7.75, 5.25, 5804.25),
        (Q5_0, &[0], 2.5, -7.0, 1091.5),
        (Q5_1, &[0, 2], 9.75, 6.75, 13317.75),
        (Q8_0, &[0], 56.5, -52.5, -9194.5),
        (Q2K, &[80, 82], 16.5, -1.25, 65875.75),
        (Q3K, &[108], 40.5, 0.0, 46595.0),
        (Q4K, &[0, 2], 69.75, 175.25, 1518830.25),
        (Q5K, &[0, 2], 189.75, 146.25, 3188558.25),
        (Q6K, &[208], -715.5, 1287.0, -418.0),
        (Iq4Nl, &[0], -52.0, -11.0, 4559.5),
        (Iq4Xs, &[0], 32.5, 267.0, 668232.5),
    ];
    assert_eq!(cases.len(), 12);
    for &(format, halves, first, last, expected) in cases {
        let mut values = vec![0.0; 2 * format.block().0];
        decode(format, &block(format, halves).repeat(2), &mut values);
        let (one, two) = values.split_at(values.len() / 2);
        assert_eq!(one, two, "{format:?}");
        assert_eq!((one[0], one[one.len() - 1], fingerprint(one)), (first, last, expected), "{format:?}");
    }
}

#[test]
#[should_panic(expected = "whole blocks")]
fn a_part_of_a_block_is_refused() {
    decode(Q8_0, &[0; 33], &mut [0.0; 32]);
}
