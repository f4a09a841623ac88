//! Inverse frequencies of rotary positions and the ways to stretch them to longer contexts.
//!
//! All arithmetic is in f32 and in torch's order of operations, since at position 10⁵ the last bit
//! of a frequency is a hundredth of a radian.

use std::f64::consts::PI;

/// `1 / base^(2j/d)` for `j` in `0..d/2`, rounded up.
pub fn inverse_frequencies(base: f64, dim: usize) -> Vec<f32> {
    powers(base, dim).into_iter().map(|p| 1.0 / p).collect()
}

/// `base^(2j/d)`, the wavelengths over 2π.
fn powers(base: f64, dim: usize) -> Vec<f32> {
    (0..dim).step_by(2).map(|i| (base as f32).powf(i as f32 / dim as f32)).collect()
}

/// Position interpolation (arXiv:2306.15595): every frequency divided by `factor`.
pub fn linear(base: f64, dim: usize, factor: f64) -> Vec<f32> {
    inverse_frequencies(base, dim).into_iter().map(|f| f / factor as f32).collect()
}

/// A divisor for each frequency: `1 / (divisor_j · base^(2j/d))`. There are `dim / 2` divisors.
pub fn divided(base: f64, dim: usize, divisors: &[f64]) -> Vec<f32> {
    powers(base, dim).into_iter().zip(divisors).map(|(p, &divisor)| 1.0 / (divisor as f32 * p)).collect()
}

/// Llama 3.1's scaling: long wavelengths are stretched by `factor`, short ones stay, and those
/// between are blended.
#[derive(Clone, Copy, Debug)]
pub struct Llama3 {
    /// Stretch of the long wavelengths.
    pub factor: f64,
    /// Wavelengths above `positions / low` are long.
    pub low: f64,
    /// Wavelengths below `positions / high` are short.
    pub high: f64,
    /// Length of the context before stretching.
    pub positions: f64,
}

impl Llama3 {
    /// The frequencies.
    pub fn frequencies(&self, base: f64, dim: usize) -> Vec<f32> {
        let [factor, low, positions] = [self.factor, self.low, self.positions].map(|x| x as f32);
        let span = (self.high - self.low) as f32;
        let (longest, shortest) = ((self.positions / self.low) as f32, (self.positions / self.high) as f32);
        let stretch = |f: f32| {
            let wavelength = (2.0 * PI) as f32 / f;
            if wavelength > longest {
                return f / factor;
            }
            if wavelength < shortest {
                return f;
            }
            let share = (positions / wavelength - low) / span;
            (1.0 - share) * f / factor + share * f
        };
        inverse_frequencies(base, dim).into_iter().map(stretch).collect()
    }
}

/// YaRN (arXiv:2309.00071): channels that turn more than `beta_fast` times within the original
/// context keep their frequency, those that turn less than `beta_slow` times are stretched by
/// `factor`, with a linear ramp between.
#[derive(Clone, Copy, Debug)]
pub struct Yarn {
    /// Stretch of the slow channels.
    pub factor: f64,
    /// Turns of the fastest channels that are ramped.
    pub beta_fast: f64,
    /// Turns of the slowest channels that are ramped.
    pub beta_slow: f64,
    /// Whether the ramp begins and ends at whole channels.
    pub truncate: bool,
    /// Length of the context before stretching.
    pub positions: f64,
}

impl Yarn {
    /// The frequencies.
    pub fn frequencies(&self, base: f64, dim: usize) -> Vec<f32> {
        let (low, high) = self.ramp(base, dim);
        let factor = self.factor as f32;
        let blend = |(j, power): (usize, f32)| {
            let kept = 1.0 - ((j as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
            (1.0 / (factor * power)) * (1.0 - kept) + (1.0 / power) * kept
        };
        powers(base, dim).into_iter().enumerate().map(blend).collect()
    }

    /// First and last channel of the ramp.
    fn ramp(&self, base: f64, dim: usize) -> (f64, f64) {
        let channel = |turns: f64| dim as f64 * (self.positions / (turns * 2.0 * PI)).ln() / (2.0 * base.ln());
        let (mut low, mut high) = (channel(self.beta_fast), channel(self.beta_slow));
        if self.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(dim as f64 - 1.0));
        if low == high { (low, high + 0.001) } else { (low, high) }
    }

    /// The factor of cosines and sines that the paper suggests, which sharpens the softmax. With
    /// DeepSeek's coefficients `mscale` and `mscale_all_dim`, the quotient of their two factors.
    pub fn suggested_scale(factor: f64, mscale: Option<(f64, f64)>) -> f64 {
        let scale = |coefficient: f64| if factor <= 1.0 { 1.0 } else { 0.1 * coefficient * factor.ln() + 1.0 };
        mscale.map_or_else(|| scale(1.0), |(part, all)| scale(part) / scale(all))
    }
}
