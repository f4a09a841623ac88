//! Metadata of a GGUF file: typed values by key.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::GgufError;
use super::cursor::Cursor;

/// Longest key and longest single text; arrays may be longer.
const KEY_BYTES: u64 = 1 << 16;
const TEXT_BYTES: u64 = 1 << 24;
const DEFAULT_ALIGNMENT: u64 = 32;

/// Element types, by their numbers in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Text,
    Array,
    U64,
    I64,
    F64,
}

impl Kind {
    const ALL: [Kind; 13] = [
        Kind::U8,
        Kind::I8,
        Kind::U16,
        Kind::I16,
        Kind::U32,
        Kind::I32,
        Kind::F32,
        Kind::Bool,
        Kind::Text,
        Kind::Array,
        Kind::U64,
        Kind::I64,
        Kind::F64,
    ];

    fn parse(cursor: &mut Cursor<'_>, key: &str) -> Result<Kind, GgufError> {
        let number = cursor.u32()?;
        let kind = usize::try_from(number).ok().and_then(|number| Kind::ALL.get(number));
        kind.copied().ok_or_else(|| GgufError::key(key, format!("has the unknown value type {number}")))
    }

    /// Bytes of a value; nothing where that depends on the value.
    fn size(self) -> Option<u64> {
        match self {
            Kind::U8 | Kind::I8 | Kind::Bool => Some(1),
            Kind::U16 | Kind::I16 => Some(2),
            Kind::U32 | Kind::I32 | Kind::F32 => Some(4),
            Kind::U64 | Kind::I64 | Kind::F64 => Some(8),
            Kind::Text | Kind::Array => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Integer(i128),
    /// An f32 is the number that its shortest decimal names: 1e-5 is meant, not 0.00000999999974….
    Number(f64),
    Bool(bool),
    Text(String),
    Array(Array),
}

/// An array, left where it is until it is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Array {
    kind: Kind,
    count: u64,
    start: usize,
}

impl Value {
    fn parse(cursor: &mut Cursor<'_>, kind: Kind, key: &str) -> Result<Value, GgufError> {
        Ok(match kind {
            Kind::U8 => Value::Integer(cursor.u8()?.into()),
            Kind::I8 => Value::Integer((cursor.u8()? as i8).into()),
            Kind::U16 => Value::Integer(cursor.u16()?.into()),
            Kind::I16 => Value::Integer((cursor.u16()? as i16).into()),
            Kind::U32 => Value::Integer(cursor.u32()?.into()),
            Kind::I32 => Value::Integer((cursor.u32()? as i32).into()),
            Kind::U64 => Value::Integer(cursor.u64()?.into()),
            Kind::I64 => Value::Integer((cursor.u64()? as i64).into()),
            Kind::F32 => Value::Number(decimal(f32::from_bits(cursor.u32()?))),
            Kind::F64 => Value::Number(f64::from_bits(cursor.u64()?)),
            Kind::Bool => match cursor.u8()? {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                other => return Err(GgufError::key(key, format!("is the truth value {other}"))),
            },
            Kind::Text => Value::Text(bounded_text(cursor, TEXT_BYTES)?.to_owned()),
            Kind::Array => Value::Array(Array::parse(cursor, key)?),
        })
    }
}

impl Array {
    fn parse(cursor: &mut Cursor<'_>, key: &str) -> Result<Array, GgufError> {
        let kind = Kind::parse(cursor, key)?;
        let count = cursor.u64()?;
        let start = cursor.at;
        match (kind, kind.size()) {
            (_, Some(size)) => {
                let bytes = count.checked_mul(size).ok_or_else(|| GgufError::key(key, "has too many elements"))?;
                cursor.take(bytes)?;
            }
            (Kind::Text, _) => (0..count).try_for_each(|_| cursor.skip_text())?,
            _ => return Err(GgufError::key(key, "is an array of arrays, which is not supported")),
        }
        Ok(Array { kind, count, start })
    }
}

/// The number that the shortest decimal of an f32 names.
fn decimal(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::from(x))
}

fn bounded_text<'a>(cursor: &mut Cursor<'a>, most: u64) -> Result<&'a str, GgufError> {
    let text = cursor.text()?;
    let too_long = GgufError::Text { offset: cursor.at - text.len() };
    if text.len() as u64 > most { Err(too_long) } else { Ok(text) }
}

/// Values by key.
#[derive(Debug)]
pub(super) struct Metadata(BTreeMap<String, Value>);

impl Metadata {
    pub(super) fn parse(cursor: &mut Cursor<'_>, count: u64) -> Result<Metadata, GgufError> {
        let mut values = BTreeMap::new();
        for _ in 0..count {
            let key = bounded_text(cursor, KEY_BYTES)?.to_owned();
            let kind = Kind::parse(cursor, &key)?;
            let value = Value::parse(cursor, kind, &key)?;
            if values.contains_key(&key) {
                return Err(GgufError::key(&key, "occurs twice"));
            }
            values.insert(key, value);
        }
        Ok(Metadata(values))
    }

