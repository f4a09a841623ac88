//! What linear state spaces are computed from, once for all inputs and in f64.

use super::attributes::{attributes, named_enum};
use super::{OpDef, TypeError, require};
use crate::dim::Dim;
use crate::interpret::{EvalError, Frame};
use crate::tensor::Tensor;
use crate::types::{DType, Type};

named_enum! {
    /// What is computed of a state space.
    StatePart {
        /// Diagonal, with a hold of order zero: powers and what they are read with.
        Zoh => "zoh",
        /// Diagonal, by the bilinear transform.
        Bilinear => "bilinear",
        /// Diagonal plus low rank, by the bilinear transform: one step.
        Step => "step",
        /// Diagonal plus low rank: what its states are read with.
        Readout => "readout",
    }
}

/// Discrete state spaces `x ← Ā·x + B̄·u`, `y = C·x` of `d` channels with `n` complex numbers and their conjugates each
/// (S4, arXiv:2111.00396; S4D, arXiv:2206.11893). A weight expression: it is evaluated when a model is compiled.
///
/// Operands, f64: the steps `Δ: [d, 1]` or `[d, n]`; real and imaginary parts of `A: [d, n]`; `B: [d, n, 2]`; `C: [k, d, n, 2]`; but for
/// diagonal ones `P: [r, d, n, 2]`, whose matrix is `diag(A) - Σ_r P_r·P_r*`. Real and imaginary parts follow each
/// other along the last axis of operands, and one after another along the axis of `2n` of results, which are f32.
/// `readout` has a seventh operand, the length `[]` that its `C` is stored for, 0 for none:
///
/// - `zoh`, `bilinear`: `[d, 2n, k·taps + 1]`, with `2·C·B̄·λ^i` (imaginary parts negative, so that the product with the
///   two parts of a power of λ is the tap) for `i < taps`, and `λ^taps` last;
/// - `step`: `[2 + 2r, d, 2n]`: `λ - 1`, `B̄`, then `U_r`, then `V_r` with `Ā·x = λ·x - Σ_r U_r·(V_r·x)`;
/// - `readout`: `[k, d, 2n]`: `2·C`, where the stored one is `C·(I - Ā^length)` but for a length of 0.
#[derive(Clone, Debug, PartialEq)]
pub struct StateSpace {
    /// Which of these.
    pub part: StatePart,
    /// Number of powers.
    pub taps: Option<usize>,
}
attributes!(StateSpace { part: StatePart, taps: Option<usize> });

