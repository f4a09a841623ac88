//! Stored tensors: how a checkpoint holds the values of a parameter, and where a compiler gets them.

use std::borrow::Cow;

use crate::blocks::{self, BlockFormat};
use crate::graph::{Module, Region};
use crate::op::{Op, Param};
use crate::template;
use crate::types::DType;

/// How elements are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Storage {
    /// One little-endian number after the other.
    Dense(DType),
    /// Blocks along the last axis, whose extent is a multiple of the block.
    Blocks(BlockFormat),
}

impl Storage {
    /// Elements that are stored together and the bytes that hold them.
    pub fn block(self) -> (usize, usize) {
        match self {
            Storage::Dense(dtype) => (1, dtype.size()),
            Storage::Blocks(format) => format.block(),
        }
    }

    /// Bytes of so many elements, a whole number of blocks; `None` on overflow.
    pub fn bytes(self, elements: usize) -> Option<usize> {
        let (block, bytes) = self.block();
        (elements / block).checked_mul(bytes)
    }
}

/// A tensor as it lies in a checkpoint.
#[derive(Clone, Debug)]
pub struct StoredTensor<'a> {
    /// Extents, the last axis fastest.
    pub shape: Vec<usize>,
    /// How elements are stored.
    pub storage: Storage,
    /// Their bytes.
    pub bytes: Cow<'a, [u8]>,
}

impl StoredTensor<'_> {
    /// The bytes of elements `start .. start + count`, both multiples of the storage's block.
    ///
    /// # Panics
    /// When the tensor has no such elements.
    pub fn raw(&self, start: usize, count: usize) -> &[u8] {
        let (block, bytes) = self.storage.block();
        assert!(start.is_multiple_of(block) && count.is_multiple_of(block), "a range of whole blocks");
        &self.bytes[start / block * bytes..][..count / block * bytes]
    }

    /// Decodes elements `start .. start + out.len()`, both multiples of the storage's block.
    ///
    /// # Panics
    /// When the tensor has no such elements.
    pub fn read(&self, start: usize, out: &mut [f32]) {
        let raw = self.raw(start, out.len());
        match self.storage {
            Storage::Dense(dtype) => decode_dense(dtype, raw, out),
            Storage::Blocks(format) => blocks::decode(format, raw, out),
        }
    }
}

/// Where a compiler gets the values of parameters.
pub trait TensorSource: Sync {
    /// A tensor's storage and extents by name, without its bytes.
    fn layout(&self, name: &str) -> Option<(Storage, &[usize])>;

    /// A tensor by name.
    fn tensor(&self, name: &str) -> Option<StoredTensor<'_>>;
}

/// Notes in each param of a module how it is stored, if as blocks in some instance: the formats of all
/// instances, one after the other, or one if they are equal.
pub fn annotate(module: &mut Module, source: &dyn TensorSource) {
    for entry in &mut module.entries {
        annotate_region(&mut entry.body, None, source);
    }
}

fn annotate_region(region: &mut Region, index: Option<(&str, usize)>, source: &dyn TensorSource) {
    for node in &mut region.nodes {
        match &mut node.op {
            Op::Param(param) => param.stored = stored(param, index, source),
            Op::Repeat(repeat) => {
                let index = repeat.index.clone();
                annotate_region(&mut repeat.body, Some((&index, repeat.count)), source);
            }
            _ => {}
        }
    }
}

fn stored(param: &Param, index: Option<(&str, usize)>, source: &dyn TensorSource) -> Option<String> {
    let storage_of = |(instance, at): (usize, usize)| {
        let is_stack = |name: &str| param.stack.as_deref() == Some(name);
        let value = |name: &str| match index {
            _ if is_stack(name) => Some(at),
            Some((index, _)) if index == name => Some(instance),
            _ => None,
        };
        Some(source.layout(&template::expand(&param.name, &value).ok()?)?.0)
    };
    let instances = index.map_or(1, |(_, count)| count);
    let all = (0..instances).flat_map(|instance| (0..param.count()).map(move |at| (instance, at)));
    let mut storages: Vec<Storage> = all.map(storage_of).collect::<Option<_>>()?;
    if storages.iter().all(|storage| *storage == storages[0]) {
        storages.truncate(1);
    }
    let name = |storage: &Storage| match storage {
        Storage::Dense(dtype) => dtype.name().to_owned(),
        Storage::Blocks(format) => format!("{format:?}").to_lowercase(),
    };
    let has_blocks = storages.iter().any(|storage| matches!(storage, Storage::Blocks(_)));
    has_blocks.then(|| storages.iter().map(name).collect::<Vec<_>>().join(","))
}

/// Little-endian numbers as f32.
fn decode_dense(dtype: DType, raw: &[u8], out: &mut [f32]) {
    fn each<const N: usize>(raw: &[u8], out: &mut [f32], number: impl Fn([u8; N]) -> f32) {
        let (numbers, _) = raw.as_chunks::<N>();
        out.iter_mut().zip(numbers).for_each(|(out, &bytes)| *out = number(bytes));
    }
    match dtype {
        DType::F64 => each(raw, out, |b| f64::from_le_bytes(b) as f32),
        DType::F32 => each(raw, out, f32::from_le_bytes),
        DType::F16 => each(raw, out, |b| half::f16::from_le_bytes(b).to_f32()),
        DType::BF16 => each(raw, out, |b| half::bf16::from_le_bytes(b).to_f32()),
        DType::I64 => each(raw, out, |b| i64::from_le_bytes(b) as f32),
        DType::I32 => each(raw, out, |b| i32::from_le_bytes(b) as f32),
        DType::I8 => each(raw, out, |b| i8::from_le_bytes(b).into()),
        DType::U8 | DType::Bool => each(raw, out, |[b]| b.into()),
    }
}
