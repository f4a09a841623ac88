//! Gating: two linears of one input whose results are multiplied, one through an activation.

use super::Is::Vector;
use super::{Rule, rule};

/// Activations that gates are seen with.
const ACTIVATIONS: [&str; 6] = ["silu", "gelu", "gelu_tanh", "relu", "sigmoid", "tanh"];

pub(super) fn rules() -> Vec<Rule> {
    ACTIVATIONS.iter().flat_map(|f| gated(f)).collect()
}

fn gated(f: &str) -> [Rule; 2] {
    let name = format!("gated-{f}");
    [
        // f(x·Gᵀ) ⊙ (x·Uᵀ) = gated_mlp(x, G, U)
        rule(&name, &format!("(mul ({f} (linear ?x ?g)) (linear ?x ?u))"), &format!("(gated_{f} ?x ?g ?u)"), &[]),
        // f(x·Gᵀ + a) ⊙ (x·Uᵀ + b) = gated_mlp(x, G, U, a, b)
        rule(
            &format!("{name}-bias"),
            &format!("(mul ({f} (add (linear ?x ?g) ?a)) (add (linear ?x ?u) ?b))"),
            &format!("(gated_{f} ?x ?g ?u ?a ?b)"),
            &[("?a", Vector), ("?b", Vector)],
        ),
    ]
}