impl OpDef for StateSpace {
    fn name(&self) -> &'static str {
        "state_space"
    }
    fn result_types(&self, types: &[Type]) -> Result<Vec<Type>, TypeError> {
        let count = match self.part {
            StatePart::Zoh | StatePart::Bilinear => 5,
            StatePart::Step => 6,
            StatePart::Readout => 7,
        };
        require!(types.len() == count, "{} operands do not fit", types.len());
        let [dt, re, im, b, c, p @ ..] = types else { return Err(TypeError("operands are missing".to_owned())) };
        require!(types.iter().all(|ty| ty.dtype == DType::F64), "operands are f64");
        let is_one = |ty: &Type| ty.rank() == 2 && ty.shape[0] == re.shape[0] && ty.shape[1] == Dim::from(1);
        require!(re.rank() == 2 && re == im && (dt == re || is_one(dt)), "steps {dt} with A {re}, {im}");
        require!(c.rank() == 4, "C is {c}");
        let parts: Vec<Dim> = re.shape.iter().cloned().chain([Dim::from(2)]).collect();
        let fits = |ty: &Type| ty.shape.ends_with(&parts);
        let is_p = p.first().is_none_or(|p| p.rank() == 4 && fits(p));
        require!(b.shape == parts && fits(c) && is_p, "B is {b}, C {c}");
        require!(p.get(1).is_none_or(|length| length.rank() == 0), "the length is no number");
        require!(types.iter().flat_map(|ty| &ty.shape).all(|d| d.as_constant().is_some()), "extents are constant");
        let (d, n, k) = (re.shape[0].clone(), re.shape[1].clone() * 2.into(), c.shape[0].clone());
        let shape = match self.part {
            StatePart::Zoh | StatePart::Bilinear => {
                let taps = self.taps.ok_or_else(|| TypeError("the number of taps is missing".to_owned()))?;
                vec![d, n, k * taps.into() + 1.into()]
            }
            StatePart::Step => vec![types[5].shape[0].clone() * 2.into() + 2.into(), d, n],
            StatePart::Readout => vec![k, d, n],
        };
        Ok(vec![Type::new(DType::F32, shape)])
    }
    fn evaluate(&self, operands: &[&Tensor], _: &mut Frame<'_>) -> Result<Vec<Tensor>, EvalError> {
        let (d, n, k) = (operands[1].shape[0], operands[1].shape[1], operands[4].shape[0]);
        let rank = operands.get(5).map_or(0, |p| p.shape[0]);
        let channels = (0..d).map(|channel| {
            let complex = |t: &Tensor, i: usize| -> Vec<Complex> {
                t.data[2 * n * (i * d + channel)..][..2 * n].chunks(2).map(|x| Complex(x[0], x[1])).collect()
            };
            let at = |t: &Tensor| (0..n).map(|i| t.at_broadcast(&[channel, i])).collect::<Vec<_>>();
            let a = at(operands[1]).into_iter().zip(at(operands[2])).map(|(re, im)| Complex(re, im)).collect();
            Channel {
                dt: at(operands[0]),
                a,
                b: complex(operands[3], 0),
                c: (0..k).map(|i| complex(operands[4], i)).collect(),
                p: (0..rank).map(|i| complex(operands[5], i)).collect(),
            }
        });
        let taps = self.taps.unwrap_or(0);
        let length = operands.get(6).map_or(0, |length| length.data[0] as usize);
        let (rows, is_outer): (Vec<Vec<Vec<Complex>>>, bool) = match self.part {
            StatePart::Zoh => (channels.map(|channel| channel.powers(Channel::hold, taps)).collect(), false),
            StatePart::Bilinear => (channels.map(|channel| channel.powers(Channel::bilinear, taps)).collect(), false),
            StatePart::Step => (channels.map(|channel| channel.step()).collect(), true),
            StatePart::Readout => (channels.map(|channel| channel.readout(length)).collect(), true),
        };
        let count = rows.first().map_or(0, Vec::len);
        let part = |channel: usize, i: usize, row: usize| match i.checked_sub(n) {
            None => rows[channel][row][i].0,
            Some(i) => rows[channel][row][i].1,
        };
        let shape = if is_outer { vec![count, d, 2 * n] } else { vec![d, 2 * n, count] };
        let tensor = Tensor::from_fn(DType::F32, &shape, |index| match is_outer {
            true => part(index[1], index[2], index[0]),
            false => part(index[0], index[1], index[2]),
        });
        Ok(vec![tensor.cast(DType::F32)])
    }
}

/// A complex number.
#[derive(Clone, Copy, Debug)]
struct Complex(f64, f64);

impl Complex {
    const ONE: Complex = Complex(1.0, 0.0);

    fn plus(self, other: Complex) -> Complex {
        Complex(self.0 + other.0, self.1 + other.1)
    }
    fn times(self, other: Complex) -> Complex {
        Complex(self.0 * other.0 - self.1 * other.1, self.0 * other.1 + self.1 * other.0)
    }
    fn scaled(self, factor: f64) -> Complex {
        Complex(self.0 * factor, self.1 * factor)
    }
    fn conjugate(self) -> Complex {
        Complex(self.0, -self.1)
    }
    fn over(self, other: Complex) -> Complex {
        self.times(other.conjugate()).scaled(1.0 / (other.0 * other.0 + other.1 * other.1))
    }
    fn exp(self) -> Complex {
        Complex(self.1.cos(), self.1.sin()).scaled(self.0.exp())
    }
}

/// One channel's space.
struct Channel {
    dt: Vec<f64>,
    a: Vec<Complex>,
    b: Vec<Complex>,
    c: Vec<Vec<Complex>>,
    p: Vec<Vec<Complex>>,
}

impl Channel {
    /// `Δ·A` of each number.
    fn scaled(&self, i: usize) -> Complex {
        self.a[i].scaled(self.dt[i])
    }

    /// `λ` and `B̄/B` of a hold of order zero: `e^(ΔA)`, `(e^(ΔA) - 1)/A`.
    fn hold(&self, i: usize) -> [Complex; 2] {
        let power = self.scaled(i);
        let (lambda, half) = (power.exp(), power.scaled(0.5));
        // (e^z - 1)/z is lost near 0: e^(z/2)·sinh(z/2)/(z/2) is not.
        let sinh = Complex(half.0.sinh() * half.1.cos(), half.0.cosh() * half.1.sin());
        let is_zero = half.0 == 0.0 && half.1 == 0.0;
        let ratio = if is_zero { Complex::ONE } else { half.exp().times(sinh).over(half) };
        [lambda, ratio.scaled(self.dt[i])]
    }

