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
        // The value opposite to the extreme one is clipped to 7 of 8 steps.
        Encoding::Q4_0 => 1.0 / 8.0 + 1e-2,
        Encoding::Q4_1 => 1.0 / 15.0 + 1e-2,
    }
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

#[test]
fn blocks_of_a_checkpoint_are_kept_bit_for_bit() {
    for encoding in [Encoding::Q8_0, Encoding::Q4_0, Encoding::Q4_1] {
        let matrix = PackedMatrix { encoding, groups: 1, n: 9, k: 64 };
        let column_bytes = matrix.column_bytes().unwrap();
        let blocks: Vec<Vec<u8>> = (0..matrix.n)
            .map(|c| {
                let mut blocks = vec![0; column_bytes];
                ggml::quantise(encoding, &(0..matrix.k).map(|k| value(0, c, k)).collect::<Vec<_>>(), &mut blocks);
                blocks
            })
            .collect();
        let mut from_blocks = vec![0; matrix.bytes().unwrap()];
        matrix.pack_panel(0, Source::Blocks(&|c| &blocks[c]), &mut from_blocks).unwrap();
        let from_values = pack(&matrix, |g, c, row| row.iter_mut().enumerate().for_each(|(i, x)| *x = value(g, c, i)));
        assert!(from_blocks == from_values);
    }
}

#[test]
fn wrong_sizes_are_errors() {
    let matrix = PackedMatrix { encoding: Encoding::Q4_0, groups: 1, n: 16, k: 64 };
    let mut panel = vec![0; matrix.panel_bytes().unwrap()];
    let short = matrix.pack_panel(0, Source::Blocks(&|_| &[0; 35]), &mut panel);
    assert_eq!(short, Err(PackError::ColumnBytes { column: 0, found: 35, expected: 36, k: 64 }));
    let dense = PackedMatrix { encoding: Encoding::F32, ..matrix };
    let mut panel = vec![0; dense.panel_bytes().unwrap()];
    assert_eq!(dense.pack_panel(0, Source::Blocks(&|_| &[]), &mut panel), Err(PackError::NoBlocks(Encoding::F32)));
    let found = dense.pack_panel(0, Source::Values(&|_, _| ()), &mut panel[1..]);
    assert_eq!(found, Err(PackError::PanelBytes { found: 4095, expected: 4096 }));
}

#[test]
fn sizes_count_ragged_panels_and_blocks() {
    let matrix = |encoding, n, k| PackedMatrix { encoding, groups: 2, n, k };
    assert_eq!(matrix(Encoding::F32, 17, 3).bytes(), Some(2 * 2 * 3 * 16 * 4));
    assert_eq!(matrix(Encoding::Q4_1, 16, 33).bytes(), Some(2 * 2 * 16 * 20));
    assert_eq!(matrix(Encoding::F16, usize::MAX, usize::MAX).bytes(), None);
}