    /// Bytes to whose multiples tensor data is aligned.
    pub(super) fn alignment(&self) -> Result<u64, GgufError> {
        let key = "general.alignment";
        match self.0.get(key) {
            None => Ok(DEFAULT_ALIGNMENT),
            Some(&Value::Integer(n)) if (1..=1 << 20).contains(&n) && n & (n - 1) == 0 => Ok(n as u64),
            Some(_) => Err(GgufError::key(key, "is not a power of two of at most 2^20")),
        }
    }
}

/// A view of metadata that knows which keys were read.
pub(super) struct Keys<'a> {
    metadata: &'a Metadata,
    bytes: &'a [u8],
    read: RefCell<BTreeSet<String>>,
}

impl<'a> Keys<'a> {
    pub(super) fn new(metadata: &'a Metadata, bytes: &'a [u8]) -> Keys<'a> {
        Keys { metadata, bytes, read: RefCell::default() }
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.read.borrow_mut().insert(key.to_owned());
        self.metadata.0.get(key)
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        convert(value).map(Some).ok_or_else(|| GgufError::key(key, format!("is not {expected}")))
    }

    /// A number that counts something, below 2³¹. Models with one entry for each layer are read where
    /// all are equal.
    pub(super) fn size(&self, key: &str) -> Result<Option<usize>, GgufError> {
        if let Some(Value::Array(_)) = self.get(key) {
            let all = self.integers(key)?.unwrap_or_default();
            let first = all.first().copied().filter(|first| all.iter().all(|n| n == first));
            let first = first.and_then(|n| as_size(n.into()));
            return first
                .map(Some)
                .ok_or_else(|| GgufError::key(key, "differs from layer to layer, which is not supported"));
        }
        self.typed(key, "an integer from 0 to 2^31 - 1", |value| match *value {
            Value::Integer(n) => as_size(n),
            _ => None,
        })
    }

    pub(super) fn required_size(&self, key: &str) -> Result<usize, GgufError> {
        match self.size(key)? {
            Some(0) => Err(GgufError::key(key, "is zero")),
            Some(size) => Ok(size),
            None => Err(GgufError::key(key, "is missing")),
        }
    }

    /// A token's number.
    pub(super) fn token(&self, key: &str) -> Result<Option<u32>, GgufError> {
        // Writers put -1 or 2^32 - 1 where a model has no such token.
        let absent = matches!(self.get(key), Some(Value::Integer(-1 | 0xffff_ffff)));
        if absent { Ok(None) } else { Ok(self.size(key)?.map(|id| id as u32)) }
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, GgufError> {
        self.typed(key, "a finite number", |value| match *value {
            Value::Number(x) => Some(x).filter(|x| x.is_finite()),
            Value::Integer(n) => Some(n as f64),
            _ => None,
        })
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.typed(key, "true or false", |value| match *value {
            Value::Bool(flag) => Some(flag),
            _ => None,
        })
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, GgufError> {
        self.typed(key, "a text", |value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    pub(super) fn required_text(&self, key: &str) -> Result<&'a str, GgufError> {
        self.text(key)?.ok_or_else(|| GgufError::key(key, "is missing"))
    }

    fn array(&self, key: &str, expected: &str, kinds: &[Kind]) -> Result<Option<Array>, GgufError> {
        self.typed(key, expected, |value| match value {
            Value::Array(array) if kinds.contains(&array.kind) => Some(*array),
            _ => None,
        })
    }

    /// An array of texts, lent by the file.
    pub(super) fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>, GgufError> {
        let Some(array) = self.array(key, "an array of texts", &[Kind::Text])? else { return Ok(None) };
        let mut cursor = Cursor::new(self.bytes, array.start);
        (0..array.count).map(|_| cursor.text()).collect::<Result<_, _>>().map(Some)
    }

    /// An array of integers of 32 bits.
    pub(super) fn integers(&self, key: &str) -> Result<Option<Vec<i64>>, GgufError> {
        let kinds = [Kind::I32, Kind::U32];
        let Some(array) = self.array(key, "an array of 32-bit integers", &kinds)? else { return Ok(None) };
        let mut cursor = Cursor::new(self.bytes, array.start);
        let mut next = || cursor.u32().map(|n| if array.kind == Kind::U32 { n.into() } else { (n as i32).into() });
        (0..array.count).map(|_| next()).collect::<Result<_, _>>().map(Some)
    }

    /// An array of f32.
    pub(super) fn numbers(&self, key: &str) -> Result<Option<Vec<f32>>, GgufError> {
        let Some(array) = self.array(key, "an array of f32", &[Kind::F32])? else { return Ok(None) };
        let mut cursor = Cursor::new(self.bytes, array.start);
        (0..array.count).map(|_| cursor.u32().map(f32::from_bits)).collect::<Result<_, _>>().map(Some)
    }

    /// Ends the reading of an architecture's keys: one that nobody has read is an error.
    pub(super) fn finish(&self, prefix: &str) -> Result<(), GgufError> {
        let read = self.read.borrow();
        let keys = self.metadata.0.keys().filter(|key| key.starts_with(prefix) && !read.contains(*key));
        let unread: Vec<String> = keys.cloned().collect();
        if unread.is_empty() { Ok(()) } else { Err(GgufError::Unread(unread)) }
    }
}

fn as_size(n: i128) -> Option<usize> {
    usize::try_from(n).ok().filter(|&n| n < 1 << 31)
}
