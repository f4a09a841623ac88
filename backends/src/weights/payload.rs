//! The bytes of weights.

use std::ops::Range;

use castiron_ir::{BlockFormat, DType, Storage, StoredTensor, TensorSource, template};
use castiron_runtime::program::WeightForm;
use castiron_runtime::weights::{Encoding, PackedMatrix, Source};

use super::strided::{self, Part};
use super::{LoopIndex, Matrix, PlannedWeight, WeightError};

/// The stored parts that make up a matrix, or that number of a stack, row after row; `None` if it has to be
/// computed.
pub(super) fn parts_of(matrix: &Matrix, number: Option<usize>) -> Option<Vec<Part>> {
    let (region, value) = matrix.expression.parts();
    let mut parts = match number {
        None => strided::parts(region, &region.definitions(), value)?,
        Some(number) => strided::element(region, &region.definitions(), value, number)?,
    };
    if matrix.transposed {
        let [part] = parts.as_mut_slice() else { return None };
        part.shape.reverse();
        part.strides.reverse();
    }
    Some(parts)
}

/// How the tensor of a part is stored. Its bytes are not touched, which may have to be rearranged.
pub(super) fn storage(
    source: &dyn TensorSource,
    part: &Part,
    index: Option<&LoopIndex>,
    instance: usize,
) -> Result<Storage, WeightError> {
    let name = instance_name(part, index, instance)?;
    let Some((storage, shape)) = source.layout(&name) else { return Err(WeightError::Missing(name)) };
    check_shape(name, part, shape)?;
    Ok(storage)
}

fn instance_name(part: &Part, index: Option<&LoopIndex>, instance: usize) -> Result<String, WeightError> {
    let value = |name: &str| match &part.at {
        Some((stack, number)) if stack == name => Some(*number),
        _ => index.filter(|i| i.name == name).map(|_| instance),
    };
    Ok(template::expand(&part.name, &value)?)
}

fn check_shape(name: String, part: &Part, found: &[usize]) -> Result<String, WeightError> {
    if found == part.stored_shape {
        return Ok(name);
    }
    Err(WeightError::Shape { name, found: found.to_vec(), expected: part.stored_shape.clone() })
}

/// The stored tensor of a part.
pub(super) fn stored<'a>(
    source: &'a dyn TensorSource,
    part: &Part,
    index: Option<&LoopIndex>,
    instance: usize,
) -> Result<StoredTensor<'a>, WeightError> {
    let name = instance_name(part, index, instance)?;
    let Some(tensor) = source.tensor(&name) else { return Err(WeightError::Missing(name)) };
    let name = check_shape(name, part, &tensor.shape)?;
    let elements = tensor.shape.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent));
    match elements.and_then(|n| tensor.storage.bytes(n)) {
        Some(bytes) if bytes <= tensor.bytes.len() => Ok(tensor),
        _ => Err(WeightError::Truncated(name)),
    }
}

/// Rows of one group in one instance.
enum Rows<'a> {
    /// In stored tensors.
    Stored(Vec<StoredRows<'a>>),
    /// Computed, row-major.
    Computed(Vec<f32>),
}

struct StoredRows<'a> {
    part: Part,
    tensor: StoredTensor<'a>,
    /// All values of the part's range, when rows are no runs of blocks.
    decoded: Option<Vec<f32>>,
}

impl<'a> Rows<'a> {
    fn new(
        (matrix, number): (&Matrix, Option<usize>),
        source: &'a dyn TensorSource,
        index: Option<&LoopIndex>,
        instance: usize,
    ) -> Result<Rows<'a>, WeightError> {
        let Some(parts) = parts_of(matrix, number) else {
            let at = index.map(|i| (i.name.as_str(), instance));
            let tensor = matrix.expression.evaluate(source, at)?;
            let [n, k] = matrix.extents();
            let position = |i: usize| if matrix.transposed { i % k * n + i / k } else { i };
            let data = &tensor.data[number.unwrap_or(0) * n * k..][..n * k];
            return Ok(Rows::Computed((0..n * k).map(|i| data[position(i)] as f32).collect()));
        };
        let rows = |part: Part| {
            let tensor = stored(source, &part, index, instance)?;
            let decoded = (!part.has_rows_of_blocks(tensor.storage)).then(|| decode(&tensor, part.range()));
            Ok(StoredRows { part, tensor, decoded })
        };
        Ok(Rows::Stored(parts.into_iter().map(rows).collect::<Result<_, WeightError>>()?))
    }

    fn find(rows: &[StoredRows<'a>], mut row: usize) -> (usize, usize) {
        for (i, stored) in rows.iter().enumerate() {
            match row.checked_sub(stored.part.shape[0]) {
                Some(rest) => row = rest,
                None => return (i, row),
            }
        }
        unreachable!("a matrix has the rows of its parts")
    }

    fn read(&self, row: usize, out: &mut [f32]) {
        match self {
            Rows::Computed(values) => out.copy_from_slice(&values[row * out.len()..][..out.len()]),
            Rows::Stored(rows) => {
                let (at, row) = Rows::find(rows, row);
                let run = rows[at].part.row(row);
                match &rows[at].decoded {
                    Some(values) => {
                        let first = run.start - rows[at].part.range().start;
                        out.iter_mut().enumerate().for_each(|(i, out)| *out = values[first + i * run.step]);
                    }
                    None => rows[at].tensor.read(run.start, out),
                }
            }
        }
    }

    /// Bytes of a row's blocks.
    fn raw(&self, row: usize, k: usize) -> &[u8] {
        match self {
            Rows::Computed(_) => &[],
            Rows::Stored(rows) => {
                let (at, row) = Rows::find(rows, row);
                rows[at].tensor.raw(rows[at].part.row(row).start, k)
            }
        }
    }

    /// The format of blocks that holds every row.
    fn format(&self) -> Option<BlockFormat> {
        let Rows::Stored(rows) = self else { return None };
        let format = |rows: &StoredRows<'_>| match rows.tensor.storage {
            Storage::Blocks(format) if rows.decoded.is_none() => Some(format),
            _ => None,
        };
        let first = format(rows.first()?)?;
        rows.iter().all(|rows| format(rows) == Some(first)).then_some(first)
    }
}

