//! 8-bit floats with an f32 scale for each block of a matrix, as DeepSeek-V3 stores them
//! (arXiv:2412.19437, section 3.3; transformers `integrations/finegrained_fp8.py`).
//!
//! Weights become the products of floats and scales. What else such checkpoints ask for, rounding
//! activations to 8 bits as well, is for speed on some GPUs and is not done.

use castiron_ir::{DType, Storage};
use memmap2::Mmap;
use serde_json::Value;

use super::{Quantised, Tensors, misfit, stems};
use crate::checkpoint::CheckpointError;
use crate::checkpoint::stored::{Recipe, Span, Stored};
use crate::config::{ConfigError, ConfigReader};

const SCALE: &str = "_scale_inv";

/// A matrix, or several, of 8-bit floats.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::checkpoint) struct Fp8 {
    weight: Stored,
    scales: Stored,
    /// Rows and columns that share a scale.
    block: [usize; 2],
}

/// Rows and columns that share a scale; none where a matrix has one scale.
fn block(keys: &ConfigReader<'_>) -> Result<Option<[usize; 2]>, ConfigError> {
    if !matches!(keys.text("activation_scheme")?, None | Some("dynamic")) {
        return Err(keys.invalid("activation_scheme", "dynamic"));
    }
    if !matches!(keys.text("fmt")?, None | Some("e4m3")) {
        return Err(keys.invalid("fmt", "e4m3"));
    }
    if !matches!(keys.text("scale_fmt")?, None | Some("ue8m0" | "float")) {
        return Err(keys.invalid("scale_fmt", "ue8m0 or float"));
    }
    let Some(value) = keys.get("weight_block_size") else { return Ok(None) };
    let size = |n: &Value| n.as_u64().filter(|n| (1..1 << 31).contains(n)).map(|n| n as usize);
    let block = match value.as_array().map(Vec::as_slice) {
        Some([rows, columns]) => size(rows).zip(size(columns)),
        _ => None,
    };
    let Some((rows, columns)) = block else {
        return Err(keys.invalid("weight_block_size", "two positive integers"));
    };
    Ok(Some([rows, columns]))
}

/// Multiplies each weight by the scales beside it.
pub(super) fn resolve(keys: &ConfigReader<'_>, tensors: &mut Tensors) -> Result<(), CheckpointError> {
    let block = block(keys).map_err(CheckpointError::Config)?;
    for name in stems(tensors, SCALE) {
        let scale = format!("{name}{SCALE}");
        let (Some(weight), Some(scales)) = (tensors.remove(&name), tensors.remove(&scale)) else {
            return Err(misfit(&name, "has scales and no floats"));
        };
        let [.., rows, columns] = weight.shape[..] else {
            return Err(misfit(&name, "has scales and is no matrix"));
        };
        let block = block.unwrap_or([rows, columns]).map(|n| n.max(1));
        let mut expected = weight.shape.clone();
        let axes = expected.len();
        (expected[axes - 2], expected[axes - 1]) = (rows.div_ceil(block[0]), columns.div_ceil(block[1]));
        let is_one = scales.shape.iter().product::<usize>() == 1 && expected.iter().product::<usize>() == 1;
        if scales.shape != expected && !is_one {
            return Err(misfit(&name, format!("has scales of shape {:?}, expected {expected:?}", scales.shape)));
        }
        let (shape, storage) = (weight.shape.clone(), Storage::Dense(DType::F32));
        let recipe = Recipe::Quantised(Box::new(Quantised::Fp8(Fp8 { weight, scales, block })));
        tensors.insert(name, Stored { shape, storage, recipe });
    }
    Ok(())
}

impl Fp8 {
    pub(super) fn spans(&self) -> Vec<Span> {
        [self.weight.spans(), self.scales.spans()].concat()
    }

    pub(super) fn read(&self, shape: &[usize], files: &[Mmap]) -> Vec<u8> {
        let (mut values, scales) = (self.weight.values(files), self.scales.values(files));
        let [rows, columns] = [shape[shape.len() - 2], shape[shape.len() - 1]];
        let [across, down] = [columns.div_ceil(self.block[1]), rows.div_ceil(self.block[0])];
        for (i, row) in values.chunks_exact_mut(columns.max(1)).enumerate() {
            let scales = &scales[(i / rows * down + i % rows / self.block[0]) * across..][..across];
            for (run, scale) in row.chunks_mut(self.block[1]).zip(scales) {
                run.iter_mut().for_each(|x| *x *= scale);
            }
        }
        values.iter().flat_map(|x| x.to_le_bytes()).collect()
    }
}
