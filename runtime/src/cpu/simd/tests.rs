//! Vector functions against scalar ones, for every instruction set of this machine.

use super::*;

/// Applies a function of vectors to an array.
struct Map<F> {
    input: [f32; MOST_LANES],
    function: F,
}

/// Which function a test maps.
enum Function {
    Exp,
    Exp2,
    Tanh,
}

impl Kernel for Map<Function> {
    type Output = [f32; MOST_LANES];

    #[inline(always)]
    fn call<S: Simd>(self, s: S) -> [f32; MOST_LANES] {
        let mut out = [0.0; MOST_LANES];
        // SAFETY: both arrays have a vector of elements.
        unsafe {
            let x = s.load(self.input.as_ptr());
            let y = match self.function {
                Function::Exp => exp(s, x),
                Function::Exp2 => exp2(s, x),
                Function::Tanh => tanh(s, x),
            };
            s.store(out.as_mut_ptr(), y);
        }
        out
    }
}

#[test]
fn exp_is_within_two_ulp() {
    for isa in Isa::available() {
        for i in -87_000..87_000 {
            let x = i as f32 / 1000.0;
            let y = isa.run(Map { input: [x; MOST_LANES], function: Function::Exp })[0];
            let exact = f64::from(x).exp();
            let ulp = f64::from(f32::from_bits((exact as f32).to_bits() + 1) - exact as f32);
            assert!((f64::from(y) - exact).abs() <= 2.0 * ulp, "{isa:?}: exp({x}) = {y}, not {exact}");
        }
        let ends = [f32::NEG_INFINITY, -1e30, -100.0, 0.0, -0.0, 1.0, 0.5, -87.4];
        let input = std::array::from_fn(|i| ends[i % ends.len()]);
        let ends = isa.run(Map { input, function: Function::Exp });
        assert_eq!(ends[..5], [0.0, 0.0, 0.0, 1.0, 1.0]);
    }
}

#[test]
fn exp2_is_within_three_ulp() {
    for isa in Isa::available() {
        let at = |x: f32| isa.run(Map { input: [x; MOST_LANES], function: Function::Exp2 })[0];
        for i in -126_000..=127_000 {
            let x = i as f32 / 1000.0;
            let exact = f64::from(x).exp2();
            let ulp = f64::from(f32::from_bits((exact as f32).to_bits() + 1) - exact as f32);
            assert!((f64::from(at(x)) - exact).abs() <= 3.0 * ulp, "{isa:?}: 2^{x} = {}, not {exact}", at(x));
        }
        let ends = [f32::NEG_INFINITY, -1e30, -127.0, -0.0, 1.0, -3.0].map(at);
        assert_eq!(ends, [0.0, 0.0, 0.0, 1.0, 2.0, 0.125]);
        assert!(at(f32::NAN).is_nan());
    }
}

#[test]
fn tanh_is_absolutely_close() {
    for isa in Isa::available() {
        for x in [-100.0_f32, -3.0, -0.5, -1e-3, 0.0, 1e-4, 0.7, 2.0, 50.0] {
            let y = isa.run(Map { input: [x; MOST_LANES], function: Function::Tanh })[0];
            assert!((y - x.tanh()).abs() < 3e-7, "{isa:?}: tanh({x}) = {y}");
        }
    }
}

/// Loads, dots and stores whose lane order matters.
struct Orders;

/// What they give; of vectors the first eight lanes, which every instruction set has.
#[derive(Debug, Default)]
struct Ordered {
    bytes: [i8; 8],
    signed: [f32; MOST_LANES],
    nibbles: [f32; MOST_LANES],
    sums: [f32; 4],
    sum: f32,
    largest: f32,
    lanes: usize,
}

impl Kernel for Orders {
    type Output = Ordered;

    #[inline(always)]
    fn call<S: Simd>(self, s: S) -> Ordered {
        let mut out = Ordered { lanes: S::LANES, ..Ordered::default() };
        let mut bytes = [0_i8; MOST_LANES];
        let w: [i8; 4 * MOST_LANES] = std::array::from_fn(|i| if i < 4 { -128 } else { i as i8 });
        let (x, factors) = ([-127_i8, 127, -1, 2], [1_i8, -2, 1, 1, -3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
        // SAFETY: every array has the length that its use reads or writes.
        unsafe {
            s.store_i8(bytes.as_mut_ptr(), s.add(s.iota(), s.splat(-127.0)));
            out.bytes.copy_from_slice(&bytes[..8]);
            let w = s.load_bytes(w.as_ptr().cast());
            let total = |pairs, factor| s.to_floats(s.add_pairs(s.int_splat(10), pairs, factor));
            let pairs = s.dot_signed(s.pairs(0), w, x.as_ptr());
            s.store(out.signed.as_mut_ptr(), total(pairs, None));
            let pairs = s.dot_unsigned(s.pairs(0), s.shift_bytes(w, 4, 15), x.as_ptr());
            s.store(out.nibbles.as_mut_ptr(), total(pairs, Some(s.load_factors(factors.as_ptr()))));
            let partial = s.load_first([1.0_f32, 2.0, 3.0].as_ptr(), 3);
            out.sums = s.sum4([s.iota(), s.splat(1.0), partial, s.splat(0.5)]);
            (out.sum, out.largest) = (s.sum(partial), s.largest(s.sub(s.splat(-1.0), s.iota())));
        }
        out
    }
}

#[test]
fn lanes_and_bytes_keep_their_order() {
    for isa in Isa::available() {
        let out = isa.run(Orders);
        assert_eq!(out.bytes, std::array::from_fn(|i| i as i8 - 127), "{isa:?}");
        assert_eq!(out.signed[0], 10.0 - 128.0);
        assert_eq!(out.signed[2], 10.0 - 127.0 * 8.0 + 127.0 * 9.0 - 10.0 + 22.0);
        assert_eq!((out.nibbles[0], out.nibbles[4]), (10.0 + 8.0, 10.0 - 3.0));
        let lanes = out.lanes as f32;
        assert_eq!(out.sums, [lanes * (lanes - 1.0) / 2.0, lanes, 6.0, lanes / 2.0]);
        assert_eq!((out.sum, out.largest), (6.0, -1.0));
    }
}

/// Sums that begin at a number.
struct Start;

impl Kernel for Start {
    type Output = f32;

    #[inline(always)]
    fn call<S: Simd>(self, s: S) -> f32 {
        let mut out = [0.0; MOST_LANES];
        let (w, x) = ([255_u8; 4 * MOST_LANES], [127_i8, 127, 127, -127]);
        // SAFETY: every array has the length that its use reads or writes.
        unsafe {
            let pairs = s.dot_unsigned(s.pairs(-7), s.load_bytes(w.as_ptr()), x.as_ptr());
            s.store(out.as_mut_ptr(), s.to_floats(s.add_pairs(s.int_splat(0), pairs, None)));
        }
        out[S::LANES - 1]
    }
}

#[test]
fn wide_sums_begin_anywhere_and_hold_everything() {
    for isa in Isa::available().filter(|isa| isa.tiles().wide) {
        assert_eq!(isa.run(Start), -7.0 + 255.0 * 254.0, "{isa:?}");
    }
}
