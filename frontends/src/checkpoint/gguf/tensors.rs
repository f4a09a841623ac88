//! Descriptions of a GGUF file's tensors.

use std::ops::Range;

use castiron_ir::{BlockFormat, DType, Storage};

use super::GgufError;
use super::cursor::Cursor;

/// Most axes that ggml's tensors have.
const AXES: u32 = 4;

/// A tensor whose bytes lie within the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TensorInfo {
    pub(super) name: String,
    /// The last axis fastest, unlike in the file.
    pub(super) shape: Vec<usize>,
    pub(super) storage: Storage,
    pub(super) bytes: Range<usize>,
}

/// Reads the descriptions; the data follows them, aligned.
pub(super) fn parse(
    cursor: &mut Cursor<'_>,
    count: u64,
    file: usize,
    alignment: u64,
) -> Result<Vec<TensorInfo>, GgufError> {
    let mut described = Vec::new();
    for _ in 0..count {
        described.push(Described::parse(cursor)?);
    }
    let data = (cursor.at as u64).next_multiple_of(alignment);
    described.into_iter().map(|tensor| tensor.locate(data, file, alignment)).collect()
}

struct Described {
    name: String,
    shape: Vec<usize>,
    storage: Storage,
    offset: u64,
}

impl Described {
    fn parse(cursor: &mut Cursor<'_>) -> Result<Described, GgufError> {
        let name = cursor.text()?.to_owned();
        let axes = cursor.u32()?;
        if !(1..=AXES).contains(&axes) {
            return Err(GgufError::tensor(&name, format!("has {axes} axes, expected 1 to {AXES}")));
        }
        let mut shape = Vec::new();
        for _ in 0..axes {
            let extent = cursor.u64()?;
            let fits = usize::try_from(extent).ok().filter(|&extent| extent > 0);
            shape.push(fits.ok_or_else(|| GgufError::tensor(&name, format!("has the extent {extent}")))?);
        }
        shape.reverse();
        let storage = storage(cursor.u32()?).map_err(|problem| GgufError::tensor(&name, problem))?;
        Ok(Described { name, shape, storage, offset: cursor.u64()? })
    }

    fn locate(self, data: u64, file: usize, alignment: u64) -> Result<TensorInfo, GgufError> {
        let problem = |problem: String| Err(GgufError::tensor(&self.name, problem));
        let (block, _) = self.storage.block();
        let row = self.shape.last().copied().unwrap_or(1);
        if !row.is_multiple_of(block) {
            return problem(format!("has rows of {row} elements, which are no whole blocks of {block}"));
        }
        if !self.offset.is_multiple_of(alignment) {
            return problem(format!("lies at offset {}, which is no multiple of {alignment}", self.offset));
        }
        let elements = self.shape.iter().try_fold(1_usize, |all, &extent| all.checked_mul(extent));
        let length = elements.and_then(|elements| self.storage.bytes(elements));
        let start = data.checked_add(self.offset).and_then(|start| usize::try_from(start).ok());
        let end = start.zip(length).and_then(|(start, length)| start.checked_add(length));
        match (start, end) {
            (Some(start), Some(end)) if end <= file => {
                Ok(TensorInfo { name: self.name, shape: self.shape, storage: self.storage, bytes: start..end })
            }
            _ => problem(format!(
                "of shape {:?} at data offset {} goes beyond the file's {file} bytes",
                self.shape, self.offset
            )),
        }
    }
}

/// How elements of a type are stored, by the type's number in a file.
fn storage(number: u32) -> Result<Storage, String> {
    Ok(match number {
        0 => Storage::Dense(DType::F32),
        1 => Storage::Dense(DType::F16),
        2 => Storage::Blocks(BlockFormat::Q4_0),
        3 => Storage::Blocks(BlockFormat::Q4_1),
        6 => Storage::Blocks(BlockFormat::Q5_0),
        7 => Storage::Blocks(BlockFormat::Q5_1),
        8 => Storage::Blocks(BlockFormat::Q8_0),
        10 => Storage::Blocks(BlockFormat::Q2K),
        11 => Storage::Blocks(BlockFormat::Q3K),
        12 => Storage::Blocks(BlockFormat::Q4K),
        13 => Storage::Blocks(BlockFormat::Q5K),
        14 => Storage::Blocks(BlockFormat::Q6K),
        16 => Storage::Blocks(BlockFormat::Iq2Xxs),
        17 => Storage::Blocks(BlockFormat::Iq2Xs),
        18 => Storage::Blocks(BlockFormat::Iq3Xxs),
        19 => Storage::Blocks(BlockFormat::Iq1S),
        20 => Storage::Blocks(BlockFormat::Iq4Nl),
        21 => Storage::Blocks(BlockFormat::Iq3S),
        22 => Storage::Blocks(BlockFormat::Iq2S),
        23 => Storage::Blocks(BlockFormat::Iq4Xs),
        24 => Storage::Dense(DType::I8),
        26 => Storage::Dense(DType::I32),
        27 => Storage::Dense(DType::I64),
        28 => Storage::Dense(DType::F64),
        29 => Storage::Blocks(BlockFormat::Iq1M),
        30 => Storage::Dense(DType::BF16),
        34 => Storage::Blocks(BlockFormat::Tq1_0),
        35 => Storage::Blocks(BlockFormat::Tq2_0),
        39 => Storage::Blocks(BlockFormat::Mxfp4),
        40 => Storage::Blocks(BlockFormat::Nvfp4),
        _ => return Err(format!("has ggml type {}, which is not supported", unsupported(number))),
    })
}

/// Name of a type without a decoder.
fn unsupported(number: u32) -> String {
    let name = match number {
        9 => "Q8_1",
        15 => "Q8_K",
        25 => "I16",
        41 => "Q1_0",
        _ => return number.to_string(),
    };
    name.to_owned()
}
