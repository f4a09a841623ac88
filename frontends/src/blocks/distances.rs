//! Which row of a table serves a query and a key that stand so far apart.

/// For each distance of a query from a key, from `-n` to `n`, the row of a table. Beyond, the outermost row.
pub type Distances = Vec<usize>;

/// Furthest distance that is looked at for the outermost rows of [`by_logarithm`].
const FURTHEST: i64 = 1 << 17;

/// A row for each distance below `limit` (DeBERTa, arXiv:2006.03654): `2·limit` rows.
pub fn each(limit: usize) -> Distances {
    let limit = limit as i64;
    (-limit..=limit).map(|distance| (distance + limit).min(2 * limit - 1) as usize).collect()
}

/// A row for each near distance, and rows that further ones share by the logarithm, up to about `limit`
/// (DeBERTa-v2): `2·buckets` rows. In f32, as the reference has it.
///
/// Nothing unless some distances are near and `limit` is beyond them.
pub fn by_logarithm(buckets: usize, limit: usize) -> Option<Distances> {
    let middle = buckets / 2;
    if middle == 0 || limit <= middle + 1 {
        return None;
    }
    let scale = (((limit - 1) as f64 / middle as f64) as f32).ln();
    let class = |distance: i64| {
        let size = distance.unsigned_abs() as usize;
        if size <= middle {
            return distance;
        }
        let share = (size as f32 / middle as f32).ln() / scale;
        ((share * (middle - 1) as f32).ceil() as i64 + middle as i64) * distance.signum()
    };
    let last = 2 * buckets as i64 - 1;
    let row = |distance: i64| (class(distance) + buckets as i64).clamp(0, last);
    let furthest = (limit as i64..FURTHEST).find(|&n| row(n) == last && row(-n) == 0).unwrap_or(limit as i64);
    Some((-furthest..=furthest).map(|distance| row(distance) as usize).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn far_distances_share_rows() {
        assert_eq!(each(2), [0, 1, 2, 3, 3]);
        let rows = by_logarithm(4, 6).expect("limits beyond the near ones");
        assert!(rows.is_sorted() && rows[0] == 0 && rows.last() == Some(&7));
        assert_eq!(rows[rows.len() / 2 - 2..][..5], [2, 3, 4, 5, 6]);
        assert_eq!((by_logarithm(1, 6), by_logarithm(10, 6)), (None, None));
    }
}
