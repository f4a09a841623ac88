//! GPTQ and AWQ: eight 4-bit integers in a word, f16 scales and zero points for groups of inputs.
//!
//! `w[o][i] = scale[g][o] · (q[i][o] - zero[g][o])` with `g` the group of input `i`.
//!
//! | | words | nibbles of a word, the lowest first | stored zero |
//! |---|---|---|---|
//! | GPTQ | `[inputs/8, outputs]` | inputs 0 1 2 3 4 5 6 7 | zero - 1 (`gptq`), zero (`gptq_v2`) |
//! | AWQ | `[inputs, outputs/8]` | outputs 0 2 4 6 1 3 5 7 | zero |
//!
//! Zeros are `[groups, outputs/8]`, with their nibbles in order of outputs (GPTQ) or as AWQ's words.
//! Sources: arXiv:2210.17323 and AutoGPTQ's `QuantLinear`; arXiv:2306.00978 and AutoAWQ's `WQLinear_GEMM`.
//!
//! The numbers are exactly those of Q4_0 blocks where every zero is 8, and of Q5_0 blocks elsewhere, since
//! `q - zero` lies within ±16. Groups that are no runs of 32 inputs (`desc_act`) and scales of other types
//! become f32.

use castiron_ir::{BlockFormat, DType, Storage};
use memmap2::Mmap;

use super::{Quantised, Tensors, misfit, stems};
use crate::checkpoint::CheckpointError;
use crate::checkpoint::number::Number;
use crate::checkpoint::stored::{Recipe, Span, Stored};
use crate::config::{ConfigError, ConfigReader};

/// Where nibbles lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Gptq,
    Awq,
}

/// A linear of 4-bit integers.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::checkpoint) struct FourBits {
    packing: Packing,
    words: Span,
    zeros: Span,
    scales: Stored,
    /// The group of each input, if they are not runs.
    groups: Option<Span>,
    group_size: usize,
    /// What is added to stored zeros.
    zero_bias: u8,
    inputs: usize,
    outputs: usize,
    storage: Storage,
}

