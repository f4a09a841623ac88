//! Functions in WGSL that shaders use: what the language lacks, or leaves too imprecise.

use castiron_ir::op::UnaryOp;

/// A function of the library. Those that others use come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Function {
    Infinity,
    NotANumber,
    Angle,
    Sine,
    Cosine,
    Tanh,
    Erf,
    Log1p,
    Sigmoid,
    Silu,
    Gelu,
    GeluTanh,
    Softplus,
    Power,
    Modulo,
    CheckedIndex,
}

impl Function {
    pub fn name(self) -> &'static str {
        match self {
            Function::Infinity => "infinity",
            Function::NotANumber => "not_a_number",
            Function::Angle => "quarter_turns",
            Function::Sine => "sine",
            Function::Cosine => "cosine",
            Function::Tanh => "tangent_hyperbolic",
            Function::Erf => "error_function",
            Function::Log1p => "log_one_plus",
            Function::Sigmoid => "sigmoid",
            Function::Silu => "silu",
            Function::Gelu => "gelu",
            Function::GeluTanh => "gelu_tanh",
            Function::Softplus => "softplus",
            Function::Power => "power",
            Function::Modulo => "modulo",
            Function::CheckedIndex => "checked_index",
        }
    }

    /// Functions that it calls.
    pub fn uses(self) -> &'static [Function] {
        match self {
            Function::Sine | Function::Cosine => &[Function::Angle],
            Function::Silu => &[Function::Sigmoid],
            Function::Gelu => &[Function::Erf],
            Function::GeluTanh => &[Function::Tanh],
            Function::Softplus => &[Function::Log1p],
            _ => &[],
        }
    }

    /// The function of an op that WGSL does not have as it should be.
    pub fn of(op: UnaryOp) -> Option<Function> {
        Some(match op {
            UnaryOp::Log1p => Function::Log1p,
            UnaryOp::Sin => Function::Sine,
            UnaryOp::Cos => Function::Cosine,
            UnaryOp::Tanh => Function::Tanh,
            UnaryOp::Erf => Function::Erf,
            UnaryOp::Sigmoid => Function::Sigmoid,
            UnaryOp::Silu => Function::Silu,
            UnaryOp::Gelu => Function::Gelu,
            UnaryOp::GeluTanh => Function::GeluTanh,
            UnaryOp::Softplus => Function::Softplus,
            _ => return None,
        })
    }

    /// Its text.
    pub fn text(self) -> &'static str {
        match self {
            // Constant expressions must not be infinite, variables may.
            Function::Infinity => {
                "fn infinity() -> f32 {
  var bits = 0x7f800000u;
  return bitcast<f32>(bits);
}
"
            }
            Function::NotANumber => {
                "fn not_a_number() -> f32 {
  var bits = 0x7fc00000u;
  return bitcast<f32>(bits);
}
"
            }
            // WGSL's sine is only good to 2⁻¹¹, and only within ±π. Three parts of π/2 take the turns
            // away (Cody and Waite).
            Function::Angle => {
                "// x - n·π/2 in -π/4 .. π/4, and n.
fn quarter_turns(x: f32) -> vec2<f32> {
  let n = round(x * 0.63661977);
  var r = fma(n, -1.5703125, x);
  r = fma(n, -4.8351288e-4, r);
  r = fma(n, -3.1385738e-7, r);
  r = fma(n, -6.0771006e-11, r);
  return vec2<f32>(r, n);
}
fn sine_or_cosine(r: f32, quarter: i32) -> f32 {
  let z = r * r;
  let s = fma(fma(fma(-1.9515296e-4, z, 8.3321609e-3), z, -1.6666655e-1) * z, r, r);
  let c = fma(fma(fma(2.4433157e-5, z, -1.3887316e-3), z, 4.1666646e-2) * z, z, fma(-0.5, z, 1.0));
  let value = select(s, c, (quarter & 1) == 1);
  return select(value, -value, (quarter & 2) == 2);
}
"
            }
            Function::Sine => {
                "fn sine(x: f32) -> f32 {
  let turns = quarter_turns(x);
  return sine_or_cosine(turns.x, i32(turns.y));
}
"
            }
            Function::Cosine => {
                "fn cosine(x: f32) -> f32 {
  let turns = quarter_turns(x);
  return sine_or_cosine(turns.x, i32(turns.y) + 1);
}
"
            }
            Function::Tanh => {
                "fn tangent_hyperbolic(x: f32) -> f32 {
  let e = exp(-2.0 * abs(x));
  let far = sign(x) * (1.0 - e) / (1.0 + e);
  let z = x * x;
  let near = fma(fma(fma(-5.3968254e-2, z, 1.3333334e-1), z, -3.3333334e-1) * z, x, x);
  return select(far, near, abs(x) < 0.1);
}
"
            }
            // Abramowitz and Stegun 7.1.26, to 1.5·10⁻⁷, and the series near 0.
            Function::Erf => {
                "fn error_function(x: f32) -> f32 {
  let a = abs(x);
  let t = 1.0 / fma(0.3275911, a, 1.0);
  let p = fma(fma(fma(fma(1.0614054, t, -1.4531520), t, 1.4214138), t, -0.28449672), t, 0.25482959) * t;
  let far = sign(x) * (1.0 - p * exp(-a * a));
  let z = x * x;
  let near = x * fma(fma(fma(-2.6866171e-2, z, 1.1283792e-1), z, -3.7612638e-1), z, 1.1283791);
  return select(far, near, a < 0.1);
}
"
            }
            Function::Log1p => {
                "fn log_one_plus(x: f32) -> f32 {
  let near = x * fma(fma(fma(-0.25, x, 3.3333334e-1), x, -0.5), x, 1.0);
  return select(log(1.0 + x), near, abs(x) < 0.01);
}
"
            }
            Function::Sigmoid => {
                "fn sigmoid(x: f32) -> f32 {
  return 1.0 / (1.0 + exp(min(-x, 87.0)));
}
"
            }
            Function::Silu => {
                "fn silu(x: f32) -> f32 {
  return x * sigmoid(x);
}
"
            }
            Function::Gelu => {
                "fn gelu(x: f32) -> f32 {
  return 0.5 * x * (1.0 + error_function(0.70710677 * x));
}
"
            }
            Function::GeluTanh => {
                "fn gelu_tanh(x: f32) -> f32 {
  return 0.5 * x * (1.0 + tangent_hyperbolic(0.7978846 * fma(0.044715 * x * x, x, x)));
}
"
            }
            Function::Softplus => {
                "fn softplus(x: f32) -> f32 {
  return select(log_one_plus(exp(min(x, 20.0))), x, x > 20.0);
}
"
            }
            // WGSL has powers of positive numbers only.
            Function::Power => {
                "fn power(a: f32, b: f32) -> f32 {
  let size = exp2(b * log2(abs(a)));
  let is_odd = fract(0.5 * b) != 0.0;
  let signed = select(size, -size, a < 0.0 && is_odd);
  return select(select(signed, 0.0, a == 0.0), 1.0, b == 0.0);
}
"
            }
            // Quotients are good to a few ulp only, so the floor may be one off.
            Function::Modulo => {
                "fn modulo(a: f32, b: f32) -> f32 {
  let r = fma(-floor(a / b), b, a);
  let low = select(r, r + b, r * b < 0.0);
  return select(low, low - b, abs(low) >= abs(b));
}
"
            }
            Function::CheckedIndex => {
                "// An index from memory; the first one that is out of range is reported, and 0 taken instead.
fn checked_index(index: i32, bound: u32, kernel: u32, operand: u32) -> u32 {
  if (index >= 0 && u32(index) < bound) { return u32(index); }
  if (atomicCompareExchangeWeak(&status[0], 0u, kernel + 1u).exchanged) {
    atomicStore(&status[1], operand);
    atomicStore(&status[2], bitcast<u32>(index));
    atomicStore(&status[3], bound);
  }
  return 0u;
}
"
            }
        }
    }
}
