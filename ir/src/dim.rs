//! Symbolic dimensions: integer polynomials over named symbols, kept in a canonical form.
//!
//! Two dims are the same extent if and only if their canonical forms are equal, so comparing shapes
//! is comparing values. Every symbol stands for an integer of at least 1 (a batch, a length, a
//! capacity); what can be empty, such as the number of cached positions, is data and not a dim.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Add, Mul, Sub};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Extent of a tensor axis: `Σ coefficient · Π atoms`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Dim {
    /// Terms in ascending monomial order, no coefficient zero, no monomial twice.
    terms: Vec<(Monomial, i64)>,
}

/// A product of atoms in ascending order; empty for the constant term.
type Monomial = Vec<Atom>;

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
enum Atom {
    Symbol(Arc<str>),
    /// `floor(numerator / divisor)`, for a division that leaves a remainder or may leave one.
    Quotient(Box<Dim>, i64),
}

/// Why a dim has no value under a binding of its symbols.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DimError {
    /// A symbol has no binding.
    #[error("dimension symbol `{0}` is not bound")]
    Unbound(String),
    /// The value does not fit, or is negative.
    #[error("dimension `{0}` is negative or too large under this binding")]
    OutOfRange(String),
}

impl Dim {
    /// The constant extent `n`.
    pub fn constant(n: i64) -> Dim {
        Dim { terms: if n == 0 { vec![] } else { vec![(vec![], n)] } }
    }

    /// The symbol `name`.
    pub fn symbol(name: &str) -> Dim {
        Dim { terms: vec![(vec![Atom::Symbol(name.into())], 1)] }
    }