    /// `λ` and `B̄/B` of the bilinear transform: `(1 + ΔA/2)/(1 - ΔA/2)`, `Δ/(1 - ΔA/2)`.
    fn bilinear(&self, i: usize) -> [Complex; 2] {
        let half = self.scaled(i).scaled(0.5);
        let below = Complex::ONE.plus(half.scaled(-1.0));
        [Complex::ONE.plus(half).over(below), Complex::ONE.over(below).scaled(self.dt[i])]
    }

    fn powers(&self, discrete: fn(&Channel, usize) -> [Complex; 2], taps: usize) -> Vec<Vec<Complex>> {
        let spaces: Vec<[Complex; 2]> = (0..self.a.len()).map(|i| discrete(self, i)).collect();
        let mut rows = Vec::new();
        let mut last = Vec::new();
        for c in &self.c {
            let mut read: Vec<Complex> =
                spaces.iter().enumerate().map(|(i, space)| c[i].times(self.b[i]).times(space[1]).scaled(2.0)).collect();
            for _ in 0..taps {
                rows.push(read.iter().map(|x| x.conjugate()).collect());
                read.iter_mut().zip(&spaces).for_each(|(x, space)| *x = x.times(space[0]));
            }
        }
        last.extend(spaces.iter().map(|space| (0..taps).fold(Complex::ONE, |power, _| power.times(space[0]))));
        rows.push(last);
        rows
    }

    /// With `D = 1/(2 - ΔA)`, `L_r = ΔP_r` and `W = (I + P*·D·L)⁻¹`: `Ā = (4D - 1) - 4DL·W·P*D`, `B̄ = 2(D - DL·W·P*D)ΔB`.
    fn step(&self) -> Vec<Vec<Complex>> {
        let n = self.a.len();
        let below: Vec<Complex> = (0..n).map(|i| Complex(2.0, 0.0).plus(self.scaled(i).scaled(-1.0))).collect();
        let divided =
            |x: &[Complex]| -> Vec<Complex> { x.iter().zip(&below).map(|(x, below)| x.over(*below)).collect() };
        let by_dt = |x: &[Complex]| -> Vec<Complex> { x.iter().zip(&self.dt).map(|(x, dt)| x.scaled(*dt)).collect() };
        let left: Vec<Vec<Complex>> = self.p.iter().map(|p| divided(&by_dt(p))).collect();
        // Of a number and its conjugate, twice the real part is left.
        let meets = |p: &[Complex], x: &[Complex]| -> f64 {
            2.0 * p.iter().zip(x).map(|(p, x)| p.conjugate().times(*x).0).sum::<f64>()
        };
        let rank = self.p.len();
        let mut inner: Vec<f64> = (0..rank * rank).map(|i| meets(&self.p[i / rank], &left[i % rank])).collect();
        (0..rank).for_each(|i| inner[i * rank + i] += 1.0);
        let inverse = solve(inner, identity(rank), rank);
        let right: Vec<Vec<Complex>> =
            self.p.iter().map(|p| divided(&p.iter().map(|x| x.conjugate()).collect::<Vec<_>>())).collect();
        let sum = |terms: &mut dyn Iterator<Item = (f64, &Vec<Complex>)>| -> Vec<Complex> {
            let start = vec![Complex(0.0, 0.0); n];
            terms.fold(start, |sum, (w, x)| sum.iter().zip(x).map(|(sum, x)| sum.plus(x.scaled(w))).collect())
        };
        let v: Vec<Vec<Complex>> =
            (0..rank).map(|r| sum(&mut right.iter().enumerate().map(|(s, x)| (inverse[r * rank + s], x)))).collect();
        let input = by_dt(&self.b);
        let seen: Vec<f64> =
            v.iter().map(|v| 2.0 * v.iter().zip(&input).map(|(v, x)| v.times(*x).0).sum::<f64>()).collect();
        let direct = divided(&input);
        let taken = sum(&mut seen.iter().copied().zip(&left));
        let first = direct.iter().zip(&taken).map(|(x, y)| x.plus(y.scaled(-1.0)).scaled(2.0)).collect();
        // 4D - 2 without the difference of large numbers.
        let growth = (0..n).map(|i| self.scaled(i).scaled(2.0).over(below[i])).collect();
        let u = left.iter().map(|x| x.iter().map(|x| x.scaled(4.0)).collect());
        let v = v.iter().map(|v| v.iter().map(|x| Complex(2.0 * x.0, -2.0 * x.1)).collect());
        [growth, first].into_iter().chain(u).chain(v).collect()
    }

