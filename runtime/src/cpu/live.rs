//! Rows of a batch of texts that are computed: those that no mask pads.

use std::ops::Range;

/// The tokens of a batch `[b, s]`, as row numbers `b·s`.
#[derive(Debug, Default)]
pub struct Live {
    /// Rows that are computed, ascending.
    rows: Vec<u32>,
    /// Rows that are not, in runs.
    padding: Vec<Range<usize>>,
    /// For each text, the positions from the first token to the last.
    spans: Vec<Range<usize>>,
    keeps_first: bool,
}

impl Live {
    /// Takes a mask with rows of `length`; with `keeps_first`, the first row of each text is computed whatever it is.
    /// Gives whether there is any padding before the first or after the last token of a text.
    pub fn fill(&mut self, mask: &[i32], length: usize, keeps_first: bool) -> bool {
        self.rows.clear();
        self.padding.clear();
        self.spans.clear();
        self.keeps_first = keeps_first;
        for (text, mask) in mask.chunks_exact(length.max(1)).enumerate() {
            let first = mask.iter().position(|&m| m != 0).unwrap_or(0);
            let end = mask.iter().rposition(|&m| m != 0).map_or(0, |last| last + 1);
            let (start, span) = (text * length, first..end);
            let kept = if keeps_first { 1 } else { 0 };
            let padding = [kept.min(span.start)..span.start, span.end.max(kept)..length];
            self.padding
                .extend(padding.into_iter().filter(|run| !run.is_empty()).map(|r| start + r.start..start + r.end));
            self.rows
                .extend((0..kept.min(span.start)).chain(span.start..span.end.max(kept)).map(|i| (start + i) as u32));
            self.spans.push(span);
        }
        !self.padding.is_empty()
    }

    /// Rows that are computed, ascending.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// Runs of rows that are not.
    pub fn padding(&self) -> &[Range<usize>] {
        &self.padding
    }

    /// Those of some positions of a text that are computed; a run, so that there may be more.
    pub fn of_text(&self, text: usize, positions: Range<usize>) -> Range<usize> {
        let span = &self.spans[text];
        let (start, end) = (positions.start.max(span.start), positions.end.min(span.end));
        if self.keeps_first && positions.start == 0 {
            return 0..end.max(1);
        }
        if start < end { start..end } else { positions.start..positions.start }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_between_the_first_and_the_last_token_are_computed() {
        let mut live = Live::default();
        let mask = [1, 1, 0, 0, /**/ 0, 1, 0, 1, /**/ 0, 0, 0, 0, /**/ 1, 1, 1, 1];
        assert!(live.fill(&mask, 4, false));
        assert_eq!(live.rows(), [0, 1, 5, 6, 7, 12, 13, 14, 15]);
        assert_eq!(live.padding(), [2..4, 4..5, 8..12]);
        assert_eq!(live.of_text(0, 0..4), 0..2);
        assert_eq!(live.of_text(1, 2..4), 2..4);
        assert!(live.of_text(2, 0..4).is_empty());
        assert!(live.fill(&mask, 4, true));
        assert_eq!(live.rows(), [0, 1, 4, 5, 6, 7, 8, 12, 13, 14, 15]);
        assert_eq!(live.padding(), [2..4, 9..12]);
        assert_eq!(live.of_text(1, 0..2), 0..2);
        assert!(!live.fill(&[1; 8], 4, false));
    }
}
