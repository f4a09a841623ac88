//! Extents that remember the config keys they come from, so that a tensor of another shape can be
//! explained: `[64, 48] (intermediate_size × hidden_size)`.

use std::fmt;
use std::ops::{Add, Mul};

/// An extent and its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Size {
    value: usize,
    origin: String,
}

impl Size {
    /// An extent that the given config key, or another origin, sets.
    pub fn new(value: usize, origin: impl Into<String>) -> Size {
        Size { value, origin: origin.into() }
    }

    /// The extent.
    pub fn value(&self) -> usize {
        self.value
    }
}

impl Mul for &Size {
    type Output = Size;
    fn mul(self, other: &Size) -> Size {
        Size::new(self.value * other.value, format!("{self}·{other}"))
    }
}

impl Mul<usize> for &Size {
    type Output = Size;
    fn mul(self, factor: usize) -> Size {
        Size::new(self.value * factor, format!("{factor}·{self}"))
    }
}

impl Add for &Size {
    type Output = Size;
    fn add(self, other: &Size) -> Size {
        Size::new(self.value + other.value, format!("{self} + {other}"))
    }
}

/// Prints the origin.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)
    }
}
