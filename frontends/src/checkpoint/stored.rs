//! Tensors of a checkpoint: where their bytes lie, and what makes of them the values that transformers
//! would hold. Nothing is read before the bytes of a tensor are asked for, and then no more than it
//! consists of.

use std::borrow::Cow;
use std::ops::Range;

use castiron_ir::{DType, Storage, StoredTensor};
use memmap2::Mmap;

use super::number::Number;
use super::quantised::Quantised;

/// A run of bytes of a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Span {
    /// Number of the file.
    pub(super) file: usize,
    pub(super) bytes: Range<usize>,
}

impl Span {
    pub(super) fn read<'a>(&self, files: &'a [Mmap]) -> &'a [u8] {
        &files[self.file][self.bytes.clone()]
    }

    /// Part `part` of `parts` equal ones.
    pub(super) fn part(&self, part: usize, parts: usize) -> Span {
        let length = self.bytes.len() / parts;
        let start = self.bytes.start + part * length;
        Span { file: self.file, bytes: start..start + length }
    }
}

/// A tensor under its transformers name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    pub(super) shape: Vec<usize>,
    /// How the bytes that [`Stored::read`] gives hold the elements.
    pub(super) storage: Storage,
    pub(super) recipe: Recipe,
}

/// What becomes of bytes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Recipe {
    /// There are none: only the config is known.
    Absent,
    /// They are the tensor.
    Plain(Span),
    /// They are elements in another order or of another type.
    Elements(Elements),
    /// They are whole rows in another order, or of several tensors.
    Rows(Rows),
    /// The last two axes change places.
    Transposed(Box<Stored>),
    /// A function of each element.
    Mapped(Box<Stored>, Map),
    /// Integers and their scales are tensors of their own.
    Quantised(Box<Quantised>),
}

/// A function of an element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Map {
    /// `x + a`
    Plus(f32),
    /// `ln(-x)`
    LogOfNegative,
}

impl Map {
    fn apply(self, x: f32) -> f32 {
        match self {
            Map::Plus(a) => x + a,
            Map::LogOfNegative => (-x).ln(),
        }
    }
}

/// Elements of a PyTorch storage, or of a type that the IR has not.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Elements {
    pub(super) span: Span,
    pub(super) number: Number,
    /// Elements from one index to the next of each axis; none if the last axis is fastest.
    pub(super) strides: Option<Vec<usize>>,
}

/// Rows of one or several tensors. All are cut into `outer` equal chunks; the chunks of one number follow one
/// another, and within them `parts` of `groups` × so many rows become `groups` of all parts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rows {
    pub(super) spans: Vec<Span>,
    pub(super) outer: usize,
    pub(super) groups: usize,
    pub(super) parts: Vec<usize>,
}

impl Stored {
    pub(super) fn plain(span: Span, storage: Storage, shape: Vec<usize>) -> Stored {
        Stored { shape, storage, recipe: Recipe::Plain(span) }
    }

    /// Elements one after the other.
    pub(super) fn dense(span: Span, number: Number, shape: Vec<usize>) -> Stored {
        Stored::strided(span, number, shape, None)
    }

    /// Elements of a storage, whose strides are none if the last axis is fastest.
    pub(super) fn strided(span: Span, number: Number, shape: Vec<usize>, strides: Option<Vec<usize>>) -> Stored {
        let storage = Storage::Dense(number.dtype());
        if strides.is_none() && number.is_native() {
            return Stored::plain(span, storage, shape);
        }
        Stored { shape, storage, recipe: Recipe::Elements(Elements { span, number, strides }) }
    }

    /// The tensor with its last two axes exchanged.
    pub(super) fn transposed(self) -> Stored {
        let mut shape = self.shape.clone();
        let axes = shape.len();
        shape.swap(axes - 2, axes - 1);
        Stored { shape, storage: Storage::Dense(DType::F32), recipe: Recipe::Transposed(Box::new(self)) }
    }

    /// The tensor with a function of each element in its place.
    pub(super) fn mapped(self, map: Map) -> Stored {
        let storage = Storage::Dense(DType::F32);
        Stored { shape: self.shape.clone(), storage, recipe: Recipe::Mapped(Box::new(self), map) }
    }