    /// Product of the extents of a shape; 1 for a scalar.
    pub fn product<'a>(shape: impl IntoIterator<Item = &'a Dim>) -> Dim {
        shape.into_iter().fold(Dim::constant(1), |a, d| a * d.clone())
    }

    /// The value, if no symbol occurs.
    pub fn as_constant(&self) -> Option<i64> {
        match self.terms.as_slice() {
            [] => Some(0),
            [(m, c)] if m.is_empty() => Some(*c),
            _ => None,
        }
    }

    /// `floor(self / divisor)`; exact where every coefficient is a multiple of the divisor.
    ///
    /// # Panics
    /// When `divisor` is not positive.
    pub fn div_floor(&self, divisor: i64) -> Dim {
        assert!(divisor > 0, "a dimension is divided by a positive integer");
        if let Some(exact) = self.div_exact(divisor) {
            return exact;
        }
        if let Some(n) = self.as_constant() {
            return Dim::constant(n.div_euclid(divisor));
        }
        Dim { terms: vec![(vec![Atom::Quotient(Box::new(self.clone()), divisor)], 1)] }
    }

    /// `ceil(self / divisor)`.
    pub fn div_ceil(&self, divisor: i64) -> Dim {
        (self.clone() + Dim::constant(divisor - 1)).div_floor(divisor)
    }

    fn div_exact(&self, divisor: i64) -> Option<Dim> {
        let divide = |(m, c): &(Monomial, i64)| (c % divisor == 0).then(|| (m.clone(), c / divisor));
        Some(Dim { terms: self.terms.iter().map(divide).collect::<Option<_>>()? })
    }

    /// The quotient when `divisor` divides `self` as a polynomial with a single-term divisor
    /// (`b·s·64 / (s·8) = b·8`), else `None`.
    pub fn divide(&self, divisor: &Dim) -> Option<Dim> {
        if self == divisor {
            return Some(Dim::constant(1));
        }
        let [(atoms, coefficient)] = divisor.terms.as_slice() else { return None };
        let mut terms = Vec::new();
        for (monomial, c) in &self.terms {
            let mut rest = monomial.clone();
            for atom in atoms {
                let at = rest.iter().position(|a| a == atom)?;
                rest.remove(at);
            }
            if c % coefficient != 0 {
                return None;
            }
            terms.push((rest, c / coefficient));
        }
        Some(Dim::from_terms(terms))
    }

    /// Whether `self >= other` for every binding with symbols of at least 1: `Some` when provable
    /// either way, `None` when it depends on the binding or cannot be decided.
    pub fn at_least(&self, other: &Dim) -> Option<bool> {
        let excess = (self.clone() - other.clone()).above_one();
        let symbolic = |(m, _): &&(Monomial, i64)| !m.is_empty();
        let least = excess.terms.iter().find(|(m, _)| m.is_empty()).map_or(0, |(_, c)| *c);
        if excess.terms.iter().filter(symbolic).all(|(_, c)| *c > 0) && least >= 0 {
            return Some(true);
        }
        if excess.terms.iter().filter(symbolic).all(|(_, c)| *c < 0) && least < 0 {
            return Some(false);
        }
        None
    }

    /// The same extent with each symbol written as one more than a number of at least 0, so that terms of
    /// positive coefficients are at least 0.
    fn above_one(&self) -> Dim {
        let factor = |atom: &Atom| {
            let own = Dim::from_terms(vec![(vec![atom.clone()], 1)]);
            if matches!(atom, Atom::Symbol(_)) { own + Dim::constant(1) } else { own }
        };
        let term = |(atoms, c): &(Monomial, i64)| atoms.iter().map(factor).fold(Dim::constant(*c), |a, b| a * b);
        self.terms.iter().map(term).fold(Dim::constant(0), |a, b| a + b)
    }

    /// Value under a binding of the symbols.
    ///
    /// # Errors
    /// An unbound symbol, overflow, or a negative result.
    pub fn evaluate(&self, binding: &dyn Fn(&str) -> Option<usize>) -> Result<usize, DimError> {
        let value = self.evaluate_signed(binding)?;
        usize::try_from(value).map_err(|_| DimError::OutOfRange(self.to_string()))
    }

    fn evaluate_signed(&self, binding: &dyn Fn(&str) -> Option<usize>) -> Result<i64, DimError> {
        let overflow = || DimError::OutOfRange(self.to_string());
        let mut sum = 0i64;
        for (monomial, coefficient) in &self.terms {
            let mut term = *coefficient;
            for atom in monomial {
                let factor = match atom {
                    Atom::Symbol(s) => {
                        let bound = binding(s).ok_or_else(|| DimError::Unbound(s.to_string()))?;
                        i64::try_from(bound).map_err(|_| overflow())?
                    }
                    Atom::Quotient(n, d) if *d > 0 => n.evaluate_signed(binding)?.div_euclid(*d),
                    Atom::Quotient(..) => return Err(overflow()),
                };
                term = term.checked_mul(factor).ok_or_else(overflow)?;
            }
            sum = sum.checked_add(term).ok_or_else(overflow)?;
        }
        Ok(sum)
    }

    /// The same extent with symbols replaced.
    pub fn substitute(&self, with: &dyn Fn(&str) -> Option<Dim>) -> Dim {
        let mut sum = Dim::constant(0);
        for (monomial, coefficient) in &self.terms {
            let mut term = Dim::constant(*coefficient);
            for atom in monomial {
                term = term
                    * match atom {
                        Atom::Symbol(s) => with(s).unwrap_or_else(|| Dim::symbol(s)),
                        Atom::Quotient(n, d) => n.substitute(with).div_floor(*d),
                    };
            }
            sum = sum + term;
        }
        sum
    }

    /// Names of the symbols that occur, each once, in order.
    pub fn symbols(&self) -> Vec<&str> {
        let mut names = Vec::new();
        self.collect_symbols(&mut names);
        names.sort_unstable();
        names.dedup();
        names
    }

    fn collect_symbols<'a>(&'a self, names: &mut Vec<&'a str>) {
        for atom in self.terms.iter().flat_map(|(m, _)| m) {
            match atom {
                Atom::Symbol(s) => names.push(s),
                Atom::Quotient(n, _) => n.collect_symbols(names),
            }
        }
    }

    fn from_terms(terms: impl IntoIterator<Item = (Monomial, i64)>) -> Dim {
        let mut sums: BTreeMap<Monomial, i64> = BTreeMap::new();
        for (mut monomial, c) in terms {
            monomial.sort();
            let sum = sums.entry(monomial).or_default();
            *sum = sum.saturating_add(c);
        }
        Dim { terms: sums.into_iter().filter(|(_, c)| *c != 0).collect() }
    }
}

impl Add for Dim {
    type Output = Dim;
    fn add(self, other: Dim) -> Dim {
        Dim::from_terms(self.terms.into_iter().chain(other.terms))
    }
}

impl Sub for Dim {
    type Output = Dim;
    fn sub(self, other: Dim) -> Dim {
        self + other * Dim::constant(-1)
    }
}

