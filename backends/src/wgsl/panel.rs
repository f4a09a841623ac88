//! Packed weights in WGSL: the panels that the CPU reads, taken apart in the shader.
//!
//! An invocation works on four neighbouring columns, a quad: a quarter of a panel, and what one load
//! of a vector brings. Blocks of 8 or 32 contracted elements are unrolled. How panels are laid out is
//! drawn in `castiron_runtime::weights`.

use castiron_runtime::program::gpu::MAX_BINDING_BYTES;
use castiron_runtime::program::view::Place;
use castiron_runtime::weights::{BLOCK, Encoding, PANEL, PackedMatrix};

use super::WgslFault;
use super::shader::Writer;

/// Columns that an invocation works on.
pub(super) const QUAD: usize = 4;
/// Elements of `k` of a block of dense panels.
const DENSE_BLOCK: usize = 8;

/// A packed weight, or the part of it that is bound, as an array of vectors.
pub(super) struct Panels {
    pub matrix: PackedMatrix,
    name: String,
    is_f16: bool,
}

/// What is done with an element of `k`: its number within the block, and the weights of each group.
type Each<'e> = dyn FnMut(&mut Writer<'_>, usize, &[String]) -> Result<(), WgslFault> + 'e;

/// A run of panels that is bound at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub first: usize,
    pub end: usize,
}

/// Cuts a weight into runs of panels that every adapter binds.
pub(super) fn chunks(matrix: &PackedMatrix) -> Vec<Chunk> {
    let bytes = panel_bytes(matrix).max(1);
    let panels = matrix.panels();
    // Parts begin at multiples of 256 bytes, as bindings must.
    let mut most = ((MAX_BINDING_BYTES / bytes) as usize).max(1);
    while most > 1 && most < panels && !(most as u64 * bytes).is_multiple_of(256) {
        most -= 1;
    }
    (0..panels).step_by(most).map(|first| Chunk { first, end: (first + most).min(panels) }).collect()
}

/// Cuts bytes into parts that every adapter binds, at multiples of a unit.
pub(super) fn parts(bytes: u64, unit: u64) -> Vec<(u64, u64)> {
    let most = MAX_BINDING_BYTES / unit.max(1).max(256) * unit.max(256);
    (0..bytes).step_by(most as usize).map(|offset| (offset, most.min(bytes - offset))).collect()
}

/// Bytes of the panels of all groups.
fn panel_bytes(matrix: &PackedMatrix) -> u64 {
    (matrix.panel_bytes().unwrap_or(usize::MAX) as u64).saturating_mul(matrix.groups as u64)
}

impl Panels {
    /// Binds a chunk of a weight.
    pub fn bind(w: &mut Writer<'_>, weight: u32, matrix: &PackedMatrix, chunk: Chunk) -> Result<Panels, WgslFault> {
        let is_f16 = matrix.encoding == Encoding::F16 && w.features().f16;
        let element = match matrix.encoding {
            Encoding::F32 => "vec4<f32>",
            Encoding::F16 if is_f16 => "vec4<f16>",
            Encoding::F16 | Encoding::BF16 => "vec2<u32>",
            Encoding::Q8_0 | Encoding::Q4_0 | Encoding::Q4_1 => "vec4<u32>",
        };
        let is_whole = chunk == Chunk { first: 0, end: matrix.panels() };
        let name = if is_whole {
            w.place(&Place::Weight(weight), element)?
        } else {
            let bytes = panel_bytes(matrix);
            let (offset, end) = (chunk.first as u64 * bytes, chunk.end as u64 * bytes);
            w.part(weight, offset, end - offset, element)?
        };
        Ok(Panels { matrix: *matrix, name, is_f16 })
    }

    /// Elements of `k` that are unrolled together.
    pub fn block(&self) -> usize {
        if self.matrix.encoding.is_quantised() { BLOCK } else { DENSE_BLOCK }
    }

    /// Blocks that are worked on in a loop; the rest is for [`Panels::tail`].
    pub fn blocks(&self) -> usize {
        if self.matrix.encoding.is_quantised() { self.matrix.k.div_ceil(BLOCK) } else { self.matrix.k / DENSE_BLOCK }
    }

    /// Elements of `k` after the last block.
    pub fn tail(&self) -> usize {
        if self.matrix.encoding.is_quantised() { 0 } else { self.matrix.k % DENSE_BLOCK }
    }

    /// Vectors of a group's panel.
    fn panel_vectors(&self) -> usize {
        match self.matrix.encoding {
            Encoding::F32 | Encoding::F16 | Encoding::BF16 => self.matrix.k * PANEL / QUAD,
            _ => self.blocks() * self.block_vectors(),
        }
    }

    /// Vectors of a block of a panel.
    fn block_vectors(&self) -> usize {
        match self.matrix.encoding {
            Encoding::F32 | Encoding::F16 | Encoding::BF16 => DENSE_BLOCK * PANEL / QUAD,
            quantised => quantised.block().1 * PANEL / 16,
        }
    }

