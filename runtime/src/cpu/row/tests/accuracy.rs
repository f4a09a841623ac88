//! Every scalar function over dense sweeps. The limits are those that the expansions' doc states.

use super::*;

/// Where a function is swept, and how far it may be off: ulp, or an absolute error that suffices.
struct Sweep {
    op: UnaryOp,
    /// Magnitudes.
    from: f32,
    to: f32,
    signs: &'static [f32],
    ulp: f64,
    absolute: fn(f64) -> f64,
}

const BOTH: &[f32] = &[1.0, -1.0];
const POSITIVE: &[f32] = &[1.0];

fn sweep(op: UnaryOp, from: f32, to: f32, signs: &'static [f32], ulp: f64) -> Sweep {
    Sweep { op, from, to, signs, ulp, absolute: |_| 1e-37 }
}

fn sweeps() -> Vec<Sweep> {
    use UnaryOp::*;
    let domain = |&op: &UnaryOp| match op {
        Neg | Abs | Sign | Not | Relu | Floor | Round => sweep(op, 1e-30, 1e30, BOTH, 0.0),
        Relu2 => sweep(op, 1e-18, 1e18, BOTH, 0.5),
        Sqrt => sweep(op, 1e-30, 1e30, POSITIVE, 0.5),
        Reciprocal => sweep(op, 1e-30, 1e30, BOTH, 0.5),
        Rsqrt => sweep(op, 1e-30, 1e30, POSITIVE, 1.5),
        Exp => sweep(op, 1e-10, 88.7, BOTH, 1.5),
        Log => sweep(op, 1e-44, 3e38, POSITIVE, 1.5),
        Log1p => Sweep { to: 0.999_999, signs: BOTH, ..sweep(op, 1e-30, 0.0, BOTH, 1.5) },
        Tanh => sweep(op, 1e-30, 20.0, BOTH, 5.0),
        Erf => sweep(op, 1e-30, 6.0, BOTH, 6.0),
        Sin | Cos => Sweep { absolute: |_| 1e-7, ..sweep(op, 1e-10, 1e5, BOTH, 3.0) },
        Sigmoid | Silu => sweep(op, 1e-10, 86.0, BOTH, 3.5),
        Gelu => Sweep { absolute: |x| 4e-7 * x.abs(), ..sweep(op, 1e-10, 20.0, BOTH, 5.0) },
        GeluTanh => Sweep { absolute: |x| 2e-7 * x.abs(), ..sweep(op, 1e-10, 20.0, BOTH, 5.0) },
        Softplus => sweep(op, 1e-10, 80.0, BOTH, 3.0),
    };
    let mut sweeps: Vec<Sweep> = UnaryOp::ALL.iter().map(domain).collect();
    sweeps.push(sweep(Log1p, 1e-3, 3e38, POSITIVE, 1.5));
    sweeps.push(sweep(Exp, 86.0, 86.9, &[-1.0], 1.5));
    sweeps
}

impl Sweep {
    /// Magnitudes in geometric and in even steps, both signs.
    fn points(&self) -> Vec<f32> {
        const STEPS: usize = 60_000;
        let ratio = (f64::from(self.to) / f64::from(self.from)).ln();
        let geometric = |i: usize| (f64::from(self.from) * (ratio * i as f64 / STEPS as f64).exp()) as f32;
        let even = |i: usize| (f64::from(self.to) * i as f64 / STEPS as f64) as f32;
        let magnitudes = (0..=STEPS).flat_map(|i| [geometric(i), even(i)]).filter(|&x| x <= self.to && x >= self.from);
        magnitudes.flat_map(|x| self.signs.iter().map(move |sign| sign * x)).collect()
    }
}

fn spacing(x: f64) -> f64 {
    let x = (x.abs() as f32).max(f32::MIN_POSITIVE);
    f64::from(f32::from_bits(x.to_bits() + 1)) - f64::from(x)
}

#[test]
fn unary_functions_keep_their_error() {
    for isa in Isa::available() {
        for sweep in sweeps() {
            let mut w = Writer::default();
            let x = w.element();
            let y = w.unary(sweep.op, x);
            let xs = sweep.points();
            let ys = run(&w.store(&[y]), isa, std::slice::from_ref(&xs), xs.len()).remove(0);
            let (mut worst_ulp, mut worst_absolute, mut at) = (0.0_f64, 0.0_f64, 0.0);
            for (&x, &y) in xs.iter().zip(&ys) {
                let exact = sweep.op.f64(x.into());
                let error = (f64::from(y) - exact).abs();
                worst_absolute = worst_absolute.max(error);
                let ulp = error / spacing(exact);
                if error > (sweep.absolute)(x.into()) && ulp > worst_ulp {
                    (worst_ulp, at) = (ulp, x);
                }
                assert!(!error.is_nan(), "{} of {x:e} is {y:e} on {isa:?}", sweep.op.name());
            }
            println!("{isa:?} {}: {worst_ulp:.2} ulp at {at:e}, absolute {worst_absolute:.2e}", sweep.op.name());
            // The portable path uses the platform's functions and formulas as they stand.
            let limit = if isa == Isa::Portable { sweep.ulp.max(40.0) } else { sweep.ulp };
            assert!(worst_ulp <= limit + 1e-6, "{} is {worst_ulp} ulp off at {at:e} on {isa:?}", sweep.op.name());
        }
    }
}

#[test]
fn binary_functions_keep_their_error() {
    let n = 40_000;
    let a: Vec<f32> = noise(1, n).into_iter().map(|x| x * 40.0).collect();
    let b: Vec<f32> = noise(2, n).into_iter().map(|x| (x * 9.0).exp()).collect();
    for isa in Isa::available() {
        for &op in BinaryOp::ALL {
            let mut w = Writer::default();
            let (x, y) = (w.element(), w.element());
            let z = w.binary(op, x, y);
            let (xs, ys) = match op {
                BinaryOp::Pow => (&b, &a),
                _ => (&a, &b),
            };
            let zs = run(&w.store(&[z]), isa, &[xs.clone(), ys.clone()], n).remove(0);
            for ((&x, &y), &z) in xs.iter().zip(ys).zip(&zs) {
                let exact = op.f64(x.into(), y.into());
                let ulp = (f64::from(z) - exact).abs() / spacing(exact);
                let is_extreme = exact > 3e38 || exact.abs() < 1.7e-38;
                let limit = match op {
                    BinaryOp::Pow if is_extreme => continue,
                    BinaryOp::Pow => 6.0,
                    // The quotient is rounded: off by one step, or by its error times b.
                    BinaryOp::Mod => {
                        let step = (f64::from(z) - exact).abs().min((f64::from(z - y) - exact).abs());
                        assert!(
                            step.min((f64::from(z + y) - exact).abs()) < 1e-5 * (1.0 + y.abs() as f64),
                            "{x} mod {y}"
                        );
                        continue;
                    }
                    _ => 0.5,
                };
                assert!(ulp <= limit, "{}({x:e}, {y:e}) is {z:e}, not {exact:e}: {ulp} ulp, {isa:?}", op.name());
            }
        }
    }
}