/// Some elements of a tensor.
fn decode(tensor: &StoredTensor<'_>, range: Range<usize>) -> Vec<f32> {
    let (block, _) = tensor.storage.block();
    let (start, end) = (range.start / block * block, range.end.next_multiple_of(block));
    let mut values = vec![0.0; end - start];
    tensor.read(start, &mut values);
    values.truncate(range.end - start);
    values.split_off(range.start - start)
}

impl PlannedWeight {
    /// Writes the bytes of an instance.
    ///
    /// # Errors
    /// Tensors that are missing or of another shape, expressions without value.
    pub fn write(&self, source: &dyn TensorSource, instance: usize, out: &mut [u8]) -> Result<(), WeightError> {
        match self.weight.form_of(instance) {
            WeightForm::Packed(matrix) => self.pack(&matrix, None, source, instance, out),
            WeightForm::Stack { count, matrix } => {
                let size = out.len() / count.max(1);
                let mut each = out.chunks_exact_mut(size.max(1)).enumerate();
                each.try_for_each(|(number, out)| self.pack(&matrix, Some(number), source, instance, out))
            }
            WeightForm::Dense { dtype, .. } => {
                encode_dense(dtype, &self.values(source, instance)?, out);
                Ok(())
            }
        }
    }

    /// All values in row-major order.
    fn values(&self, source: &dyn TensorSource, instance: usize) -> Result<Vec<f32>, WeightError> {
        if let Some(parts) = parts_of(&self.groups[0], None)
            && let Some(values) = self.flatten(parts, source, instance)?
        {
            return Ok(values);
        }
        let at = self.index.as_ref().map(|i| (i.name.as_str(), instance));
        let tensor = self.groups[0].expression.evaluate(source, at)?;
        Ok(tensor.data.into_iter().map(|x| x as f32).collect())
    }

    /// Values of parts that are row-major, one after the other.
    fn flatten(
        &self,
        parts: Vec<Part>,
        source: &dyn TensorSource,
        instance: usize,
    ) -> Result<Option<Vec<f32>>, WeightError> {
        let mut values = Vec::new();
        for part in parts {
            let tensor = stored(source, &part, self.index.as_ref(), instance)?;
            if part.shape != part.stored_shape || part.offset != 0 || part.strides.last() != Some(&1) {
                return Ok(None);
            }
            values.extend(decode(&tensor, part.range()));
        }
        Ok(Some(values))
    }

    fn pack(
        &self,
        matrix: &PackedMatrix,
        number: Option<usize>,
        source: &dyn TensorSource,
        instance: usize,
        out: &mut [u8],
    ) -> Result<(), WeightError> {
        use rayon::prelude::*;
        let groups: Vec<Rows<'_>> = self
            .groups
            .iter()
            .map(|group| Rows::new((group, number), source, self.index.as_ref(), instance))
            .collect::<Result<_, _>>()?;
        let size = matrix.panel_bytes().unwrap_or(0).max(1);
        out.par_chunks_mut(size).enumerate().try_for_each(|(i, out)| {
            let (panel, rows) = (i / matrix.groups, &groups[i % matrix.groups]);
            let values = |row: usize, out: &mut [f32]| rows.read(row, out);
            let blocks = |row: usize| rows.raw(row, matrix.k);
            let is_kept =
                |format: &BlockFormat| matrix.encoding.is_quantised() && Encoding::of(*format) == matrix.encoding;
            let source = match rows.format().filter(is_kept) {
                Some(format) => Source::Blocks(format, &blocks),
                None => Source::Values(&values),
            };
            matrix.pack_panel(panel, source, out).map_err(|e| WeightError::Pack(self.weight.label.clone(), e))
        })
    }
}

fn encode_dense(dtype: DType, values: &[f32], out: &mut [u8]) {
    let size = dtype.size();
    for (&x, out) in values.iter().zip(out.chunks_exact_mut(size)) {
        match dtype {
            DType::F64 => out.copy_from_slice(&f64::from(x).to_le_bytes()),
            DType::F32 => out.copy_from_slice(&x.to_le_bytes()),
            DType::F16 => out.copy_from_slice(&half::f16::from_f32(x).to_le_bytes()),
            DType::BF16 => out.copy_from_slice(&half::bf16::from_f32(x).to_le_bytes()),
            DType::I64 => out.copy_from_slice(&(x as i64).to_le_bytes()),
            DType::I32 => out.copy_from_slice(&(x as i32).to_le_bytes()),
            DType::I8 => out.copy_from_slice(&(x as i8).to_le_bytes()),
            DType::U8 => out.copy_from_slice(&(x as u8).to_le_bytes()),
            DType::Bool => out.copy_from_slice(&[u8::from(x != 0.0)]),
        }
    }
}