    /// Writes where the panel of a quad begins in each group: `panel` counts from the chunk's first.
    pub fn write_bases(&self, w: &mut Writer<'_>, panel: &str) {
        let vectors = self.panel_vectors();
        for group in 0..self.matrix.groups {
            let number = match self.matrix.groups {
                1 => panel.to_owned(),
                groups => format!("({groups}u*{panel} + {group}u)"),
            };
            w.line(format!("let panel{group} = {vectors}u*{number};"));
        }
    }

    /// Writes what a block shares, and calls `each(k, values of all groups)` in the order in which the
    /// elements lie. `block` is its number, `quad` that within the panel.
    pub fn write_block(
        &self,
        w: &mut Writer<'_>,
        block: &str,
        each: &mut Each<'_>,
    ) -> Result<(), WgslFault> {
        let vectors = self.block_vectors();
        for group in 0..self.matrix.groups {
            w.line(format!("let block{group} = panel{group} + {vectors}u*{block};"));
        }
        match self.matrix.encoding {
            Encoding::F32 | Encoding::F16 | Encoding::BF16 => self.write_dense(w, 0..DENSE_BLOCK, each),
            quantised => self.write_quantised(w, quantised, each),
        }
    }

    /// As [`Panels::write_block`], for the elements after the last block.
    pub fn write_tail(&self, w: &mut Writer<'_>, each: &mut Each<'_>) -> Result<(), WgslFault> {
        let at = self.blocks() * self.block_vectors();
        for group in 0..self.matrix.groups {
            w.line(format!("let block{group} = panel{group} + {at}u;"));
        }
        self.write_dense(w, 0..self.tail(), each)
    }

    fn write_dense(
        &self,
        w: &mut Writer<'_>,
        range: std::ops::Range<usize>,
        each: &mut Each<'_>,
    ) -> Result<(), WgslFault> {
        let name = &self.name;
        for k in range {
            let mut values = Vec::new();
            for group in 0..self.matrix.groups {
                let at = format!("{name}[block{group} + {}u + quad]", k * PANEL / QUAD);
                let value = match self.matrix.encoding {
                    Encoding::F32 => at,
                    Encoding::F16 if self.is_f16 => format!("vec4<f32>({at})"),
                    encoding => {
                        w.line(format!("let bits{group}_{k} = {at};"));
                        dense_quad(encoding, &format!("bits{group}_{k}"))
                    }
                };
                w.line(format!("let w{group}_{k}_ = {value};"));
                values.push(format!("w{group}_{k}_"));
            }
            each(w, k, &values)?;
        }
        Ok(())
    }

    fn write_quantised(
        &self,
        w: &mut Writer<'_>,
        encoding: Encoding,
        each: &mut Each<'_>,
    ) -> Result<(), WgslFault> {
        let name = &self.name;
        let numbers = if encoding == Encoding::Q4_1 { 2 } else { 1 };
        for group in 0..self.matrix.groups {
            for (number, what) in ["scale", "minimum"].into_iter().take(numbers).enumerate() {
                let at = format!("{name}[block{group} + {}u + quad / 2u]", 2 * number);
                w.line(format!("let {what}{group}_bits = {at};"));
                let half = format!("select({what}{group}_bits.xy, {what}{group}_bits.zw, quad % 2u == 1u)");
                w.line(format!("let {what}{group}_half = {half};"));
                w.line(format!("let {what}{group} = {};", dense_quad(Encoding::F16, &format!("{what}{group}_half"))));
            }
            if encoding == Encoding::Q4_0 {
                w.line(format!("let minimum{group} = -8.0*scale{group};"));
            }
            let octet = (encoding.block().1 - 2 * numbers) * PANEL / 2 / 16;
            w.line(format!("let words{group} = block{group} + {}u + {octet}u*(quad / 2u) + quad % 2u;", 2 * numbers));
        }
        let words = if encoding == Encoding::Q8_0 { BLOCK / 4 } else { BLOCK / 8 };
        for word in 0..words {
            for group in 0..self.matrix.groups {
                w.line(format!("let word{group}_{word} = {name}[words{group} + {}u];", 2 * word));
            }
            let per_byte = if encoding == Encoding::Q8_0 { 1 } else { 2 };
            for (byte, part) in (0..4).flat_map(|byte| (0..per_byte).map(move |part| (byte, part))) {
                let k = 4 * word + byte + part * BLOCK / 2;
                let mut values = Vec::new();
                for group in 0..self.matrix.groups {
                    let shift = 8 * byte + 4 * part;
                    let word = format!("word{group}_{word}");
                    let value = match encoding {
                        Encoding::Q8_0 => {
                            // The sign comes along when the byte is moved to the top and back.
                            format!("scale{group} * vec4<f32>((bitcast<vec4<i32>>({word}) << vec4<u32>({}u)) >> vec4<u32>(24u))", 24 - shift)
                        }
                        _ => {
                            let nibble = format!("vec4<f32>(({word} >> vec4<u32>({shift}u)) & vec4<u32>(15u))");
                            format!("fma({nibble}, scale{group}, minimum{group})")
                        }
                    };
                    w.line(format!("let w{group}_{k}_ = {value};"));
                    values.push(format!("w{group}_{k}_"));
                }
                each(w, k, &values)?;
            }
        }
        Ok(())
    }
}

