//! Operands: addresses of views, and how elements of each type are read and written.

use castiron_ir::{DType, Dim};
use castiron_runtime::program::gpu::MAX_BINDING_BYTES;
use castiron_runtime::program::view::{Place, View};
use castiron_runtime::program::{RowOperands, WeightForm};

use super::WgslFault;
use super::library::Function;
use super::panel;
use super::shader::{Writer, dim_text, is_word};

/// An operand at one index of the outer axes.
pub(super) struct Operand<'v> {
    view: &'v View,
    /// Address of its first element, or the value of a number without memory.
    base: String,
    /// Elements from one index of the row to the next.
    step: Dim,
}

impl<'v> Operand<'v> {
    /// Writes the address of a view's row; `outer` are the indices along all axes but the last.
    pub fn new(w: &mut Writer<'_>, view: &'v View, outer: &[String], name: &str) -> Result<Operand<'v>, WgslFault> {
        let step = view.strides.last().cloned().unwrap_or_else(|| Dim::constant(0));
        let base = match view.place {
            Place::Index(axis) => format!("f32({})", outer[axis as usize]),
            Place::Extent(ref dim) => format!("f32({})", dim_text(dim)),
            _ => {
                let address = address(w, view, outer)?;
                w.line(format!("let {name} = {address};"));
                name.to_owned()
            }
        };
        Ok(Operand { view, base, step })
    }

    /// The element at a position of the row, as an f32.
    pub fn load(&self, w: &mut Writer<'_>, position: &str) -> Result<String, WgslFault> {
        match self.view.place {
            Place::Index(_) | Place::Extent(_) => Ok(self.base.clone()),
            _ => load(w, self.view, &self.at(position)),
        }
    }

    /// Writes an f32 to a position of the row.
    pub fn store(&self, w: &mut Writer<'_>, position: &str, value: &str) -> Result<(), WgslFault> {
        let at = self.at(position);
        let (element, value) = match self.view.dtype {
            DType::F32 => ("f32", value.to_owned()),
            DType::I32 => ("i32", format!("i32({value})")),
            other => return Err(WgslFault::Stored(other)),
        };
        let name = w.place(&self.view.place, element)?;
        w.line(format!("{name}[{at}] = {value};"));
        Ok(())
    }

    /// Writes an i32 to a position of the row.
    pub fn store_index(&self, w: &mut Writer<'_>, position: &str, index: &str) -> Result<(), WgslFault> {
        if self.view.dtype != DType::I32 {
            return Err(WgslFault::Stored(self.view.dtype));
        }
        let (at, name) = (self.at(position), w.place(&self.view.place, "i32")?);
        w.line(format!("{name}[{at}] = {index};"));
        Ok(())
    }

    /// Whether all positions have different addresses.
    pub fn moves(&self) -> bool {
        self.step.as_constant() != Some(0)
    }

    fn at(&self, position: &str) -> String {
        sum(&self.base, &product(&self.step, position))
    }
}

/// The operands of a row program at one row.
pub(super) struct Operands<'v> {
    pub inputs: Vec<Operand<'v>>,
    pub outputs: Vec<Operand<'v>>,
}

impl<'v> Operands<'v> {
    /// Writes the addresses of all operands. `others` is the number of views that the kernel has before.
    pub fn new(
        w: &mut Writer<'_>,
        operands: &'v RowOperands,
        outer: &[String],
        others: usize,
    ) -> Result<Operands<'v>, WgslFault> {
        let mut all = Operands { inputs: Vec::new(), outputs: Vec::new() };
        w.operand = others as u32;
        for (i, view) in operands.inputs.iter().enumerate() {
            all.inputs.push(Operand::new(w, view, outer, &format!("x{i}_at"))?);
            w.operand += 1;
        }
        for (i, view) in operands.outputs.iter().enumerate() {
            all.outputs.push(Operand::new(w, view, outer, &format!("y{i}_at"))?);
            w.operand += 1;
        }
        Ok(all)
    }
}

/// The address of a view, given indices along its first axes; reads and checks its index from memory.
pub(super) fn address(w: &mut Writer<'_>, view: &View, indices: &[String]) -> Result<String, WgslFault> {
    let mut text = match view.offset.as_constant() {
        Some(0) => String::new(),
        _ => dim_text(&view.offset),
    };
    for (stride, index) in view.strides.iter().zip(indices) {
        text = sum(&text, &product(stride, index));
    }
    if let Some(indirect) = &view.indirect {
        let at = address(w, &indirect.indices, indices)?;
        let place = w.place(&indirect.indices.place, word(indirect.indices.dtype)?)?;
        let index = w.checked_index(&format!("{place}[{at}]"), &dim_text(&indirect.extent))?;
        text = sum(&text, &product(&indirect.stride, &index));
    }
    Ok(if text.is_empty() { "0u".to_owned() } else { text })
}

