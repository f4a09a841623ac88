//! Packed weights in WGSL: the panels that the CPU reads, taken apart in the shader.
//!
//! An invocation works on four neighbouring columns, a quad: a quarter of a panel, and what one load
//! of a vector brings. Eight contracted elements are a step, which is unrolled; a run of quantised
//! elements (`blocks.rs`) is four steps. How panels are laid out is drawn in `castiron_runtime::weights`.

use castiron_runtime::program::gpu::MAX_BINDING_BYTES;
use castiron_runtime::weights::{BLOCK, Encoding, Layout, PANEL, PackedMatrix};

use super::WgslFault;
use super::blocks;
use super::shader::{LANES, Writer};

/// Columns that an invocation works on.
pub(super) const QUAD: usize = 4;
/// Elements of `k` of a step: each lane loads what one of them is multiplied with.
pub(super) const STEP: usize = LANES;

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
    pub name: String,
    layout: Option<Layout>,
    is_f16: bool,
}

/// A run of panels, or of the matrices of a stack, that is bound at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub first: usize,
    pub end: usize,
    /// How many there are.
    pub count: usize,
    /// Panels of each: all of a matrix in a stack, else one.
    pub panels: usize,
}

impl Chunk {
    /// Whether it is all of the weight.
    pub fn is_whole(&self) -> bool {
        self.first == 0 && self.end == self.count
    }
}

/// Cuts a weight into runs of panels that every adapter binds.
pub(super) fn chunks(matrix: &PackedMatrix) -> Vec<Chunk> {
    cut(matrix, matrix.panels(), 1)
}

/// Cuts a stack into runs of matrices that every adapter binds.
pub(super) fn chunks_of_stack(matrix: &PackedMatrix, count: usize) -> Vec<Chunk> {
    cut(matrix, count, matrix.panels())
}

fn cut(matrix: &PackedMatrix, count: usize, panels: usize) -> Vec<Chunk> {
    let bytes = (panel_bytes(matrix) * panels as u64).max(1);
    // Parts begin at multiples of 256 bytes, as bindings must.
    let mut most = ((MAX_BINDING_BYTES / bytes) as usize).max(1);
    while most > 1 && most < count && !(most as u64 * bytes).is_multiple_of(256) {
        most -= 1;
    }
    let chunk = |first| Chunk { first, end: (first + most).min(count), count, panels };
    (0..count).step_by(most).map(chunk).collect()
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
            _ => "vec4<u32>",
        };
        let bytes = panel_bytes(matrix) * chunk.panels as u64;
        let (offset, end) = (chunk.first as u64 * bytes, chunk.end as u64 * bytes);
        let total = bytes * chunk.count as u64;
        let name = w.part((weight, total), (offset, end - offset), element)?;
        Ok(Panels { matrix: *matrix, name, layout: Layout::of(matrix.encoding), is_f16 })
    }

    /// Elements of `k` that a number of a walk stands for: a run, or a step of dense weights.
    pub fn stretch(&self) -> usize {
        if self.layout.is_some() { BLOCK } else { STEP }
    }

    /// Whole stretches; what remains is for [`Panels::write_tail`].
    pub fn stretches(&self) -> usize {
        match &self.layout {
            Some(layout) => self.matrix.k.div_ceil(layout.span) * (layout.span / BLOCK),
            None => self.matrix.k / STEP,
        }
    }

    /// Elements of `k` after the last stretch.
    pub fn tail(&self) -> usize {
        self.matrix.k.saturating_sub(self.stretches() * self.stretch())
    }

    /// Vectors of a group's panel.
    fn panel_vectors(&self) -> usize {
        match &self.layout {
            Some(layout) => self.matrix.k.div_ceil(layout.span) * blocks::vectors(layout),
            None => self.matrix.k * PANEL / QUAD,
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
        let (vectors, number) = match &self.layout {
            Some(layout) if layout.is_scaled => {
                let runs = layout.span / BLOCK;
                w.line(format!("let run = stretch % {runs}u;"));
                (blocks::vectors(layout), format!("(stretch / {runs}u)"))
            }
            Some(layout) => (blocks::vectors(layout), "stretch".to_owned()),
            None => (STEP * PANEL / QUAD, "stretch".to_owned()),
        };
        for group in 0..self.matrix.groups {
            w.line(format!("let block{group} = panel{group} + {vectors}u*{number};"));
        }
        match &self.layout {
            None => self.write_dense(w, &dense_step(format!("{STEP}u*stretch"), STEP), work)?,
            Some(layout) => self.write_run(w, layout, work)?,
        }
        w.close();
        Ok(())
    }

    /// Writes the elements after the last stretch.
    pub fn write_tail(&self, w: &mut Writer<'_>, work: &mut dyn Work) -> Result<(), WgslFault> {
        let at = self.stretches() * STEP * PANEL / QUAD;
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
}

fn dense_step(base: String, count: usize) -> Step {
    Step { base, offsets: (0..count).collect(), lane_offset: "lane % 8u", may_exceed: count < STEP }
}

/// Four 16-bit floats in two words.
pub(super) fn float_quad(encoding: Encoding, bits: &str) -> String {
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
        if let Some(layout) = &self.layout {
            return self.write_quantised_element(w, layout);
        }
        w.line(format!("let bits = {name}[panel + {per_k}u*k + lane / 4u];"));
        let quad = match self.matrix.encoding {
            Encoding::F32 => "bits".to_owned(),
            Encoding::F16 if self.is_f16 => "vec4<f32>(bits)".to_owned(),
            encoding => float_quad(encoding, "bits"),
        };
        w.line(format!("let values = {quad};"));
        w.line("return values[lane % 4u];");
    }
}