/// Four 16-bit floats in two words.
fn dense_quad(encoding: Encoding, bits: &str) -> String {
    match encoding {
        Encoding::BF16 => format!(
            "bitcast<vec4<f32>>(vec4<u32>({bits}.x << 16u, {bits}.x & 0xffff0000u, {bits}.y << 16u, {bits}.y & 0xffff0000u))"
        ),
        _ => format!("vec4<f32>(unpack2x16float({bits}.x), unpack2x16float({bits}.y))"),
    }
}

/// A function that reads an element of the first group of a packed weight by its row-major address.
pub(super) fn read_function(w: &mut Writer<'_>, weight: u32, matrix: &PackedMatrix) -> Result<String, WgslFault> {
    let function = format!("read_w{weight}");
    let chunks = chunks(matrix);
    let is_single = chunks.len() == 1;
    let mut panels = Vec::new();
    for &chunk in &chunks {
        panels.push(Panels::bind(w, weight, matrix, chunk)?);
    }
    let suspended = w.begin_function();
    let (k, groups) = (matrix.k, matrix.groups);
    w.line(format!("let row = at / {k}u;"));
    w.line(format!("let k = at % {k}u;"));
    w.line(format!("let lane = row % {PANEL}u;"));
    for (i, (&chunk, part)) in chunks.iter().zip(&panels).enumerate() {
        if !is_single && i + 1 < chunks.len() {
            w.open(format!("if (row < {}u)", chunk.end * PANEL));
        }
        let vectors = part.panel_vectors() * groups;
        w.line(format!("let panel = {vectors}u*(row / {PANEL}u - {}u);", chunk.first));
        part.write_element(w);
        if !is_single && i + 1 < chunks.len() {
            w.close();
        }
    }
    w.end_function(&format!("{function}(at: u32) -> f32"), suspended);
    Ok(function)
}

impl Panels {
    /// Writes the return of element `k` of column `lane` of the panel that begins at `panel`.
    fn write_element(&self, w: &mut Writer<'_>) {
        let name = &self.name;
        let per_k = PANEL / QUAD;
        let encoding = self.matrix.encoding;
        if !encoding.is_quantised() {
            w.line(format!("let bits = {name}[panel + {per_k}u*k + lane / 4u];"));
            let quad = match encoding {
                Encoding::F32 => "bits".to_owned(),
                Encoding::F16 if self.is_f16 => "vec4<f32>(bits)".to_owned(),
                _ => dense_quad(encoding, "bits"),
            };
            w.line(format!("let values = {quad};"));
            return w.line("return values[lane % 4u];");
        }
        let numbers = if encoding == Encoding::Q4_1 { 2 } else { 1 };
        w.line(format!("let block = panel + {}u*(k / {BLOCK}u);", self.block_vectors()));
        for (number, what) in ["scale", "minimum"].into_iter().take(numbers).enumerate() {
            let at = format!("{name}[block + {}u + lane / 8u][lane / 2u % 4u]", 2 * number);
            w.line(format!("let {what}_bits = {at};"));
            w.line(format!("let {what} = unpack2x16float({what}_bits)[lane % 2u];"));
        }
        let octet = (encoding.block().1 - 2 * numbers) * PANEL / 2 / 16;
        let is_bytes = encoding == Encoding::Q8_0;
        let (word, shift) = if is_bytes {
            (format!("(k % {BLOCK}u) / 4u"), "8u*(k % 4u)")
        } else {
            (format!("(k % {}u) / 4u", BLOCK / 2), "8u*(k % 4u) + 4u*(k / 16u % 2u)")
        };
        let at = format!("block + {}u + {octet}u*(lane / 8u) + 2u*({word}) + lane / 4u % 2u", 2 * numbers);
        w.line(format!("let word = {name}[{at}][lane % 4u];"));
        match encoding {
            Encoding::Q8_0 => w.line(format!("return scale * f32(extractBits(bitcast<i32>(word), {shift}, 8u));")),
            Encoding::Q4_0 => w.line(format!("return scale * (f32(extractBits(word, {shift}, 4u)) - 8.0);")),
            _ => w.line(format!("return fma(f32(extractBits(word, {shift}, 4u)), scale, minimum);")),
        }
    }
}
