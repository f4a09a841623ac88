//! Parts of tensors that are copied when states change their extents or rows.

/// Bytes that are copied from one place to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// First byte of the source.
    pub from: usize,
    /// First byte of the target.
    pub to: usize,
    /// Number of bytes.
    pub bytes: usize,
}

/// The elements whose indices two row-major tensors of one rank have in common.
pub(crate) fn common(from: &[usize], to: &[usize], size: usize, visit: &mut dyn FnMut(Piece)) {
    descend(Piece { from: 0, to: 0, bytes: size }, from, to, visit);
}

/// Visits a part of two tensors; `at.bytes` is the size of an element.
fn descend(at: Piece, from: &[usize], to: &[usize], visit: &mut dyn FnMut(Piece)) {
    let ([from_extent, from_rest @ ..], [to_extent, to_rest @ ..]) = (from, to) else { return visit(at) };
    let extent = *from_extent.min(to_extent);
    let [from_inner, to_inner] = [from_rest, to_rest].map(|rest| rest.iter().product::<usize>() * at.bytes);
    if from_rest == to_rest {
        return visit(Piece { bytes: extent * from_inner, ..at });
    }
    for i in 0..extent {
        descend(Piece { from: at.from + i * from_inner, to: at.to + i * to_inner, ..at }, from_rest, to_rest, visit);
    }
}

/// The rows along an axis that another row replaces: row `i` becomes what was row `rows[i]`.
pub(crate) fn selected(shape: &[usize], axis: usize, rows: &[usize], size: usize, visit: &mut dyn FnMut(Piece)) {
    let outer: usize = shape[..axis].iter().product();
    let bytes = shape[axis + 1..].iter().product::<usize>() * size;
    for block in 0..outer {
        let at = |row: usize| (block * rows.len() + row) * bytes;
        for (to, &from) in rows.iter().enumerate().filter(|(to, from)| to != *from) {
            visit(Piece { from: at(from), to: at(to), bytes });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(collect: impl FnOnce(&mut dyn FnMut(Piece))) -> Vec<[usize; 3]> {
        let mut found = Vec::new();
        collect(&mut |Piece { from, to, bytes }| found.push([from, to, bytes]));
        found
    }

    #[test]
    fn what_tensors_have_in_common_is_copied_in_runs() {
        let grown = pieces(|visit| common(&[2, 3, 5], &[2, 4, 5], 4, visit));
        assert_eq!(grown, [[0, 0, 60], [60, 80, 60]]);
        assert_eq!(pieces(|visit| common(&[3, 2], &[1, 2], 2, visit)), [[0, 0, 4]]);
        assert_eq!(pieces(|visit| common(&[], &[], 4, visit)), [[0, 0, 4]]);
        let narrowed = pieces(|visit| common(&[2, 3], &[3, 2], 1, visit));
        assert_eq!(narrowed, [[0, 0, 2], [3, 2, 2]]);
    }

    #[test]
    fn rows_that_stay_are_not_copied() {
        let rows = pieces(|visit| selected(&[2, 3, 2], 1, &[0, 0, 2], 4, visit));
        assert_eq!(rows, [[0, 8, 8], [24, 32, 8]]);
    }
}