    /// The elements' bytes; lent by the file where they lie there as they are wanted.
    pub(super) fn read<'a>(&self, files: &'a [Mmap]) -> Cow<'a, [u8]> {
        match &self.recipe {
            Recipe::Absent => Cow::Borrowed(&[]),
            Recipe::Plain(span) => Cow::Borrowed(span.read(files)),
            Recipe::Elements(elements) => Cow::Owned(elements.read(&self.shape, files)),
            Recipe::Rows(rows) => Cow::Owned(rows.read(files)),
            Recipe::Transposed(source) => Cow::Owned(transpose(&source.values(files), &source.shape)),
            Recipe::Mapped(source, map) => {
                Cow::Owned(source.values(files).iter().flat_map(|&x| map.apply(x).to_le_bytes()).collect())
            }
            Recipe::Quantised(quantised) => Cow::Owned(quantised.read(&self.shape, files)),
        }
    }

    /// All elements as f32.
    pub(super) fn values(&self, files: &[Mmap]) -> Vec<f32> {
        let mut values = vec![0.0; self.shape.iter().product()];
        let tensor = StoredTensor { shape: self.shape.clone(), storage: self.storage, bytes: self.read(files) };
        tensor.read(0, &mut values);
        values
    }

    /// The files' bytes that the tensor is made of.
    pub(super) fn spans(&self) -> Vec<Span> {
        match &self.recipe {
            Recipe::Absent => Vec::new(),
            Recipe::Plain(span) | Recipe::Elements(Elements { span, .. }) => vec![span.clone()],
            Recipe::Rows(rows) => rows.spans.clone(),
            Recipe::Transposed(source) | Recipe::Mapped(source, _) => source.spans(),
            Recipe::Quantised(quantised) => quantised.spans(),
        }
    }
}

impl Elements {
    fn read(&self, shape: &[usize], files: &[Mmap]) -> Vec<u8> {
        let raw = self.span.read(files);
        match &self.strides {
            None => self.number.convert(raw),
            Some(strides) => self.number.convert(&gather(raw, self.number.size(), shape, strides)),
        }
    }
}

/// Elements in order of their indices, the last axis fastest.
fn gather(raw: &[u8], size: usize, shape: &[usize], strides: &[usize]) -> Vec<u8> {
    let count: usize = shape.iter().product();
    let mut out = Vec::with_capacity(count * size);
    let mut index = vec![0; shape.len()];
    let mut at = 0;
    for _ in 0..count {
        out.extend_from_slice(&raw[at * size..][..size]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
    out
}

impl Rows {
    fn read(&self, files: &[Mmap]) -> Vec<u8> {
        let total: usize = self.spans.iter().map(|span| span.bytes.len()).sum();
        let row = total / (self.outer * self.groups * self.parts.iter().sum::<usize>()).max(1);
        let mut out = Vec::with_capacity(total);
        let mut chunk = Vec::new();
        for number in 0..self.outer {
            chunk.clear();
            for span in &self.spans {
                chunk.extend_from_slice(span.part(number, self.outer).read(files));
            }
            if self.groups == 1 {
                out.extend_from_slice(&chunk);
                continue;
            }
            for group in 0..self.groups {
                let mut start = 0;
                for &part in &self.parts {
                    out.extend_from_slice(&chunk[(start + group * part) * row..][..part * row]);
                    start += part * self.groups;
                }
            }
        }
        out
    }
}

/// The bytes of f32 values `[.., n, m]` as `[.., m, n]`.
fn transpose(values: &[f32], shape: &[usize]) -> Vec<u8> {
    let [n, m] = [shape[shape.len() - 2], shape[shape.len() - 1]];
    let mut out = Vec::with_capacity(4 * values.len());
    for matrix in values.chunks_exact((n * m).max(1)) {
        for j in 0..m {
            (0..n).for_each(|i| out.extend_from_slice(&matrix[i * m + j].to_le_bytes()));
        }
    }
    out
}
