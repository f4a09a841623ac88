//! Packing and unpacking are inverse up to the encoding's precision.

use super::*;

/// Numbers in -1 ..= 1 that follow from their place.
fn value(group: usize, column: usize, k: usize) -> f32 {
    let hash = (group * 7919 + column * 104_729 + k * 1_299_709 + 12345).wrapping_mul(2_654_435_761) >> 7;
    (hash % 2001) as f32 / 1000.0 - 1.0
}

fn pack(matrix: &PackedMatrix, source: impl Fn(usize, usize, &mut [f32])) -> Vec<u8> {
    let size = matrix.panel_bytes().unwrap();
    let mut bytes = vec![0xaa; matrix.bytes().unwrap()];
    for (i, out) in bytes.chunks_exact_mut(size).enumerate() {
        let (panel, group) = (i / matrix.groups, i % matrix.groups);
        matrix.pack_panel(panel, Source::Values(&|column, row: &mut [f32]| source(group, column, row)), out).unwrap();
    }
    bytes
}

/// Largest difference that an encoding makes for values in -1 ..= 1.
fn tolerance(encoding: Encoding) -> f32 {
    match encoding {
        Encoding::F32 => 0.0,
        Encoding::F16 => 1.0 / 2048.0,
        Encoding::BF16 => 1.0 / 256.0,
        Encoding::Q8_0 => 0.5 / 127.0 + 1e-3,
        // A step is the range by the largest integer; offset formats clip the value opposite to the extreme.
        Encoding::Q4_0 | Encoding::Q5_0 | Encoding::Q3K | Encoding::Q6K => {
            1.02 / f32::from(layout(encoding).zero) + 1e-2
        }
        Encoding::Q4_1 | Encoding::Q5_1 | Encoding::Q2K | Encoding::Q4K | Encoding::Q5K => {
            1.05 / ((1 << layout(encoding).bits()) - 1) as f32 + 1e-2
        }
        Encoding::Q8S => 1.0 / 127.0,
    }
}

fn layout(encoding: Encoding) -> Layout {
    Layout::of(encoding).expect("a quantised encoding")
}

#[test]
fn unpacking_gives_what_was_packed() {
    for encoding in Encoding::ALL {
        for (groups, n, k) in [(1, 16, 32), (1, 1, 1), (2, 17, 33), (3, 40, 95), (1, 50, 64)] {
            let matrix = PackedMatrix { encoding, groups, n, k };
            let bytes = pack(&matrix, |g, c, row| row.iter_mut().enumerate().for_each(|(i, x)| *x = value(g, c, i)));
            let mut row = vec![0.0; k];
            for (group, column) in (0..groups).flat_map(|g| (0..n).map(move |c| (g, c))) {
                matrix.unpack_row(&bytes, group, column, &mut row);
                for (i, &x) in row.iter().enumerate() {
                    let error = (x - value(group, column, i)).abs();
                    assert!(error <= tolerance(encoding), "{matrix:?}: [{group}][{column}][{i}] is off by {error}");
                }
            }
        }
    }
}

#[test]
fn ragged_columns_are_zeros() {
    for encoding in Encoding::ALL {
        let narrow = PackedMatrix { encoding, groups: 1, n: 3, k: 40 };
        let wide = PackedMatrix { n: 16, ..narrow };
        let bytes = pack(&narrow, |_, _, row| row.fill(1.0));
        let mut row = vec![1.0; 40];
        wide.unpack_row(&bytes, 0, 3, &mut row);
        assert!(row.iter().all(|&x| x == 0.0), "{encoding:?}: {row:?}");
    }
}

/// Formats with the places of the f16 fields of a block.
const FORMATS: [(BlockFormat, &[usize]); 12] = [
    (BlockFormat::Q4_0, &[0]),
    (BlockFormat::Q4_1, &[0, 2]),
    (BlockFormat::Q5_0, &[0]),
    (BlockFormat::Q5_1, &[0, 2]),
    (BlockFormat::Q8_0, &[0]),
    (BlockFormat::Q2K, &[80, 82]),
    (BlockFormat::Q3K, &[108]),
    (BlockFormat::Q4K, &[0, 2]),
    (BlockFormat::Q5K, &[0, 2]),
    (BlockFormat::Q6K, &[208]),
    (BlockFormat::Iq4Nl, &[0]),
    (BlockFormat::Iq4Xs, &[0]),
];

