//! Packed weights in WGSL: the panels that the CPU reads, taken apart in the shader.
//!
//! An invocation works on four neighbouring columns, a quad: a quarter of a panel, and what one load
//! of a vector brings. Eight contracted elements are a step, which is unrolled; a block of quantised
//! elements is four steps. How panels are laid out is drawn in `castiron_runtime::weights`.

use castiron_runtime::program::gpu::MAX_BINDING_BYTES;
use castiron_runtime::weights::{BLOCK, Encoding, PANEL, PackedMatrix};

use super::WgslFault;
use super::shader::{LANES, Writer};

/// Columns that an invocation works on.
pub(super) const QUAD: usize = 4;
/// Elements of `k` of a step: each lane loads what one of them is multiplied with.
const STEP: usize = LANES;

/// Eight elements of `k`, or fewer at the end.
pub(super) struct Step {
    /// The first of them.
    pub base: String,
    /// How far each is from the first.
    pub offsets: Vec<usize>,
    /// How far the one of a lane is from the first.
    pub lane_offset: &'static str,
    /// Whether some may lie beyond the end of `k`; their weights are zeros.
    pub may_exceed: bool,
}

/// What is done with each step.
pub(super) trait Work {
    /// Loads what the step multiplies with.
    fn begin(&mut self, w: &mut Writer<'_>, step: &Step) -> Result<(), WgslFault>;
    /// Adds the products of element `slot` of the step with the weights of each group.
    fn multiply(&mut self, w: &mut Writer<'_>, step: &Step, slot: usize, weights: &[String]) -> Result<(), WgslFault>;
}

/// The runs of steps that an invocation works on, as expressions.
pub(super) struct Walk<'e> {
    pub first: &'e str,
    pub end: &'e str,
    pub stride: u32,
}

/// A packed weight, or the part of it that is bound, as an array of vectors.
pub(super) struct Panels {
    pub matrix: PackedMatrix,
    name: String,
    is_f16: bool,
}

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
        let bytes = panel_bytes(matrix);
        let (offset, end) = (chunk.first as u64 * bytes, chunk.end as u64 * bytes);
        let name = w.part(weight, (offset, end - offset), element)?;
        Ok(Panels { matrix: *matrix, name, is_f16 })
    }

    /// Elements of `k` that a number of a walk stands for: a block, or a step of dense weights.
    pub fn stretch(&self) -> usize {
        if self.matrix.encoding.is_quantised() { BLOCK } else { STEP }
    }

    /// Whole stretches; what remains is for [`Panels::write_tail`].
    pub fn stretches(&self) -> usize {
        if self.matrix.encoding.is_quantised() { self.matrix.k.div_ceil(BLOCK) } else { self.matrix.k / STEP }
    }

    /// Elements of `k` after the last stretch.
    pub fn tail(&self) -> usize {
        self.matrix.k.saturating_sub(self.stretches() * self.stretch())
    }

    /// Vectors of a group's panel.
    fn panel_vectors(&self) -> usize {
        match self.matrix.encoding {
            Encoding::F32 | Encoding::F16 | Encoding::BF16 => self.matrix.k * PANEL / QUAD,
            _ => self.stretches() * self.stretch_vectors(),
        }
    }

    /// Vectors of a stretch of a panel.
    fn stretch_vectors(&self) -> usize {
        match self.matrix.encoding {
            Encoding::F32 | Encoding::F16 | Encoding::BF16 => STEP * PANEL / QUAD,
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

    /// Writes a loop over stretches. `quad` is the quad within the panel.
    pub fn write_walk(&self, w: &mut Writer<'_>, walk: &Walk<'_>, work: &mut dyn Work) -> Result<(), WgslFault> {
        let Walk { first, end, stride } = walk;
        w.open(format!("for (var stretch = {first}; stretch < {end}; stretch += {stride}u)"));
        for group in 0..self.matrix.groups {
            w.line(format!("let block{group} = panel{group} + {}u*stretch;", self.stretch_vectors()));
        }
        match self.matrix.encoding {
            Encoding::F32 | Encoding::F16 | Encoding::BF16 => {
                self.write_dense(w, &dense_step(format!("{STEP}u*stretch"), STEP), work)?;
            }
            quantised => self.write_block(w, quantised, work)?,
        }
        w.close();
        Ok(())
    }

    /// Writes the elements after the last stretch.
    pub fn write_tail(&self, w: &mut Writer<'_>, work: &mut dyn Work) -> Result<(), WgslFault> {
        let at = self.stretches() * self.stretch_vectors();
        for group in 0..self.matrix.groups {
            w.line(format!("let block{group} = panel{group} + {at}u;"));
        }
        let first = format!("{}u", self.stretches() * STEP);
        self.write_dense(w, &dense_step(first, self.tail()), work)
    }

    fn write_dense(&self, w: &mut Writer<'_>, step: &Step, work: &mut dyn Work) -> Result<(), WgslFault> {
        let name = &self.name;
        work.begin(w, step)?;
        for slot in 0..step.offsets.len() {
            let mut weights = Vec::new();
            for group in 0..self.matrix.groups {
                let at = format!("{name}[block{group} + {}u + quad]", slot * PANEL / QUAD);
                let value = match self.matrix.encoding {
                    Encoding::F32 => at,
                    Encoding::F16 if self.is_f16 => format!("vec4<f32>({at})"),
                    encoding => {
                        w.line(format!("let bits{group}_{slot} = {at};"));
                        float_quad(encoding, &format!("bits{group}_{slot}"))
                    }
                };
                w.line(format!("let weight{group}_{slot} = {value};"));
                weights.push(format!("weight{group}_{slot}"));
            }
            work.multiply(w, step, slot, &weights)?;
        }
        Ok(())
    }

    /// Writes the scales of a block, and a loop over its steps.
    fn write_block(&self, w: &mut Writer<'_>, encoding: Encoding, work: &mut dyn Work) -> Result<(), WgslFault> {
        let name = &self.name;
        let layout = Layout::of(encoding);
        for group in 0..self.matrix.groups {
            for (number, what) in ["scale", "minimum"].into_iter().take(layout.numbers).enumerate() {
                w.line(format!("let {what}{group}_bits = {name}[block{group} + {}u + quad / 2u];", 2 * number));
                let half = format!("select({what}{group}_bits.xy, {what}{group}_bits.zw, quad % 2u == 1u)");
                w.line(format!("let {what}{group}_half = {half};"));
                w.line(format!("let {what}{group} = {};", float_quad(Encoding::F16, &format!("{what}{group}_half"))));
            }
            if encoding == Encoding::Q4_0 {
                w.line(format!("let minimum{group} = -8.0*scale{group};"));
            }
            let (start, octet) = (2 * layout.numbers, layout.octet);
            w.line(format!("let words{group} = block{group} + {start}u + {octet}u*(quad / 2u) + quad % 2u;"));
        }
        w.open(format!("for (var step = 0u; step < {}u; step++)", BLOCK / STEP));
        let step = layout.step(self.matrix.k);
        work.begin(w, &step)?;
        for word in 0..layout.words {
            for group in 0..self.matrix.groups {
                let at = format!("words{group} + 2u*({}u*step + {word}u)", layout.words);
                w.line(format!("let word{group}_{word} = {name}[{at}];"));
            }
        }
        for slot in 0..STEP {
            let mut weights = Vec::new();
            for group in 0..self.matrix.groups {
                let value = if encoding == Encoding::Q8_0 {
                    let word = format!("bitcast<vec4<i32>>(word{group}_{})", slot / 4);
                    // The sign comes along when the byte is moved to the top and back.
                    let up = 24 - 8 * (slot % 4);
                    format!("scale{group} * vec4<f32>(({word} << vec4<u32>({up}u)) >> vec4<u32>(24u))")
                } else {
                    let shift = 8 * (slot % 4) + 4 * (slot / 4);
                    let nibble = format!("vec4<f32>((word{group}_0 >> vec4<u32>({shift}u)) & vec4<u32>(15u))");
                    format!("fma({nibble}, scale{group}, minimum{group})")
                };
                w.line(format!("let weight{group}_{slot} = {value};"));
                weights.push(format!("weight{group}_{slot}"));
            }
            work.multiply(w, &step, slot, &weights)?;
        }
        w.close();
        Ok(())
    }
}

fn dense_step(base: String, count: usize) -> Step {
    Step { base, offsets: (0..count).collect(), lane_offset: "lane % 8u", may_exceed: count < STEP }
}

/// How a block of quantised elements lies in a panel, in vectors of 16 bytes.
struct Layout {
    /// 16-bit numbers of a column.
    numbers: usize,
    /// Vectors of eight columns' integers.
    octet: usize,
    /// Words of a column that a step reads.
    words: usize,
}

impl Layout {
    fn of(encoding: Encoding) -> Layout {
        let numbers = if encoding == Encoding::Q4_1 { 2 } else { 1 };
        let octet = (encoding.block().1 - 2 * numbers) * PANEL / 2 / 16;
        Layout { numbers, octet, words: if encoding == Encoding::Q8_0 { 2 } else { 1 } }
    }

    /// The elements of a step: those of two words of bytes, or of one word of nibbles, whose halves are
    /// 16 elements apart.
    fn step(&self, k: usize) -> Step {
        let may_exceed = !k.is_multiple_of(BLOCK);
        if self.words == 2 {
            let offsets = (0..STEP).collect();
            return Step { base: format!("{BLOCK}u*stretch + 8u*step"), offsets, lane_offset: "lane % 8u", may_exceed };
        }
        let offsets = (0..STEP).map(|slot| slot % 4 + slot / 4 * BLOCK / 2).collect();
        let lane_offset = "lane % 4u + 16u*(lane / 4u % 2u)";
        Step { base: format!("{BLOCK}u*stretch + 4u*step"), offsets, lane_offset, may_exceed }
    }
}

/// Four 16-bit floats in two words.
fn float_quad(encoding: Encoding, bits: &str) -> String {
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
        if i + 1 < chunks.len() {
            w.open(format!("if (row < {}u)", chunk.end * PANEL));
        }
        let vectors = part.panel_vectors() * groups;
        w.line(format!("let panel = {vectors}u*(row / {PANEL}u - {}u);", chunk.first));
        part.write_element(w);
        if i + 1 < chunks.len() {
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
                _ => float_quad(encoding, "bits"),
            };
            w.line(format!("let values = {quad};"));
            return w.line("return values[lane % 4u];");
        }
        let Layout { numbers, octet, .. } = Layout::of(encoding);
        w.line(format!("let block = panel + {}u*(k / {BLOCK}u);", self.stretch_vectors()));
        for (number, what) in ["scale", "minimum"].into_iter().take(numbers).enumerate() {
            let at = format!("{name}[block + {}u + lane / 8u][lane / 2u % 4u]", 2 * number);
            w.line(format!("let {what}_bits = {at};"));
            w.line(format!("let {what} = unpack2x16float({what}_bits)[lane % 2u];"));
        }
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
