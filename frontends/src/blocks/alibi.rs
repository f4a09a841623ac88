//! Slopes of ALiBi (arXiv:2108.12409).

/// Slopes of `heads` heads: powers of `2^(-8/n)` for the largest power of two `n` that is not above
/// `heads`, then every second power of the next finer series.
pub fn slopes(heads: usize) -> Vec<f64> {
    let whole = if heads.is_power_of_two() { heads } else { heads.next_power_of_two() / 2 };
    let slope = |count: usize, power: usize| 2f64.powf(-8.0 / count as f64 * power as f64);
    let first = (1..=whole).map(|power| slope(whole, power));
    let rest = (0..heads - whole).map(|j| slope(2 * whole, 2 * j + 1));
    first.chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_those_of_the_paper() {
        let eight: Vec<f64> = (1..=8).map(|i| 0.5f64.powi(i)).collect();
        assert_eq!(slopes(8), eight);
        assert_eq!(slopes(3), [1.0 / 16.0, 1.0 / 256.0, 0.25]);
    }
}
