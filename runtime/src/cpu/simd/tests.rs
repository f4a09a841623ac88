//! Vector functions against scalar ones, for every instruction set of this machine.

use super::*;

/// Applies a function of vectors to an array.
struct Map<F> {
    input: [f32; LANES],
    function: F,
}

/// Which function a test maps.
enum Function {
    Exp,
    Exp2,
    Tanh,
}

impl Kernel for Map<Function> {
    type Output = [f32; LANES];

    #[inline(always)]
    fn call<S: Simd>(self, s: S) -> [f32; LANES] {
        let mut out = [0.0; LANES];
        // SAFETY: both arrays have eight elements.
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
            let y = isa.run(Map { input: [x; LANES], function: Function::Exp })[0];
            let exact = f64::from(x).exp();
            let ulp = f64::from(f32::from_bits((exact as f32).to_bits() + 1) - exact as f32);
            assert!((f64::from(y) - exact).abs() <= 2.0 * ulp, "{isa:?}: exp({x}) = {y}, not {exact}");
        }
        let ends = isa.run(Map {
            input: [f32::NEG_INFINITY, -1e30, -100.0, 0.0, -0.0, 1.0, 0.5, -87.4],
            function: Function::Exp,
        });
        assert_eq!(ends[..5], [0.0, 0.0, 0.0, 1.0, 1.0]);
    }
}

#[test]
fn exp2_is_within_three_ulp() {
    for isa in Isa::available() {
        let at = |x: f32| isa.run(Map { input: [x; LANES], function: Function::Exp2 })[0];
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
            let y = isa.run(Map { input: [x; LANES], function: Function::Tanh })[0];
            assert!((y - x.tanh()).abs() < 3e-7, "{isa:?}: tanh({x}) = {y}");
        }
    }
}

/// Loads, dots and stores whose lane order matters.
struct Orders;

impl Kernel for Orders {
    type Output = ([i8; 32], [f32; LANES], [f32; LANES], [f32; 4], f32, f32);

    #[inline(always)]
    fn call<S: Simd>(self, s: S) -> Self::Output {
        let (mut bytes, mut signed, mut nibbles) = ([0_i8; 32], [0.0; LANES], [0.0; LANES]);
        let w: [i8; 32] = std::array::from_fn(|i| if i < 4 { -128 } else { i as i8 });
        let x = [-127_i8, 127, -1, 2];
        // SAFETY: every array has the length that its use reads or writes.
        unsafe {
            let ramp: [S::Floats; 4] = std::array::from_fn(|i| s.add(s.iota(), s.splat(8.0 * i as f32 - 127.0)));
            s.store_i8(bytes.as_mut_ptr(), ramp);
            let w = s.load_bytes(w.as_ptr().cast());
            let total = |pairs, factor| s.to_floats(s.add_pairs(s.int_zero(), pairs, factor));
            let pairs = s.dot_signed(s.pairs_zero(), w, x.as_ptr());
            s.store(signed.as_mut_ptr(), total(pairs, s.pairs_one()));
            let pairs = s.dot_unsigned(s.pairs_zero(), s.shift_bytes(w, 4, 15), x.as_ptr());
            s.store(nibbles.as_mut_ptr(), total(pairs, s.load_factors([1_i8, -2, 1, 1, -3, 1, 1, 1].as_ptr())));
            let partial = s.load_first([1.0_f32, 2.0, 3.0].as_ptr(), 3);
            let sums = s.sum4([s.iota(), s.splat(1.0), partial, s.splat(0.5)]);
            (bytes, signed, nibbles, sums, s.sum(partial), s.largest(s.sub(s.splat(-1.0), s.iota())))
        }
    }
}

#[test]
fn lanes_and_bytes_keep_their_order() {
    for isa in Isa::available() {
        let (bytes, signed, nibbles, sums, sum, largest) = isa.run(Orders);
        assert_eq!(bytes, std::array::from_fn(|i| i as i8 - 127));
        assert_eq!(signed[0], -128.0);
        assert_eq!(signed[2], -127.0 * 8.0 + 127.0 * 9.0 - 10.0 + 22.0);
        assert_eq!((nibbles[0], nibbles[4]), (8.0, -3.0));
        assert_eq!(sums, [28.0, 8.0, 6.0, 4.0]);
        assert_eq!((sum, largest), (6.0, -1.0));
    }
}