/// Blocks of a column: any bytes, and f16 fields that are numbers.
fn any_blocks(format: BlockFormat, halves: &[usize], column: usize, k: usize) -> Vec<u8> {
    let (elements, bytes) = format.block();
    let mut raw: Vec<u8> = (0..k / elements * bytes).map(|i| (((i + 1) * (column + 3) * 40_503) >> 5) as u8).collect();
    for (number, block) in raw.chunks_exact_mut(bytes).enumerate() {
        for &at in halves {
            let scale = half::f16::from_f32(value(number, column, at) / 64.0);
            block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
        }
    }
    raw
}

#[test]
fn blocks_of_a_checkpoint_are_kept_bit_for_bit() {
    for (format, halves) in FORMATS {
        let matrix = PackedMatrix { encoding: Encoding::of(format), groups: 1, n: 9, k: 512 };
        let blocks: Vec<Vec<u8>> = (0..matrix.n).map(|c| any_blocks(format, halves, c, matrix.k)).collect();
        let mut packed = vec![0xaa; matrix.bytes().unwrap()];
        matrix.pack_panel(0, Source::Blocks(format, &|c| &blocks[c]), &mut packed).unwrap();
        let (mut row, mut expected) = (vec![0.0; matrix.k], vec![0.0; matrix.k]);
        for (column, raw) in blocks.iter().enumerate() {
            matrix.unpack_row(&packed, 0, column, &mut row);
            blocks::decode(format, raw, &mut expected);
            assert_eq!(row, expected, "{format:?}, column {column}");
        }
    }
}

#[test]
fn encodings_take_few_more_bytes_than_the_formats_they_hold() {
    let bits = |(elements, bytes): (usize, usize)| 8.0 * bytes as f64 / elements as f64;
    for (format, _) in FORMATS.into_iter().filter(|(f, _)| !matches!(f, BlockFormat::Iq4Nl | BlockFormat::Iq4Xs)) {
        let (stored, packed) = (bits(format.block()), bits(Encoding::of(format).block()));
        assert!(packed <= 1.04 * stored || packed - stored <= 0.5, "{format:?}: {packed} bits instead of {stored}");
    }
}

#[test]
fn wrong_sizes_are_errors() {
    let matrix = PackedMatrix { encoding: Encoding::Q4_0, groups: 1, n: 16, k: 64 };
    let mut panel = vec![0; matrix.panel_bytes().unwrap()];
    let short = matrix.pack_panel(0, Source::Blocks(BlockFormat::Q4_0, &|_| &[0; 35]), &mut panel);
    assert_eq!(short, Err(PackError::ColumnBytes { column: 0, found: 35, expected: 36, k: 64 }));
    let other = matrix.pack_panel(0, Source::Blocks(BlockFormat::Q4_1, &|_| &[]), &mut panel);
    assert_eq!(other, Err(PackError::Format(Encoding::Q4_0, BlockFormat::Q4_1)));
    let found = matrix.pack_panel(0, Source::Values(&|_, _| ()), &mut panel[1..]);
    assert_eq!(found, Err(PackError::PanelBytes { found: panel.len() - 1, expected: panel.len() }));
}

#[test]
fn sizes_count_ragged_panels_and_blocks() {
    let matrix = |encoding, n, k| PackedMatrix { encoding, groups: 2, n, k };
    assert_eq!(matrix(Encoding::F32, 17, 3).bytes(), Some(2 * 2 * 3 * 16 * 4));
    assert_eq!(matrix(Encoding::Q4_1, 16, 33).bytes(), Some(2 * 2 * 16 * 20));
    assert_eq!(matrix(Encoding::F16, usize::MAX, usize::MAX).bytes(), None);
}
