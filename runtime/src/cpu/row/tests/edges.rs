//! Special values: zeros, infinities, NaN, and the ends of ranges.

use super::*;

const SPECIAL: [f32; 16] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    2.5,
    -2.5,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    100.0,
    -100.0,
    1e-40,
    3e38,
    -3e38,
    89.0,
    -104.0,
];

/// Equal up to 4e-6, as NaN, or 0 for what is subnormal.
fn agrees(y: f32, exact: f64) -> bool {
    let expected = exact as f32;
    let close = (f64::from(y) - exact).abs() <= 4e-6 * exact.abs() + 1.3e-38;
    y == expected || close || y.is_nan() && expected.is_nan()
}

#[test]
fn unary_functions_of_special_values() {
    for isa in Isa::available() {
        for &op in UnaryOp::ALL {
            let mut w = Writer::default();
            let x = w.element();
            let y = w.unary(op, x);
            let ys = run(&w.store(&[y]), isa, &[SPECIAL.to_vec()], SPECIAL.len()).remove(0);
            for (x, y) in SPECIAL.into_iter().zip(ys) {
                let is_out_of_range = matches!(op, UnaryOp::Sin | UnaryOp::Cos) && x.is_finite() && x.abs() > 1e5;
                let exact = op.f64(x.into());
                assert!(
                    is_out_of_range || agrees(y, exact),
                    "{}({x:e}) is {y:e}, not {exact:e}, on {isa:?}",
                    op.name()
                );
            }
        }
    }
}

#[test]
fn binary_functions_of_special_values() {
    for isa in Isa::available() {
        for &op in BinaryOp::ALL {
            let mut w = Writer::default();
            let (a, b) = (w.element(), w.element());
            let y = w.binary(op, a, b);
            let program = w.store(&[y]);
            for b in SPECIAL {
                let n = SPECIAL.len();
                let ys = run(&program, isa, &[SPECIAL.to_vec(), vec![b; n]], n).remove(0);
                for (a, y) in SPECIAL.into_iter().zip(ys) {
                    let exact = op.f64(a.into(), b.into());
                    let in_domain = match op {
                        BinaryOp::Pow => a.is_finite() && b.is_finite() && a.abs() != 1.0,
                        BinaryOp::Mod => a.abs() < 1e6 && b.abs() < 1e6 && b.abs() > 1e-6,
                        _ => true,
                    };
                    let name = op.name();
                    assert!(!in_domain || agrees(y, exact), "{name}({a:e}, {b:e}) is {y:e}, not {exact:e}, on {isa:?}");
                }
            }
        }
    }
}

#[test]
fn powers_of_negative_numbers_have_the_sign_of_odd_exponents() {
    let a = vec![-2.0, -2.0, -2.0, -0.5, -3.0, -2.0, 0.0, 0.0, 0.0];
    let b = vec![5.0, 6.0, -3.0, 9.0, 0.0, 0.5, 2.5, -1.5, 0.0];
    for isa in Isa::available() {
        let mut w = Writer::default();
        let (x, y) = (w.element(), w.element());
        let z = w.binary(BinaryOp::Pow, x, y);
        let z = run(&w.store(&[z]), isa, &[a.clone(), b.clone()], a.len()).remove(0);
        for ((a, b), z) in a.iter().zip(&b).zip(z) {
            assert!(agrees(z, f64::from(*a).powf(f64::from(*b))), "{a}^{b} is {z} on {isa:?}");
        }
    }
}

#[test]
fn constant_exponents_need_no_logarithm() {
    for isa in Isa::available() {
        for exponent in [-4.0, -3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 2.5] {
            let mut w = Writer::default();
            let x = w.element();
            let e = w.constant(exponent);
            let y = w.binary(BinaryOp::Pow, x, e);
            let xs: Vec<f32> = (1..40).map(|i| i as f32 * 0.37).collect();
            let ys = run(&w.store(&[y]), isa, std::slice::from_ref(&xs), xs.len()).remove(0);
            for (x, y) in xs.into_iter().zip(ys) {
                assert!(agrees(y, f64::from(x).powf(exponent.into())), "{x}^{exponent} is {y} on {isa:?}");
            }
        }
    }
}

#[test]
fn reductions_skip_nan_and_have_identities() {
    for isa in Isa::available() {
        for (kind, empty, full) in [
            (RowReduce::Max, f32::NEG_INFINITY, 3.0),
            (RowReduce::Min, f32::INFINITY, -7.0),
            (RowReduce::Sum, 0.0, f32::NAN),
        ] {
            let mut w = Writer::default();
            let x = w.element();
            let y = w.reduce(kind, x);
            let program = w.store(&[y]);
            assert_eq!(run(&program, isa, &[vec![]], 0)[0], [empty]);
            let row = vec![1.0, f32::NAN, 3.0, -7.0, 2.0, 0.0, 1.0, 1.0, f32::NAN, 2.0];
            let y = run(&program, isa, std::slice::from_ref(&row), row.len())[0][0];
            assert!(y == full || y.is_nan() && full.is_nan(), "{kind:?} is {y} on {isa:?}");
        }
    }
}
