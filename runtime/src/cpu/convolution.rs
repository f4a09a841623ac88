//! Long convolutions of one row: by real transforms of a length that leaves room for all sums, or directly.
//!
//! `y = F⁻¹(F(u) ⊙ F(k))`, where both are followed by zeros up to the length of the transform. Transforms are planned
//! once for each length and kept.

use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};
use rustfft::num_complex::Complex;

use super::scratch::{Carver, Scratch};

/// Elements of a transform's spectrum.
pub type Bin = Complex<f32>;

/// Products that cost as much as one step of a transform for each of its elements.
const DIRECT: usize = 8;
/// Partial sums that go on side by side.
const LANES: usize = 16;

/// A transform of real rows, forth and back.
#[derive(Clone)]
pub struct Transform {
    forth: Arc<dyn RealToComplex<f32>>,
    back: Arc<dyn ComplexToReal<f32>>,
}

impl fmt::Debug for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transform({})", self.forth.len())
    }
}

/// Working memory of a transform.
pub struct Work<'a> {
    real: &'a mut [f32],
    bins: &'a mut [Bin],
    inner: &'a mut [Bin],
}

impl Transform {
    /// A transform for rows of `inputs` elements and so many taps, if `results` of them are not cheaper to sum
    /// directly.
    pub fn of(inputs: usize, taps: usize, results: usize) -> Option<Transform> {
        let taps = taps.min(inputs);
        let length = good_length((inputs + taps).saturating_sub(1));
        let steps = DIRECT * length * length.ilog2() as usize;
        (results.saturating_mul(taps) > steps).then(|| Transform::planned(length))
    }

    fn planned(length: usize) -> Transform {
        static PLANNER: LazyLock<Mutex<RealFftPlanner<f32>>> = LazyLock::new(|| Mutex::new(RealFftPlanner::new()));
        let mut planner = PLANNER.lock().unwrap_or_else(PoisonError::into_inner);
        Transform { forth: planner.plan_fft_forward(length), back: planner.plan_fft_inverse(length) }
    }

    /// Elements of a spectrum.
    pub fn bins(&self) -> usize {
        self.forth.complex_len()
    }

    fn inner(&self) -> usize {
        self.forth.get_scratch_len().max(self.back.get_scratch_len())
    }

    /// Bytes of the working memory.
    pub fn work_bytes(&self) -> usize {
        let bins = Scratch::bytes_of::<Bin>(self.bins()) + Scratch::bytes_of::<Bin>(self.inner());
        Scratch::bytes_of::<f32>(self.forth.len()) + bins
    }

    /// Working memory, of any values.
    pub fn work<'a>(&self, carver: &mut Carver<'a>) -> Work<'a> {
        let (real, bins) = (carver.take(self.forth.len()), carver.take(self.bins()));
        Work { real, bins, inner: carver.take(self.inner()) }
    }

    /// The spectrum of taps, scaled so that the way forth and back gives what it began with.
    pub fn spectrum(&self, taps: &[f32], work: &mut Work<'_>, spectrum: &mut [Bin]) {
        let scale = 1.0 / self.forth.len() as f32;
        let (row, rest) = work.real.split_at_mut(taps.len());
        row.iter_mut().zip(taps).for_each(|(to, tap)| *to = tap * scale);
        rest.fill(0.0);
        // Lengths are those of the plan.
        let done = self.forth.process_with_scratch(work.real, spectrum, work.inner);
        debug_assert!(done.is_ok(), "a forward transform");
    }

    /// The convolution of `row` with taps of that spectrum; gives as many elements as the row has, and more.
    pub fn convolve<'w>(&self, row: &[f32], spectrum: &[Bin], work: &'w mut Work<'_>) -> &'w [f32] {
        let (to, rest) = work.real.split_at_mut(row.len());
        to.copy_from_slice(row);
        rest.fill(0.0);
        let forth = self.forth.process_with_scratch(work.real, work.bins, work.inner);
        work.bins.iter_mut().zip(spectrum).for_each(|(bin, tap)| *bin *= tap);
        // Rounding leaves traces where spectra of real rows are real.
        work.bins[0].im = 0.0;
        if let Some(last) = work.bins.last_mut().filter(|_| self.forth.len().is_multiple_of(2)) {
            last.im = 0.0;
        }
        let back = self.back.process_with_scratch(work.bins, work.real, work.inner);
        debug_assert!(forth.is_ok() && back.is_ok(), "a transform");
        work.real
    }
}

/// A length of at least `least` whose transform is fast: a power of two, perhaps times 3 or 9.
fn good_length(least: usize) -> usize {
    let of = |factor: usize| factor * least.div_ceil(factor).next_power_of_two().max(2);
    of(1).min(of(3)).min(of(9))
}

/// The element at `place` of the convolution of a row with taps, summed directly.
pub fn direct(row: &[f32], taps: &[f32], place: usize) -> f32 {
    let first = (place + 1).saturating_sub(taps.len());
    let row = &row[first..row.len().min(place + 1)];
    // The tap for the first element is the last one.
    let taps = &taps[place + 1 - first - row.len()..place + 1 - first];
    let (rows, turned) = (row.chunks_exact(LANES), taps.rchunks_exact(LANES));
    let rest: f32 = rows.remainder().iter().zip(turned.remainder().iter().rev()).map(|(x, tap)| x * tap).sum();
    let mut sums = [0.0; LANES];
    for (row, taps) in rows.zip(turned) {
        for lane in 0..LANES {
            sums[lane] += row[lane] * taps[LANES - 1 - lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_leave_room_and_are_even() {
        for least in 1..3000 {
            let length = good_length(least);
            assert!(length >= least && length.is_multiple_of(2) && 2 * length < 3 * least + 6, "{length} for {least}");
        }
    }

    /// Both ways against the plain double sum, whatever the numbers of elements and taps.
    #[test]
    fn both_ways_sum_what_the_definition_says() {
        let noise = |seed: usize, n: usize| -> Vec<f32> {
            (0..n).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5 - 1.0).collect()
        };
        for (inputs, taps) in [(1, 1), (2, 5), (17, 17), (33, 16), (100, 7), (257, 300), (1000, 1000)] {
            let (row, kernel) = (noise(1, inputs), noise(2, taps));
            let transform = Transform::planned(good_length(inputs + taps.min(inputs) - 1));
            let mut memory = Scratch::default();
            memory.reserve(transform.work_bytes() + Scratch::bytes_of::<Bin>(transform.bins()));
            let mut carver = memory.carve();
            let (spectrum, mut work) = (carver.take(transform.bins()), transform.work(&mut carver));
            transform.spectrum(&kernel[..taps.min(inputs)], &mut work, spectrum);
            let found = transform.convolve(&row, spectrum, &mut work);
            for place in 0..inputs {
                let tap = |j: usize| kernel.get(place - j).map_or(0.0, |tap| f64::from(row[j]) * f64::from(*tap));
                let expected: f64 = (0..=place).map(tap).sum();
                let sums = [found[place], direct(&row, &kernel, place)].map(f64::from);
                assert!(
                    sums.iter().all(|sum| (sum - expected).abs() < 5e-5 * (1.0 + expected.abs())),
                    "{place} of {inputs}: {sums:?}, not {expected}"
                );
            }
        }
    }
}
