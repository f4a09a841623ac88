//! Attributes of ops and their text: `key=value` after the operands, in declaration order.
//! An attribute with its type's default value (`None`, `false`, an empty list) is left out.

use crate::dim::Dim;
use crate::text::{Cursor, ParseError};
use crate::types::DType;

/// A type that an op's attribute can have.
pub trait AttributeValue: Sized + PartialEq {
    /// The value as text.
    fn print(&self) -> String;
    /// Reads a value.
    ///
    /// # Errors
    /// Text that is not such a value.
    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ParseError>;
    /// The value that is left out of the text, if any.
    fn omitted() -> Option<Self> {
        None
    }
}

/// Prints ` key=value` unless the value is the omitted one.
pub(crate) fn print_field<T: AttributeValue>(key: &str, value: &T, out: &mut String) {
    if T::omitted().as_ref() != Some(value) {
        out.push_str(&format!(" {key}={}", value.print()));
    }
}

/// Reads `key=value`, or gives the omitted value where the key does not follow.
pub(crate) fn parse_field<T: AttributeValue>(key: &str, cursor: &mut Cursor<'_>) -> Result<T, ParseError> {
    if cursor.eat_key(key) {
        return T::parse(cursor);
    }
    T::omitted().ok_or_else(|| cursor.error(format!("attribute `{key}=` is missing")))
}

/// Declares the attributes of an op: their text form follows from the fields and their types.
macro_rules! attributes {
    ($Op:ident { $($field:ident : $ty:ty),* $(,)? }) => {
        impl $crate::op::Syntax for $Op {
            fn print_attributes(&self, _out: &mut String) {
                $($crate::op::attributes::print_field(stringify!($field), &self.$field, _out);)*
            }
            fn parse_attributes(
                _name: &str,
                _cursor: &mut $crate::text::Cursor<'_>,
            ) -> Result<Self, $crate::text::ParseError> {
                Ok($Op { $($field: $crate::op::attributes::parse_field::<$ty>(stringify!($field), _cursor)?,)* })
            }
        }
    };
}
pub(crate) use attributes;

/// Declares an enum whose variants are written as names in the text form.
macro_rules! named_enum {
    ($(#[$meta:meta])* $Enum:ident { $($(#[$doc:meta])* $Variant:ident => $name:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        pub enum $Enum { $($(#[$doc])* $Variant,)+ }

        impl $crate::op::attributes::AttributeValue for $Enum {
            fn print(&self) -> String {
                match self { $($Enum::$Variant => $name,)+ }.to_owned()
            }
            fn parse(cursor: &mut $crate::text::Cursor<'_>) -> Result<Self, $crate::text::ParseError> {
                match cursor.identifier()? {
                    $($name => Ok($Enum::$Variant),)+
                    other => Err(cursor.error(format!(
                        "`{other}` is none of {}", [$($name),+].join(", ")
                    ))),
                }
            }
        }
    };
}
pub(crate) use named_enum;

impl AttributeValue for usize {
    fn print(&self) -> String {
        self.to_string()
    }
    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        cursor.integer()
    }
}

impl AttributeValue for f64 {
    fn print(&self) -> String {
        format!("{self:?}")
    }
    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        cursor.number()
    }
}

impl AttributeValue for bool {
    fn print(&self) -> String {
        self.to_string()
    }
    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        match cursor.identifier()? {
            "true" => Ok(true),
            "false" => Ok(false),
            other => Err(cursor.error(format!("`{other}` is neither true nor false"))),
        }
    }
    fn omitted() -> Option<Self> {
        Some(false)
    }
}

impl AttributeValue for Dim {
    fn print(&self) -> String {
        self.to_string()
    }
    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        cursor.dim()
    }
}

impl AttributeValue for DType {
    fn print(&self) -> String {
        self.name().to_owned()
    }
    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let name = cursor.identifier()?;
        DType::from_name(name).ok_or_else(|| cursor.error(format!("`{name}` is not an element type")))
    }
}

impl AttributeValue for String {
    fn print(&self) -> String {
        format!("{self:?}")
    }
    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        cursor.string()
    }
}

impl<T: AttributeValue> AttributeValue for Option<T> {
    fn print(&self) -> String {
        self.as_ref().map_or_else(|| "none".to_owned(), T::print)
    }
    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        T::parse(cursor).map(Some)
    }
    fn omitted() -> Option<Self> {
        Some(None)
    }
}

impl<T: AttributeValue> AttributeValue for Vec<T> {
    fn print(&self) -> String {
        format!("[{}]", self.iter().map(T::print).collect::<Vec<_>>().join(","))
    }
    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        cursor.list("[", "]", T::parse)
    }
    fn omitted() -> Option<Self> {
        Some(Vec::new())
    }
}

/// A pair, as in the axis pairs of a contraction: `(2,1)`.
impl<A: AttributeValue, B: AttributeValue> AttributeValue for (A, B) {
    fn print(&self) -> String {
        format!("({},{})", self.0.print(), self.1.print())
    }
    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        cursor.expect("(")?;
        let a = A::parse(cursor)?;
        cursor.expect(",")?;
        let b = B::parse(cursor)?;
        cursor.expect(")")?;
        Ok((a, b))
    }
}
