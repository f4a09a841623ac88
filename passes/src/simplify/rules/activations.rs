//! Activations that are spelt out become the function.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use super::Is::{Constant, Near};

const ROOT_2_OVER_PI: f64 = FRAC_2_SQRT_PI * FRAC_1_SQRT_2;

super::rules! {
    "sigmoid": "(reciprocal (add (exp (neg ?x)) 1))" => "(sigmoid ?x)";        // 1/(1 + e^-x) = σ(x)
    "sigmoid-tanh": "(mul (add (tanh (mul ?x 0.5)) 1) 0.5)" => "(sigmoid ?x)"; // ½·(1 + tanh ½x) = σ(x)
    "silu": "(mul ?x (sigmoid ?x))" => "(silu ?x)";                            // x·σ(x) = silu x
    "relu": "(max ?x 0)" => "(relu ?x)";                                       // max(x, 0) = relu x
    "log1p": "(log (add ?x 1))" => "(log1p ?x)";                               // ln(1 + x) = log1p x
    "softplus": "(log1p (exp ?x))" => "(softplus ?x)";                         // ln(1 + eˣ) = softplus x
    "gelu-half": "(mul ?x (add (mul (erf ?y) 0.5) 0.5))" => "(mul (mul ?x (add (erf ?y) 1)) 0.5)"; // x·(½ + ½·erf y) = ½·x·(1 + erf y)
    "gelu": "(mul (mul ?x (add (erf (mul ?x ?c)) 1)) 0.5)" => "(gelu ?x)" where "?c": Near(FRAC_1_SQRT_2); // ½·x·(1 + erf(x/√2)) = gelu x
    "cubic": "(mul ?x (add (mul (mul ?x ?x) ?c) 1))" => "(add ?x (mul (mul (mul ?x ?x) ?x) ?c))" where "?c": Constant; // x·(1 + c·x²) = x + c·x³
    "gelu-tanh": "(mul (mul ?x (add (tanh (mul (add ?x (mul (mul (mul ?x ?x) ?x) ?a)) ?k)) 1)) 0.5)" => "(gelu_tanh ?x)" where "?a": Near(0.044715), "?k": Near(ROOT_2_OVER_PI); // ½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))) = gelu_tanh x
}
