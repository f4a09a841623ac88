//! Finds what repeats in a list of layers, so that a dump of a deep model is one pattern long.

/// Longest pattern that is looked for.
const LONGEST: usize = 64;

/// `count` repetitions of the `period` items from `start` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub start: usize,
    pub period: usize,
    pub count: usize,
}

/// Splits a list into repetitions: at each place the pattern that covers most, and of those the shortest.
/// `A B B A B B A` is three items twice, then one.
pub(super) fn runs<T: PartialEq>(items: &[T]) -> Vec<Run> {
    let mut found = Vec::new();
    let mut start = 0;
    while start < items.len() {
        let alone = Run { start, period: 1, count: 1 };
        let longest = LONGEST.min((items.len() - start) / 2);
        let repeated = (1..=longest).map(|period| Run { start, period, count: repetitions(&items[start..], period) });
        let covered = |run: &Run| (run.period * run.count, usize::MAX - run.period);
        let run = repeated.filter(|run| run.count > 1).max_by_key(covered).unwrap_or(alone);
        start += run.period * run.count;
        found.push(run);
    }
    found
}

/// How often the first `period` items stand one after another.
fn repetitions<T: PartialEq>(items: &[T], period: usize) -> usize {
    let same = items.iter().zip(&items[period..]).take_while(|(a, b)| a == b).count();
    1 + same / period
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<(usize, usize)> {
        runs(text.as_bytes()).iter().map(|run| (run.period, run.count)).collect()
    }

    #[test]
    fn patterns_that_repeat_are_runs() {
        assert_eq!(of("AAAA"), [(1, 4)]);
        assert_eq!(of("ABABAB"), [(2, 3)]);
        assert_eq!(of("LLLLLGLLLLLGLL"), [(6, 2), (1, 2)]);
        assert_eq!(of("DMMMM"), [(1, 1), (1, 4)]);
        assert_eq!(of("ABC"), [(1, 1); 3]);
        assert_eq!(of(""), []);
    }
}