    fn readout(&self, length: usize) -> Vec<Vec<Complex>> {
        let n = self.a.len();
        let twice = |c: &[Complex]| -> Vec<Complex> { c.iter().map(|x| Complex(2.0 * x.0, -2.0 * x.1)).collect() };
        if length == 0 {
            return self.c.iter().map(|c| twice(c)).collect();
        }
        // Over real parts, then imaginary parts: Cᵀ = (I - Ā^length)⁻ᵀ·C̃ᵀ.
        let (m, count) = (2 * n, self.c.len());
        let mut matrix = power(self.transition(), length, m);
        matrix.iter_mut().for_each(|x| *x = -*x);
        (0..m).for_each(|i| matrix[i * m + i] += 1.0);
        let rows: Vec<Vec<Complex>> = self.c.iter().map(|c| twice(c)).collect();
        let part = |i: usize, k: usize| if i < n { rows[k][i].0 } else { rows[k][i - n].1 };
        let stored = (0..m * count).map(|i| part(i / count, i % count)).collect();
        let found = solve(transposed(&matrix, m), stored, m);
        (0..count)
            .map(|k| (0..n).map(|i| Complex(found[i * count + k], found[(i + n) * count + k])).collect())
            .collect()
    }

    /// `Ā` over real parts, then imaginary parts, `[2n, 2n]`.
    fn transition(&self) -> Vec<f64> {
        let n = self.a.len();
        let m = 2 * n;
        let part = |x: &[Complex], i: usize| if i < n { x[i].0 } else { x[i - n].1 };
        let mut scaled = vec![0.0; m * m];
        for i in 0..n {
            let a = self.scaled(i);
            scaled[i * m + i] = a.0;
            scaled[i * m + i + n] = -a.1;
            scaled[(i + n) * m + i] = a.1;
            scaled[(i + n) * m + i + n] = a.0;
        }
        for p in &self.p {
            for i in 0..m * m {
                scaled[i] -= 2.0 * self.dt[i / m % n] * part(p, i / m) * part(p, i % m);
            }
        }
        let of = |sign: f64| -> Vec<f64> {
            let two = |i: usize| if i / m == i % m { 2.0 } else { 0.0 };
            (0..m * m).map(|i| two(i) + sign * scaled[i]).collect()
        };
        solve(of(-1.0), of(1.0), m)
    }
}

fn identity(n: usize) -> Vec<f64> {
    (0..n * n).map(|i| if i / n == i % n { 1.0 } else { 0.0 }).collect()
}

fn transposed(x: &[f64], n: usize) -> Vec<f64> {
    (0..n * n).map(|i| x[i % n * n + i / n]).collect()
}

/// A square matrix to a power.
fn power(mut base: Vec<f64>, mut exponent: usize, n: usize) -> Vec<f64> {
    let product = |x: &[f64], y: &[f64]| -> Vec<f64> {
        let mut out = vec![0.0; n * n];
        for (row, x) in out.chunks_mut(n).zip(x.chunks(n)) {
            for (x, y) in x.iter().zip(y.chunks(n)) {
                row.iter_mut().zip(y).for_each(|(sum, y)| *sum += x * y);
            }
        }
        out
    };
    let mut result = identity(n);
    while exponent > 0 {
        if exponent % 2 == 1 {
            result = product(&result, &base);
        }
        base = product(&base, &base);
        exponent /= 2;
    }
    result
}

/// `X` with `A·X = B` for a square `A` and any number of columns, by elimination with pivots.
fn solve(mut a: Vec<f64>, mut b: Vec<f64>, n: usize) -> Vec<f64> {
    let columns = b.len().checked_div(n).unwrap_or(0);
    for i in 0..n {
        let largest = (i..n).max_by(|&x, &y| a[x * n + i].abs().total_cmp(&a[y * n + i].abs())).unwrap_or(i);
        (0..n).for_each(|j| a.swap(i * n + j, largest * n + j));
        (0..columns).for_each(|j| b.swap(i * columns + j, largest * columns + j));
        for row in (0..n).filter(|&row| row != i) {
            let factor = a[row * n + i] / a[i * n + i];
            (i..n).for_each(|j| a[row * n + j] -= factor * a[i * n + j]);
            (0..columns).for_each(|j| b[row * columns + j] -= factor * b[i * columns + j]);
        }
    }
    (0..n * columns).for_each(|i| b[i] /= a[i / columns * (n + 1)]);
    b
}