const BLOCK: usize = 32;
/// The nibble of each of eight outputs in AWQ's words.
const AWQ_NIBBLES: [usize; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

struct Settings {
    packing: Packing,
    /// Inputs of a group; none if all are one.
    group_size: Option<usize>,
    zero_bias: u8,
}

impl Settings {
    fn read(keys: &ConfigReader<'_>, packing: Packing) -> Result<Settings, ConfigError> {
        if keys.size("bits")? != Some(4) {
            return Err(keys.invalid("bits", "4"));
        }
        let group_size = match keys.number("group_size")? {
            Some(-1.0) => None,
            _ => Some(keys.required_size("group_size")?),
        };
        let mut zero_bias = 0;
        match packing {
            Packing::Gptq => {
                keys.flag("sym", true)?; // the zeros are stored all the same
                for key in ["checkpoint_format", "format"] {
                    match keys.text(key)? {
                        None | Some("gptq" | "gptq_v2") => {}
                        Some(_) => return Err(keys.invalid(key, "gptq or gptq_v2")),
                    }
                }
                let format = keys.text("checkpoint_format")?.or(keys.text("format")?);
                zero_bias = u8::from(format != Some("gptq_v2"));
                if keys.flag("is_marlin_format", false)? {
                    return Err(keys.invalid("is_marlin_format", "false"));
                }
                if !matches!(keys.text("pack_dtype")?, None | Some("int32")) {
                    return Err(keys.invalid("pack_dtype", "int32"));
                }
                if keys.get("dynamic").and_then(serde_json::Value::as_object).is_some_and(|rules| !rules.is_empty()) {
                    return Err(keys.invalid("dynamic", "no rules for single modules"));
                }
            }
            Packing::Awq => {
                if !keys.flag("zero_point", true)? {
                    return Err(keys.invalid("zero_point", "true"));
                }
                if !keys.text("version")?.unwrap_or("gemm").eq_ignore_ascii_case("gemm") {
                    return Err(keys.invalid("version", "gemm"));
                }
            }
        }
        Ok(Settings { packing, group_size, zero_bias })
    }
}

/// Makes a weight of each group of tensors.
pub(super) fn resolve(
    keys: &ConfigReader<'_>,
    packing: Packing,
    tensors: &mut Tensors,
    files: &[Mmap],
) -> Result<(), CheckpointError> {
    let settings = Settings::read(keys, packing).map_err(CheckpointError::Config)?;
    for stem in stems(tensors, ".qweight") {
        let mut take = |part: &str| tensors.remove(&format!("{stem}.{part}"));
        let mut required = |part: &str| take(part).ok_or_else(|| misfit(&stem, format!("has no `{part}`")));
        let [words, zeros, scales] = [required("qweight")?, required("qzeros")?, required("scales")?];
        let groups = take("g_idx");
        let weight = FourBits::new(&settings, &stem, [words, zeros, scales], groups, files)?;
        let name = format!("{stem}.weight");
        let (shape, storage) = (vec![weight.outputs, weight.inputs], weight.storage);
        let stored = Stored { shape, storage, recipe: Recipe::Quantised(Box::new(Quantised::FourBits(weight))) };
        if tensors.insert(name.clone(), stored).is_some() {
            return Err(CheckpointError::Duplicate(name));
        }
    }
    Ok(())
}

impl FourBits {
    fn new(
        settings: &Settings,
        stem: &str,
        [words, zeros, scales]: [Stored; 3],
        groups: Option<Stored>,
        files: &[Mmap],
    ) -> Result<FourBits, CheckpointError> {
        let packing = settings.packing;
        let (inputs, outputs) = match (packing, &words.shape[..]) {
            (Packing::Gptq, &[rows, outputs]) => (rows.saturating_mul(8), outputs),
            (Packing::Awq, &[inputs, columns]) => (inputs, columns.saturating_mul(8)),
            _ => return Err(misfit(stem, "has a `qweight` that is no matrix")),
        };
        let group_size = settings.group_size.unwrap_or(inputs).max(1);
        let count = inputs.div_ceil(group_size);
        let is_float = matches!(scales.storage, Storage::Dense(DType::F16 | DType::BF16 | DType::F32));
        if scales.shape != [count, outputs] || !is_float {
            let expected = format!("[{count}, {outputs}] by `group_size`");
            return Err(misfit(stem, format!("has `scales` of shape {:?}, expected floats {expected}", scales.shape)));
        }
        if zeros.shape != [count, outputs.div_ceil(8)] {
            let problem =
                format!("has `qzeros` of shape {:?}, expected [{count}, {}]", zeros.shape, outputs.div_ceil(8));
            return Err(misfit(stem, problem));
        }
        let [words, zeros] = [(&words, "qweight"), (&zeros, "qzeros")].map(|(stored, part)| match &stored.recipe {
            Recipe::Plain(span) if stored.storage == Storage::Dense(DType::I32) => Ok(span.clone()),
            Recipe::Elements(elements) if elements.number == Number::U32 => Ok(elements.span.clone()),
            _ => Err(misfit(stem, format!("has a `{part}` that is not of 32-bit integers"))),
        });
        let scales_are_halves = scales.storage == Storage::Dense(DType::F16);
        let zero_bias = settings.zero_bias;
        let storage = Storage::Dense(DType::F32);
        let (words, zeros) = (words?, zeros?);
        let mut weight =
            FourBits { packing, words, zeros, scales, groups: None, group_size, zero_bias, inputs, outputs, storage };
        weight.groups = groups.map(|groups| weight.uneven(stem, &groups, count, files)).transpose()?.flatten();
        let fits = group_size.is_multiple_of(BLOCK) && inputs.is_multiple_of(BLOCK);
        if fits && scales_are_halves && weight.groups.is_none() {
            let format = if weight.is_symmetric(count, files) { BlockFormat::Q4_0 } else { BlockFormat::Q5_0 };
            weight.storage = Storage::Blocks(format);
        }
        Ok(weight)
    }

    /// The groups of the inputs, unless they are runs.
    fn uneven(
        &self,
        stem: &str,
        groups: &Stored,
        count: usize,
        files: &[Mmap],
    ) -> Result<Option<Span>, CheckpointError> {
        let span = match &groups.recipe {
            Recipe::Plain(span) if groups.storage == Storage::Dense(DType::I32) && groups.shape == [self.inputs] => {
                span
            }
            _ => return Err(misfit(stem, format!("has no `g_idx` of {} 32-bit integers", self.inputs))),
        };
        let mut is_even = true;
        for input in 0..self.inputs {
            let group = word(span.read(files), input) as usize;
            if group >= count {
                return Err(misfit(stem, format!("has group {group} of {count} in its `g_idx`")));
            }
            is_even &= group == input / self.group_size;
        }
        Ok((!is_even).then(|| span.clone()))
    }

    fn is_symmetric(&self, count: usize, files: &[Mmap]) -> bool {
        let zeros = self.zeros.read(files);
        (0..count).all(|group| (0..self.outputs).all(|output| self.zero(zeros, group, output) == 8))
    }

    fn zero(&self, zeros: &[u8], group: usize, output: usize) -> u8 {
        let nibble = match self.packing {
            Packing::Gptq => output % 8,
            Packing::Awq => AWQ_NIBBLES[output % 8],
        };
        let stored = word(zeros, group * self.outputs.div_ceil(8) + output / 8) >> (4 * nibble) & 15;
        (stored as u8 + self.zero_bias) & 15
    }

    fn integer(&self, words: &[u8], input: usize, output: usize) -> u8 {
        let (at, nibble) = match self.packing {
            Packing::Gptq => (input / 8 * self.outputs + output, input % 8),
            Packing::Awq => (input * self.outputs / 8 + output / 8, AWQ_NIBBLES[output % 8]),
        };
        (word(words, at) >> (4 * nibble) & 15) as u8
    }

    pub(super) fn spans(&self) -> Vec<Span> {
        let own = [&self.words, &self.zeros].into_iter().chain(&self.groups).cloned();
        own.chain(self.scales.spans()).collect()
    }

    pub(super) fn read(&self, files: &[Mmap]) -> Vec<u8> {
        let [words, zeros] = [&self.words, &self.zeros].map(|span| span.read(files));
        let scales = self.scales.read(files);
        let values = self.scales.values(files);
        let groups = self.groups.as_ref().map(|span| span.read(files));
        let group_of = |input: usize| groups.map_or(input / self.group_size, |groups| word(groups, input) as usize);
        let difference = |input: usize, group: usize, output: usize| {
            self.integer(words, input, output) as i8 - self.zero(zeros, group, output) as i8
        };
        let mut out = Vec::new();
        for output in 0..self.outputs {
            let Storage::Blocks(format) = self.storage else {
                for input in 0..self.inputs {
                    let group = group_of(input);
                    let scale = values[group * self.outputs + output];
                    out.extend((scale * f32::from(difference(input, group, output))).to_le_bytes());
                }
                continue;
            };
            for first in (0..self.inputs).step_by(BLOCK) {
                let group = group_of(first);
                out.extend_from_slice(&scales[2 * (group * self.outputs + output)..][..2]);
                let offset = if format == BlockFormat::Q4_0 { 8 } else { 16 };
                let integer = |i: usize| (difference(first + i, group, output) + offset) as u8;
                if format == BlockFormat::Q5_0 {
                    let bits = (0..BLOCK).fold(0_u32, |bits, i| bits | u32::from(integer(i) >> 4) << i);
                    out.extend(bits.to_le_bytes());
                }
                out.extend((0..BLOCK / 2).map(|i| integer(i) & 15 | (integer(i + BLOCK / 2) & 15) << 4));
            }
        }
        out
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let bytes = &bytes[4 * at..][..4];
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
