//! Decoding with bounded nesting.
//!
//! Program data nests: a dim holds quotients of dims. Each level of nesting takes a frame of the
//! stack and only some bytes of the file, so a small file could exhaust the stack. This wrapper
//! around a deserializer counts the levels of compound data and gives an error instead.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, SeqAccess, VariantAccess, Visitor};

/// Something of serde's with a number of levels that may still be entered.
pub(super) struct Limited<T> {
    inner: T,
    levels: usize,
}

impl<T> Limited<T> {
    pub fn new(inner: T, levels: usize) -> Limited<T> {
        Limited { inner, levels }
    }

    /// Wraps what is one level deeper.
    fn enter<U, E: Error>(&self, inner: U) -> Result<Limited<U>, E> {
        let levels = self.levels.checked_sub(1).ok_or_else(|| E::custom("it is nested too deeply"))?;
        Ok(Limited { inner, levels })
    }
}

macro_rules! scalars {
    ($($name:ident)*) => {
        $(fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$name(visitor)
        })*
    };
}

macro_rules! compounds {
    ($($name:ident($($argument:ident: $ty:ty),*))*) => {
        $(fn $name<V: Visitor<'de>>(self, $($argument: $ty,)* visitor: V) -> Result<V::Value, D::Error> {
            let visitor = self.enter(visitor)?;
            self.inner.$name($($argument,)* visitor)
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Limited<D> {
    type Error = D::Error;
    scalars! {
        deserialize_any deserialize_bool deserialize_char deserialize_str deserialize_string
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64 deserialize_bytes deserialize_byte_buf deserialize_unit
        deserialize_identifier deserialize_ignored_any
    }
    compounds! {
        deserialize_option()
        deserialize_unit_struct(name: &'static str)
        deserialize_newtype_struct(name: &'static str)
        deserialize_seq()
        deserialize_tuple(len: usize)
        deserialize_tuple_struct(name: &'static str, len: usize)
        deserialize_map()
        deserialize_struct(name: &'static str, fields: &'static [&'static str])
        deserialize_enum(name: &'static str, variants: &'static [&'static str])
    }
    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// Program data consists of options, sequences and enums; a map would get the default error.
impl<'de, V: Visitor<'de>> Visitor<'de> for Limited<V> {
    type Value = V::Value;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }
    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }
    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }
    fn visit_some<D: Deserializer<'de>>(self, some: D) -> Result<V::Value, D::Error> {
        self.inner.visit_some(Limited::new(some, self.levels))
    }
    fn visit_newtype_struct<D: Deserializer<'de>>(self, field: D) -> Result<V::Value, D::Error> {
        self.inner.visit_newtype_struct(Limited::new(field, self.levels))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<V::Value, A::Error> {
        self.inner.visit_seq(Limited::new(elements, self.levels))
    }
    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        self.inner.visit_enum(Limited::new(variant, self.levels))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Limited<S> {
    type Value = S::Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(Limited::new(deserializer, self.levels))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Limited<A> {
    type Error = A::Error;
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.inner.next_element_seed(Limited::new(seed, self.levels))
    }
    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: EnumAccess<'de>> EnumAccess<'de> for Limited<A> {
    type Error = A::Error;
    type Variant = Limited<A::Variant>;
    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), A::Error> {
        let (value, variant) = self.inner.variant_seed(Limited::new(seed, self.levels))?;
        Ok((value, Limited::new(variant, self.levels)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Limited<A> {
    type Error = A::Error;
    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.newtype_variant_seed(Limited::new(seed, self.levels))
    }
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.inner.tuple_variant(len, Limited::new(visitor, self.levels))
    }
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.inner.struct_variant(fields, Limited::new(visitor, self.levels))
    }
}

#[cfg(test)]
mod tests {
    use castiron_ir::Dim;
    use serde::Deserialize;

    use super::*;
    use crate::program::Step;

    #[test]
    fn what_is_not_deep_decodes_and_what_is_deep_does_not() {
        let dim = (Dim::symbol("s") * 3.into() + 1.into()).div_floor(4);
        let bytes = postcard::to_stdvec(&dim).unwrap();
        let decode = |levels| Dim::deserialize(Limited::new(&mut postcard::Deserializer::from_bytes(&bytes), levels));
        assert_eq!(decode(128).unwrap(), dim);
        assert!(decode(3).is_err());
        // Repeats in repeats: variant 1, count 1, one step.
        let deep = [1, 1, 1].repeat(1 << 20);
        let error = Step::deserialize(Limited::new(&mut postcard::Deserializer::from_bytes(&deep), 128)).unwrap_err();
        assert!(!error.to_string().is_empty());
    }
}
