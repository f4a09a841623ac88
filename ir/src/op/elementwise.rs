//! Elementwise functions: one row each, since they differ in one expression.
//!
//! The value expression is instantiated for `f64` (the interpreter) and for `f32` (the portable CPU
//! path), so there is one definition.

use serde::{Deserialize, Serialize};

/// Declares an enum of scalar functions with text name and value in `f64` and `f32`.
macro_rules! elementwise {
    ($(#[$meta:meta])* $Enum:ident ($($arg:ident),+) {
        $($(#[$doc:meta])* $Variant:ident => $name:literal, $value:expr;)+
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $Enum { $($(#[$doc])* $Variant,)+ }

        impl $Enum {
            /// Every function, in declaration order.
            pub const ALL: &'static [$Enum] = &[$($Enum::$Variant,)+];

            /// Name in the text form.
            pub fn name(self) -> &'static str {
                match self { $($Enum::$Variant => $name,)+ }
            }

            /// Inverse of `name`.
            pub fn from_name(name: &str) -> Option<$Enum> {
                match name { $($name => Some($Enum::$Variant),)+ _ => None }
            }

            /// Value in double precision.
            #[allow(unused_imports)]
            pub fn f64(self, $($arg: f64),+) -> f64 {
                use double::*;
                match self { $($Enum::$Variant => $value,)+ }
            }

            /// Value in single precision.
            #[allow(unused_imports)]
            pub fn f32(self, $($arg: f32),+) -> f32 {
                use single::*;
                match self { $($Enum::$Variant => $value,)+ }
            }
        }
    };
}

elementwise! {
    /// Functions of one number.
    UnaryOp(x) {
        /// `-x`
        Neg => "neg", -x;
        /// `|x|`
        Abs => "abs", x.abs();
        /// `e^x`; a few ulp in generated code.
        Exp => "exp", x.exp();
        /// `ln x`, x > 0.
        Log => "log", x.ln();
        /// `ln(1 + x)`, x > -1.
        Log1p => "log1p", x.ln_1p();
        /// `√x`, x ≥ 0.
        Sqrt => "sqrt", x.sqrt();
        /// `1/√x`, x > 0; one division and one root, not the estimate instruction.
        Rsqrt => "rsqrt", 1.0 / x.sqrt();
        /// `1/x`
        Reciprocal => "reciprocal", 1.0 / x;
        /// Sine of radians, |x| up to about 10⁵ in generated code.
        Sin => "sin", x.sin();
        /// Cosine of radians, |x| up to about 10⁵ in generated code.
        Cos => "cos", x.cos();
        /// Hyperbolic tangent.
        Tanh => "tanh", x.tanh();
        /// Error function.
        Erf => "erf", erf(x);
        /// Largest integer ≤ x.
        Floor => "floor", x.floor();
        /// Nearest integer, ties to even.
        Round => "round", x.round_ties_even();
        /// -1, 0 or 1.
        Sign => "sign", if x > 0.0 { 1.0 } else if x < 0.0 { -1.0 } else { 0.0 };
        /// Logical negation of a `bool`.
        Not => "not", if x == 0.0 { 1.0 } else { 0.0 };
        /// `max(x, 0)`
        Relu => "relu", if x > 0.0 { x } else { 0.0 };
        /// `max(x, 0)²`
        Relu2 => "relu2", if x > 0.0 { x * x } else { 0.0 };
        /// `1 / (1 + e^-x)`
        Sigmoid => "sigmoid", 1.0 / (1.0 + (-x).exp());
        /// `x·σ(x)`
        Silu => "silu", x / (1.0 + (-x).exp());
        /// `x·Φ(x)`, with the error function.
        Gelu => "gelu", 0.5 * x * (1.0 + erf(x * FRAC_1_SQRT_2));
        /// `x·Φ(x)`, with the tanh approximation of arXiv:1606.08415.
        GeluTanh => "gelu_tanh", 0.5 * x * (1.0 + (SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)).tanh());
        /// `ln(1 + e^x)`, linear for large x.
        Softplus => "softplus", if x > 20.0 { x } else { x.exp().ln_1p() };
    }
}

elementwise! {
    /// Functions of two numbers. Comparisons and logic give a `bool`.
    BinaryOp(a, b) {
        /// `a + b`
        Add => "add", a + b;
        /// `a - b`
        Sub => "sub", a - b;
        /// `a · b`
        Mul => "mul", a * b;
        /// `a / b`
        Div => "div", a / b;
        /// `a^b`, a > 0 unless b is an integer.
        Pow => "pow", a.powf(b);
        /// The larger; the other one if one is NaN.
        Max => "max", a.max(b);
        /// The smaller; the other one if one is NaN.
        Min => "min", a.min(b);
        /// Remainder with the sign of `b` (`a - b·floor(a/b)`).
        Mod => "mod", a - b * (a / b).floor();
        /// `a = b`
        Eq => "eq", truth(a == b);
        /// `a ≠ b`
        Ne => "ne", truth(a != b);
        /// `a < b`
        Lt => "lt", truth(a < b);
        /// `a ≤ b`
        Le => "le", truth(a <= b);
        /// `a > b`
        Gt => "gt", truth(a > b);
        /// `a ≥ b`
        Ge => "ge", truth(a >= b);
        /// Both true.
        And => "and", truth(a != 0.0 && b != 0.0);
        /// One true.
        Or => "or", truth(a != 0.0 || b != 0.0);
    }
}

impl BinaryOp {
    /// Whether the result is a `bool` whatever the operands are.
    pub fn is_predicate(self) -> bool {
        use BinaryOp::*;
        matches!(self, Eq | Ne | Lt | Le | Gt | Ge | And | Or)
    }

    /// Whether the operands may be exchanged.
    pub fn is_commutative(self) -> bool {
        use BinaryOp::*;
        matches!(self, Add | Mul | Max | Min | Eq | Ne | And | Or)
    }
}

/// Constants and functions of the value expressions in double precision.
mod double {
    pub(super) use std::f64::consts::FRAC_1_SQRT_2;
    pub(super) const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;

    pub(super) fn truth(b: bool) -> f64 {
        f64::from(u8::from(b))
    }

    /// Error function by its Maclaurin series for |x| < 3 and a continued fraction beyond:
    /// slow, and accurate to about 1e-15 (Abramowitz and Stegun 7.1.6 and 7.1.14).
    pub(super) fn erf(x: f64) -> f64 {
        let a = x.abs();
        if a.is_nan() {
            return x;
        }
        let value = if a < 3.0 {
            let (mut term, mut sum, mut n) = (a, a, 0.0);
            while term > 1e-17 * sum {
                n += 1.0;
                term *= 2.0 * a * a / (2.0 * n + 1.0);
                sum += term;
            }
            sum * (-a * a).exp() * std::f64::consts::FRAC_2_SQRT_PI
        } else {
            let fraction = (1..=60).rev().fold(a, |f, k| a + f64::from(k) / 2.0 / f);
            1.0 - (-a * a).exp() / fraction / std::f64::consts::PI.sqrt()
        };
        value.copysign(x)
    }
}

/// Constants and functions of the value expressions in single precision.
mod single {
    pub(super) use std::f32::consts::FRAC_1_SQRT_2;
    pub(super) const SQRT_2_OVER_PI: f32 = 0.797_884_6;

    pub(super) fn truth(b: bool) -> f32 {
        f32::from(u8::from(b))
    }

    /// Error function through the double-precision one: the portable path prefers one definition
    /// to a faster second.
    pub(super) fn erf(x: f32) -> f32 {
        super::double::erf(f64::from(x)) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_agrees_with_tabulated_values() {
        // Abramowitz and Stegun, table 7.1.
        for (x, y) in [(0.5, 0.520_499_877_8), (1.0, 0.842_700_792_9), (2.0, 0.995_322_265_0), (3.5, 0.999_999_256_9)] {
            assert!((UnaryOp::Erf.f64(x) - y).abs() < 1e-10, "erf({x})");
            assert!((UnaryOp::Erf.f64(-x) + y).abs() < 1e-10, "erf(-{x})");
        }
    }

    #[test]
    fn names_are_unique_and_parse_back() {
        for &op in UnaryOp::ALL {
            assert_eq!(UnaryOp::from_name(op.name()), Some(op));
        }
        for &op in BinaryOp::ALL {
            assert_eq!(BinaryOp::from_name(op.name()), Some(op));
            assert_eq!(UnaryOp::from_name(op.name()), None);
        }
    }
}