/// The element at an address, as an f32.
pub(super) fn load(w: &mut Writer<'_>, view: &View, at: &str) -> Result<String, WgslFault> {
    if let Place::Weight(number) = view.place {
        match w.weight_form(number) {
            WeightForm::Packed(matrix) => return Ok(format!("{}({at})", panel::read_function(w, number, matrix)?)),
            WeightForm::Dense { .. } if w.is_large(number) || !is_word(view.dtype) => {
                return Ok(format!("{}({at})", read_function(w, number, view.dtype)?));
            }
            WeightForm::Dense { .. } => {}
            // Only products read it.
            WeightForm::Stack { .. } => return Err(WgslFault::NoMemory),
        }
    }
    let name = w.place(&view.place, word(view.dtype)?)?;
    Ok(if view.dtype == DType::I32 { format!("f32({name}[{at}])") } else { format!("{name}[{at}]") })
}

/// WGSL's name of a type that device memory holds as it is.
fn word(dtype: DType) -> Result<&'static str, WgslFault> {
    match dtype {
        DType::F32 => Ok("f32"),
        DType::I32 => Ok("i32"),
        other => Err(WgslFault::Loaded(other)),
    }
}

/// A function that reads an element of a weight whose elements are narrower than a word, or that is
/// bound in parts.
fn read_function(w: &mut Writer<'_>, number: u32, dtype: DType) -> Result<String, WgslFault> {
    let (element, per_word) = match dtype {
        DType::F32 => ("f32", 1),
        DType::I32 => ("i32", 1),
        DType::F16 | DType::BF16 => ("u32", 2),
        DType::I8 | DType::U8 | DType::Bool => ("u32", 4),
        DType::F64 | DType::I64 => return Err(WgslFault::Loaded(dtype)),
    };
    let value = match dtype {
        DType::F32 => "bits",
        DType::I32 => "f32(bits)",
        DType::F16 => "unpack2x16float(bits)[at % 2u]",
        DType::BF16 => "bitcast<f32>(select(bits << 16u, bits & 0xffff0000u, at % 2u == 1u))",
        DType::I8 => "f32(extractBits(bitcast<i32>(bits), 8u * (at % 4u), 8u))",
        _ => "f32(extractBits(bits, 8u * (at % 4u), 8u))",
    };
    let suspended = w.begin_function();
    w.line(format!("let word = at / {per_word}u;"));
    let bytes = w.weight_bytes(number).next_multiple_of(4);
    for offset in (0..bytes).step_by(MAX_BINDING_BYTES as usize) {
        let end = bytes.min(offset + MAX_BINDING_BYTES);
        let name = w.part((number, bytes), (offset, end - offset), element)?;
        if end < bytes {
            w.open(format!("if (word < {}u)", end / 4));
        }
        w.line(format!("let bits = {name}[word - {}u];", offset / 4));
        w.line(format!("return {value};"));
        if end < bytes {
            w.close();
        }
    }
    let name = format!("read_w{number}");
    w.end_function(&format!("{name}(at: u32) -> f32"), suspended);
    Ok(name)
}

/// `a + b`, where nothing is written for 0.
pub(super) fn sum(a: &str, b: &str) -> String {
    match (a, b) {
        ("" | "0u", b) => b.to_owned(),
        (a, "" | "0u") => a.to_owned(),
        (a, b) => format!("{a} + {b}"),
    }
}

/// `stride · index`.
pub(super) fn product(stride: &Dim, index: &str) -> String {
    if stride.as_constant() == Some(0) || index == "0u" {
        return String::new();
    }
    let index = if index.contains(' ') { format!("({index})") } else { index.to_owned() };
    if stride.as_constant() == Some(1) { index } else { format!("{}*{index}", dim_text(stride)) }
}

/// The largest finite f32, negative: where a maximum begins.
pub(super) const LOWEST: &str = "-3.4028235e38";

/// An f32 as a literal, or a call for what has none.
pub(super) fn literal(w: &mut Writer<'_>, value: f32) -> String {
    if value.is_nan() {
        format!("{}()", w.function(Function::NotANumber))
    } else if value.is_infinite() {
        let sign = if value < 0.0 { "-" } else { "" };
        format!("{sign}{}()", w.function(Function::Infinity))
    } else {
        // Denormals are 0 on many devices, and an error as literals on some.
        let value = if value.is_subnormal() { 0.0 } else { value };
        if value < 0.0 { format!("({value:?}f)") } else { format!("{value:?}f") }
    }
}
