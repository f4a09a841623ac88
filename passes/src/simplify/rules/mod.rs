//! Rewrite rules, by topic; one line each, with the equation.

mod activations;
mod algebra;
mod gating;

use egg::{Id, Pattern, Rewrite, Subst, Var};

use super::language::{EGraph, Expr, Shapes};

/// A rule of the e-graph.
pub type Rule = Rewrite<Expr, Shapes>;

/// What a variable has to be for a rule to apply.
#[derive(Clone, Copy, Debug)]
enum Is {
    /// A scalar constant.
    Constant,
    /// The scalar constant of this value, rounded anyhow.
    Near(f64),
    /// Of one axis, as a bias is.
    Vector,
}

/// All rules.
pub fn all() -> Vec<Rule> {
    [algebra::rules(), activations::rules(), gating::rules()].concat()
}

/// Rules as a table: `name: left => right where variable: what it has to be; // equation`
macro_rules! rules {
    ($($name:literal: $left:literal => $right:literal $(where $($var:literal: $is:expr),+)?;)+) => {
        pub(super) fn rules() -> Vec<super::Rule> {
            vec![$(super::rule($name, $left, $right, &[$($(($var, $is)),+)?])),+]
        }
    };
}
use rules;

/// `left = right`, applied from left to right where the variables are what they have to be.
fn rule(name: &str, left: &str, right: &str, conditions: &[(&str, Is)]) -> Rule {
    let valid = "a rule's patterns are literals of the language";
    let left: Pattern<Expr> = left.parse().expect(valid);
    let right: Pattern<Expr> = right.parse().expect(valid);
    let conditions: Vec<(Var, Is)> = conditions.iter().map(|(v, is)| (v.parse().expect(valid), *is)).collect();
    let holds = move |egraph: &mut EGraph, _: Id, subst: &Subst| {
        conditions.iter().all(|(var, is)| is.holds(egraph, subst[*var]))
    };
    Rewrite::new(name, left, egg::ConditionalApplier { condition: holds, applier: right }).expect(valid)
}

impl Is {
    fn holds(self, egraph: &EGraph, id: Id) -> bool {
        let facts = &egraph[id].data;
        match self {
            Is::Constant => facts.constant.is_some(),
            Is::Near(value) => facts.constant.is_some_and(|c| (c - value).abs() <= 1e-6 * value.abs()),
            Is::Vector => facts.shape.len() == 1,
        }
    }
}
