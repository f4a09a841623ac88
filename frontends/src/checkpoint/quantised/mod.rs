//! Checkpoints whose weights are integers or 8-bit floats with scales in tensors of their own:
//! `quantization_config` of `config.json`, read key by key, and the tensors that belong together.
//!
//! | `quant_method` | tensors of a weight `x` | becomes |
//! |---|---|---|
//! | `gptq` | `x.qweight`, `x.qzeros`, `x.scales`, `x.g_idx` | blocks of 4 bits (5 with zero points), or f32 |
//! | `awq` | `x.qweight`, `x.qzeros`, `x.scales` | the same |
//! | `fp8` | `x.weight`, `x.weight_scale_inv` | f32 |
//! | `mxfp4` | `x_blocks`, `x_scales` | f32 |

mod four_bits;
mod fp8;
mod mxfp4;

use std::collections::BTreeMap;
use std::path::Path;

use memmap2::Mmap;
use serde_json::{Map, Value};

use super::stored::{Span, Stored};
use super::{CheckpointError, files};
use crate::config::ConfigReader;
use four_bits::{FourBits, Packing};
use fp8::Fp8;
use mxfp4::Mxfp4;

type Tensors = BTreeMap<String, Stored>;

/// A weight with scales in other tensors.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Quantised {
    FourBits(FourBits),
    Fp8(Fp8),
    Mxfp4(Mxfp4),
}

impl Quantised {
    /// The elements' bytes in the storage that was promised.
    pub(super) fn read(&self, shape: &[usize], files: &[Mmap]) -> Vec<u8> {
        match self {
            Quantised::FourBits(weight) => weight.read(files),
            Quantised::Fp8(weight) => weight.read(shape, files),
            Quantised::Mxfp4(weight) => weight.read(files),
        }
    }

    pub(super) fn spans(&self) -> Vec<Span> {
        match self {
            Quantised::FourBits(weight) => weight.spans(),
            Quantised::Fp8(weight) => weight.spans(),
            Quantised::Mxfp4(weight) => weight.spans(),
        }
    }
}

const KEY: &str = "quantization_config";

/// Keys that say how a checkpoint was made, or how other programs shall compute.
const HARMLESS: &[&str] = &[
    "act_group_aware",
    "backend",
    "batch_size",
    "block_name_to_quantize",
    "cache_block_outputs",
    "damp_auto_increment",
    "damp_percent",
    "dataset",
    "dequantize",
    "desc_act", // the group of each input is in `g_idx`
    "do_fuse",
    "exllama_config",
    "fuse_max_seq_len",
    "ignored_layers",
    "lm_head",
    "max_input_length",
    "meta",
    "model_file_base_name",
    "model_name_or_path",
    "model_seqlen",
    "module_name_preceding_first_block",
    "modules_in_block_to_quantize",
    "modules_to_fuse",
    "modules_to_not_convert",
    "mse",
    "pad_token_id",
    "quant_method",
    "quantizer",
    "static_groups",
    "tokenizer",
    "true_sequential",
    "use_cuda_fp16",
    "use_exllama",
];

/// Puts the tensors of each quantised weight together, as the config says; the config's key is taken out.
pub(super) fn resolve(
    config: &mut Map<String, Value>,
    folder: Option<&Path>,
    tensors: &mut Tensors,
    files: &[Mmap],
) -> Result<(), CheckpointError> {
    let Some(object) = settings(config, folder)? else { return Ok(()) };
    let keys = ConfigReader::nested(KEY, &object);
    for key in HARMLESS {
        keys.get(key);
    }
    match keys.text("quant_method").map_err(CheckpointError::Config)?.unwrap_or("gptq") {
        "gptq" => four_bits::resolve(&keys, Packing::Gptq, tensors, files)?,
        "awq" => four_bits::resolve(&keys, Packing::Awq, tensors, files)?,
        "fp8" => fp8::resolve(&keys, tensors)?,
        "mxfp4" => mxfp4::resolve(tensors)?,
        _ => return Err(CheckpointError::Config(keys.invalid("quant_method", "gptq, awq, fp8 or mxfp4"))),
    }
    keys.finish().map_err(CheckpointError::Config)
}

/// `quantization_config`, or the file that GPTQ wrote before there was that key.
fn settings(
    config: &mut Map<String, Value>,
    folder: Option<&Path>,
) -> Result<Option<Map<String, Value>>, CheckpointError> {
    match config.shift_remove(KEY) {
        Some(Value::Object(object)) => Ok(Some(object)),
        None | Some(Value::Null) => match folder {
            Some(folder) => files::optional_object(&folder.join("quantize_config.json")),
            None => Ok(None),
        },
        Some(other) => {
            let object = Map::from_iter([(KEY.to_owned(), other)]);
            Err(CheckpointError::Config(ConfigReader::new(&object).invalid(KEY, "an object")))
        }
    }
}

/// The error of tensors that do not fit one another.
fn misfit(name: &str, problem: impl Into<String>) -> CheckpointError {
    CheckpointError::Quantised { name: name.to_owned(), problem: problem.into() }
}

/// Stems of the names that end in `suffix`.
fn stems(tensors: &Tensors, suffix: &str) -> Vec<String> {
    tensors.keys().filter_map(|name| Some(name.strip_suffix(suffix)?.to_owned())).collect()
}
