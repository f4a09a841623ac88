//! Descriptions of a GGUF file's tensors.

use std::ops::Range;

use castiron_ir::{BlockFormat, Storage};

use super::GgufError;
use super::cursor::Cursor;
use crate::checkpoint::number::Number;
use crate::checkpoint::stored::{Span, Stored};

/// Most axes that ggml's tensors have.
const AXES: u32 = 4;

/// A tensor whose bytes lie within the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TensorInfo {
    pub(super) name: String,
    /// The last axis fastest, unlike in the file.
    pub(super) shape: Vec<usize>,
    kind: Kind,
    /// Number of the file, if there are several.
    pub(super) file: usize,
    pub(super) bytes: Range<usize>,
}

/// How elements of a type are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Numbers(Number),
    Blocks(BlockFormat),
}

impl Kind {
    /// Elements that are stored together and the bytes that hold them.
    fn block(self) -> (usize, usize) {
        match self {
            Kind::Numbers(number) => (1, number.size()),
            Kind::Blocks(format) => format.block(),
        }
    }
}

impl TensorInfo {
    /// The same in the file of a number.
    pub(super) fn of_file(&self, file: usize) -> TensorInfo {
        TensorInfo { file, ..self.clone() }
    }

    pub(super) fn span(&self) -> Span {
        Span { file: self.file, bytes: self.bytes.clone() }
    }

    /// The tensor as it lies in the file.
    pub(super) fn stored(&self) -> Stored {
        match self.kind {
            Kind::Numbers(number) => Stored::dense(self.span(), number, self.shape.clone()),
            Kind::Blocks(format) => Stored::plain(self.span(), Storage::Blocks(format), self.shape.clone()),
        }
    }

    /// How [`TensorInfo::stored`] holds its elements.
    pub(super) fn storage(&self) -> Storage {
        match self.kind {
            Kind::Numbers(number) => Storage::Dense(number.dtype()),
            Kind::Blocks(format) => Storage::Blocks(format),
        }
    }
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
    kind: Kind,
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
        let kind = kind(cursor.u32()?).map_err(|problem| GgufError::tensor(&name, problem))?;
        Ok(Described { name, shape, kind, offset: cursor.u64()? })
    }

    fn locate(self, data: u64, file: usize, alignment: u64) -> Result<TensorInfo, GgufError> {
        let problem = |problem: String| Err(GgufError::tensor(&self.name, problem));
        let (block, block_bytes) = self.kind.block();
        let row = self.shape.last().copied().unwrap_or(1);
        if !row.is_multiple_of(block) {
            return problem(format!("has rows of {row} elements, which are no whole blocks of {block}"));
        }
        if !self.offset.is_multiple_of(alignment) {
            return problem(format!("lies at offset {}, which is no multiple of {alignment}", self.offset));
        }
        let elements = self.shape.iter().try_fold(1_usize, |all, &extent| all.checked_mul(extent));
        let length = elements.and_then(|elements| (elements / block).checked_mul(block_bytes));
        let start = data.checked_add(self.offset).and_then(|start| usize::try_from(start).ok());
        let end = start.zip(length).and_then(|(start, length)| start.checked_add(length));
        match (start, end) {
            (Some(start), Some(end)) if end <= file => {
                Ok(TensorInfo { name: self.name, shape: self.shape, kind: self.kind, file: 0, bytes: start..end })
            }
            _ => problem(format!(
                "of shape {:?} at data offset {} goes beyond the file's {file} bytes",
                self.shape, self.offset
            )),
        }
    }
}

/// How elements of a type are stored, by the type's number in a file.
fn kind(number: u32) -> Result<Kind, String> {
    Ok(match number {
        0 => Kind::Numbers(Number::F32),
        1 => Kind::Numbers(Number::F16),
        2 => Kind::Blocks(BlockFormat::Q4_0),
        3 => Kind::Blocks(BlockFormat::Q4_1),
        6 => Kind::Blocks(BlockFormat::Q5_0),
        7 => Kind::Blocks(BlockFormat::Q5_1),
        8 => Kind::Blocks(BlockFormat::Q8_0),
        10 => Kind::Blocks(BlockFormat::Q2K),
        11 => Kind::Blocks(BlockFormat::Q3K),
        12 => Kind::Blocks(BlockFormat::Q4K),
        13 => Kind::Blocks(BlockFormat::Q5K),
        14 => Kind::Blocks(BlockFormat::Q6K),
        16 => Kind::Blocks(BlockFormat::Iq2Xxs),
        17 => Kind::Blocks(BlockFormat::Iq2Xs),
        18 => Kind::Blocks(BlockFormat::Iq3Xxs),
        19 => Kind::Blocks(BlockFormat::Iq1S),
        20 => Kind::Blocks(BlockFormat::Iq4Nl),
        21 => Kind::Blocks(BlockFormat::Iq3S),
        22 => Kind::Blocks(BlockFormat::Iq2S),
        23 => Kind::Blocks(BlockFormat::Iq4Xs),
        24 => Kind::Numbers(Number::I8),
        25 => Kind::Numbers(Number::I16),
        26 => Kind::Numbers(Number::I32),
        27 => Kind::Numbers(Number::I64),
        28 => Kind::Numbers(Number::F64),
        29 => Kind::Blocks(BlockFormat::Iq1M),
        30 => Kind::Numbers(Number::BF16),
        34 => Kind::Blocks(BlockFormat::Tq1_0),
        35 => Kind::Blocks(BlockFormat::Tq2_0),
        39 => Kind::Blocks(BlockFormat::Mxfp4),
        40 => Kind::Blocks(BlockFormat::Nvfp4),
        _ => return Err(format!("has ggml type {}, which is not supported", unsupported(number))),
    })
}

/// Name of a type without a decoder.
fn unsupported(number: u32) -> String {
    let name = match number {
        9 => "Q8_1",
        15 => "Q8_K",
        41 => "Q1_0",
        _ => return number.to_string(),
    };
    name.to_owned()
}
