//! What a tile has gathered from the keys so far, and how two such sums are joined.

use super::softmax::Rescale;
use super::tile::{columns, padded};
use crate::cpu::isa::Isa;

/// The running sums of some rows of queries. Scores are logarithms to the base 2.
pub(super) struct State<'a> {
    /// Largest score of each row.
    pub largest: &'a mut [f32],
    /// Sum of the weights `2^(score - largest)`.
    pub total: &'a mut [f32],
    /// Sum of the values times their weights, [`State::width`] apart.
    pub mix: &'a mut [f32],
    /// Elements from row to row of `mix`.
    pub width: usize,
}

impl<'a> State<'a> {
    /// Elements that the state of `rows` takes, with values of width `e`.
    pub(super) fn floats(rows: usize, e: usize) -> usize {
        padded(rows) * (2 + columns(e))
    }

    /// The state in a piece of memory.
    pub(super) fn of(memory: &'a mut [f32], rows: usize, e: usize) -> State<'a> {
        let (largest, rest) = memory.split_at_mut(padded(rows));
        let (total, rest) = rest.split_at_mut(padded(rows));
        State { largest, total, mix: &mut rest[..rows * columns(e)], width: columns(e) }
    }

    /// Forgets everything: no key seen.
    pub(super) fn clear(&mut self) {
        self.largest.fill(f32::NEG_INFINITY);
        self.total.fill(0.0);
        self.mix.fill(0.0);
    }

    /// Adds what another part of the keys gave.
    pub(super) fn join(&mut self, isa: Isa, other: &State<'_>) {
        let (width, rows) = (self.width, self.mix.len() / self.width);
        for row in 0..rows {
            let largest = self.largest[row].max(other.largest[row]);
            if other.total[row] == 0.0 {
                continue;
            }
            let [ours, theirs] = [self.largest[row], other.largest[row]].map(|own| (own - largest).exp2());
            self.largest[row] = largest;
            self.total[row] = self.total[row] * ours + other.total[row] * theirs;
            let (mix, added) = (&mut self.mix[row * width..][..width], &other.mix[row * width..][..width]);
            isa.run(Rescale { rows: mix, width, factors: &[ours] });
            mix.iter_mut().zip(added).for_each(|(x, y)| *x += theirs * y);
        }
    }

    /// What the sums of a row are divided by, inverted; 0 if it saw no key. A sink is one more score.
    pub(super) fn inverse(&self, row: usize, sink: Option<f32>) -> f32 {
        let sunk = sink.map_or(0.0, |sink| (sink - self.largest[row]).exp2());
        if self.total[row] == 0.0 { 0.0 } else { 1.0 / (self.total[row] + sunk) }
    }
}