impl Mul for Dim {
    type Output = Dim;
    fn mul(self, other: Dim) -> Dim {
        let products = self.terms.iter().flat_map(|(m, c)| {
            other.terms.iter().map(move |(n, d)| ([m.as_slice(), n.as_slice()].concat(), c.saturating_mul(*d)))
        });
        Dim::from_terms(products)
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Dim {
        Dim::constant(i64::try_from(n).unwrap_or(i64::MAX))
    }
}

impl From<i64> for Dim {
    fn from(n: i64) -> Dim {
        Dim::constant(n)
    }
}

impl From<i32> for Dim {
    fn from(n: i32) -> Dim {
        Dim::constant(n.into())
    }
}

impl From<&str> for Dim {
    fn from(symbol: &str) -> Dim {
        Dim::symbol(symbol)
    }
}

impl From<&Dim> for Dim {
    fn from(dim: &Dim) -> Dim {
        dim.clone()
    }
}

impl Atom {
    fn text(&self, symbol: &dyn Fn(&str) -> String) -> String {
        match self {
            Atom::Symbol(s) => symbol(s),
            Atom::Quotient(n, d) => format!("(({})/{d})", n.text(symbol)),
        }
    }
}

impl Dim {
    /// The dim as an expression in which symbols are written as told: `2*s+1`.
    pub fn text(&self, symbol: &dyn Fn(&str) -> String) -> String {
        if self.terms.is_empty() {
            return "0".to_owned();
        }
        let mut text = String::new();
        // Symbolic terms first, the constant last.
        for (i, (monomial, c)) in self.terms.iter().rev().enumerate() {
            match (i, *c) {
                (_, c) if c < 0 => text.push('-'),
                (0, _) => {}
                _ => text.push('+'),
            }
            let coefficient = (c.unsigned_abs() != 1 || monomial.is_empty()).then(|| c.unsigned_abs().to_string());
            let factors = coefficient.into_iter().chain(monomial.iter().map(|atom| atom.text(symbol)));
            text.push_str(&factors.collect::<Vec<_>>().join("*"));
        }
        text
    }

    /// Whether the dim is a multiple of `divisor` for every binding, as far as its form tells.
    pub fn is_multiple_of(&self, divisor: i64) -> bool {
        self.terms.iter().all(|(_, c)| c % divisor == 0)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(&str::to_owned))
    }
}

impl fmt::Debug for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s() -> Dim {
        Dim::symbol("s")
    }

    #[test]
    fn equal_extents_have_one_form() {
        assert_eq!((s() + Dim::from(1)) * Dim::from(2), s() + s() + Dim::from(2));
        assert_eq!(s() * Dim::symbol("b"), Dim::symbol("b") * s());
        assert_eq!((s() * Dim::from(6)).div_floor(3), s() * Dim::from(2));
        assert_eq!((s() - s()).as_constant(), Some(0));
    }

    #[test]
    fn division_by_a_shape_factor() {
        let bs64 = Dim::symbol("b") * s() * Dim::from(64);
        assert_eq!(bs64.divide(&(s() * Dim::from(8))), Some(Dim::symbol("b") * Dim::from(8)));
        assert_eq!(bs64.divide(&Dim::symbol("t")), None);
    }

    #[test]
    fn order_is_decided_only_when_it_holds_for_every_binding() {
        assert_eq!((s() + Dim::from(1)).at_least(&s()), Some(true));
        assert_eq!(s().at_least(&Dim::from(1)), Some(true));
        assert_eq!(s().at_least(&Dim::from(2)), None);
        assert_eq!(s().at_least(&(s() + Dim::from(1))), Some(false));
        assert_eq!((s() * s()).at_least(&s()), Some(true));
        assert_eq!((s() * s()).at_least(&(s() + Dim::from(1))), None);
    }

    #[test]
    fn evaluation_checks_bindings_and_range() {
        let ceil = s().div_ceil(4);
        assert_eq!(ceil.evaluate(&|_| Some(9)), Ok(3));
        assert_eq!(ceil.evaluate(&|_| None), Err(DimError::Unbound("s".into())));
        assert!((s() * s()).evaluate(&|_| Some(usize::MAX / 2)).is_err());
        assert!((s() - Dim::from(5)).evaluate(&|_| Some(4)).is_err());
    }

    #[test]
    fn text_puts_symbols_first() {
        assert_eq!((Dim::from(1) + s() * Dim::from(2)).to_string(), "2*s+1");
        assert_eq!((s() - Dim::from(3)).to_string(), "s-3");
        assert_eq!(s().div_ceil(4).to_string(), "((s+3)/4)");
    }
}
