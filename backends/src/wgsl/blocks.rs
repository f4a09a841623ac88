//! Quantised weights in WGSL: blocks taken apart in the shader, a run of 32 elements at a time.
//!
//! A `vec4<u32>` holds four bytes of each column of a quad, hence one shift serves four columns.
//! How blocks are laid out is drawn in `castiron_runtime::weights`.

use castiron_runtime::weights::{BLOCK, Encoding, Layout, Plane};

use super::WgslFault;
use super::panel::{Panels, STEP, Step, Work, float_quad};
use super::shader::Writer;

/// Bytes of a vector of WGSL, a quad's part of a panel's vector.
const VECTOR: usize = 16;

/// The bits of a plane in a step, or at an element: the vector within the plane and the lowest bit of a byte
/// that a step number `step` gives, as expressions.
fn plane_place(plane: &Plane, step: &str) -> (String, Option<String>) {
    match plane.bits {
        1 => ("0u".to_owned(), Some(step.to_owned())),
        2 => (format!("{step} / 2u"), Some(format!("2u*({step} % 2u)"))),
        _ => (step.to_owned(), None),
    }
}

/// Planes with the number of vectors before each.
fn planes(layout: &Layout) -> impl Iterator<Item = (usize, &'static Plane, usize)> {
    let mut before = 0;
    layout.planes.iter().enumerate().map(move |(number, plane)| {
        let at = before;
        before += plane.bits;
        (number, plane, at)
    })
}

impl Panels {
    /// Writes the scales of a run, and a loop over its steps.
    pub(super) fn write_run(&self, w: &mut Writer<'_>, layout: &Layout, work: &mut dyn Work) -> Result<(), WgslFault> {
        for group in 0..self.matrix.groups {
            self.write_scales(w, layout, group);
            let (start, bits) = (layout.integers(0) / VECTOR, layout.bits());
            let run = if layout.is_scaled { format!(" + {}u*run", 4 * bits) } else { String::new() };
            w.line(format!("let words{group} = block{group} + {start}u{run} + quad;"));
        }
        w.open(format!("for (var step = 0u; step < {}u; step++)", BLOCK / STEP));
        let step = Step {
            base: format!("{BLOCK}u*stretch + 4u*step"),
            offsets: (0..STEP).map(|slot| slot % 4 + slot / 4 * BLOCK / 2).collect(),
            lane_offset: "lane % 4u + 16u*(lane / 4u % 2u)",
            may_exceed: !self.matrix.k.is_multiple_of(layout.span),
        };
        work.begin(w, &step)?;
        for group in 0..self.matrix.groups {
            self.write_words(w, layout, group);
        }
        for slot in 0..STEP {
            let mut weights = Vec::new();
            for group in 0..self.matrix.groups {
                w.line(format!("let weight{group}_{slot} = {};", weight(layout, group, slot)));
                weights.push(format!("weight{group}_{slot}"));
            }
            work.multiply(w, &step, slot, &weights)?;
        }
        w.close();
        Ok(())
    }

    /// Writes the scale and minimum of the run, or of each half of it.
    fn write_scales(&self, w: &mut Writer<'_>, layout: &Layout, group: usize) {
        let name = &self.name;
        for (number, what) in ["d", "m"].into_iter().take(1 + usize::from(layout.has_minimum)).enumerate() {
            w.line(format!("let {what}{group}_bits = {name}[block{group} + {}u + quad / 2u];", 2 * number));
            let half = format!("select({what}{group}_bits.xy, {what}{group}_bits.zw, quad % 2u == 1u)");
            w.line(format!("let {what}{group}_half = {half};"));
            w.line(format!("let {what}{group} = {};", float_quad(Encoding::F16, &format!("{what}{group}_half"))));
        }
        let halves = BLOCK / layout.group;
        for half in 0..halves {
            let byte = |first: usize| {
                let at = format!("{}u + {halves}u*run + {half}u", first / VECTOR);
                format!("{name}[block{group} + {at}][quad]")
            };
            let (mut scale, mut minimum) = (format!("d{group}"), format!("m{group}"));
            if layout.is_scaled {
                let bits = format!("vec4<u32>({}) << vec4<u32>(24u, 16u, 8u, 0u)", byte(layout.scale(0)));
                w.line(format!("let scale{group}_{half}_bits = bitcast<vec4<i32>>({bits});"));
                scale = format!("{scale}*vec4<f32>(scale{group}_{half}_bits >> vec4<u32>(24u))");
            }
            w.line(format!("let scale{group}_{half} = {scale};"));
            if layout.is_scaled && layout.has_minimum {
                let bits = byte(layout.minimum(0));
                let bits = format!("vec4<u32>({bits}) >> vec4<u32>(0u, 8u, 16u, 24u)");
                w.line(format!("let minimum{group}_{half}_bits = ({bits}) & vec4<u32>(255u);"));
                minimum = format!("{minimum}*vec4<f32>(minimum{group}_{half}_bits)");
            } else if layout.zero > 0 {
                minimum = format!("-{}.0*scale{group}_{half}", layout.zero);
            }
            if layout.has_minimum || layout.zero > 0 {
                w.line(format!("let minimum{group}_{half} = {minimum};"));
            }
        }
    }

    /// Writes the words of a step that hold the bits of each plane.
    fn write_words(&self, w: &mut Writer<'_>, layout: &Layout, group: usize) {
        for (number, plane, before) in planes(layout) {
            let (vector, bit) = plane_place(plane, "step");
            let word = |vector: &str| format!("{}[words{group} + 4u*({before}u + {vector})]", self.name);
            if plane.bits == 8 {
                for half in 0..2 {
                    let value = word(&format!("{vector} + {}u", 4 * half));
                    w.line(format!("let word{group}_{number}_{half} = bitcast<vec4<i32>>({value});"));
                }
            } else {
                let shifted = bit.map_or(String::new(), |bit| format!(" >> vec4<u32>({bit})"));
                w.line(format!("let word{group}_{number} = {}{shifted};", word(&vector)));
            }
        }
    }

    /// Writes the return of element `k` of column `lane` of the panel that begins at `panel`.
    pub(super) fn write_quantised_element(&self, w: &mut Writer<'_>, layout: &Layout) {
        let (name, bits) = (&self.name, layout.bits());
        w.line(format!("let block = panel + {}u*(k / {}u);", layout.bytes() / VECTOR, layout.span));
        for (number, what) in ["d", "m"].into_iter().take(1 + usize::from(layout.has_minimum)).enumerate() {
            let at = format!("{name}[block + {}u + lane / 8u][lane / 2u % 4u]", 2 * number);
            w.line(format!("let {what} = unpack2x16float({at})[lane % 2u];"));
        }
        let byte = |first: usize| {
            let group = format!("k % {}u / {}u", layout.span, layout.group);
            format!("{name}[block + {}u + {group}][lane / 4u]", first / VECTOR)
        };
        let (mut scale, mut minimum) = ("d".to_owned(), "m".to_owned());
        if layout.is_scaled {
            let bits = format!("bitcast<i32>({})", byte(layout.scale(0)));
            scale = format!("d*f32(extractBits({bits}, 8u*(lane % 4u), 8u))");
            if layout.has_minimum {
                minimum = format!("m*f32(extractBits({}, 8u*(lane % 4u), 8u))", byte(layout.minimum(0)));
            }
        }
        w.line(format!("let scale = {scale};"));
        w.line(format!("let step = k % {}u / 4u;", BLOCK / 2));
        w.line(format!("let half = k / {}u % 2u;", BLOCK / 2));
        let run = format!("{}u*(k % {}u / {BLOCK}u)", 4 * bits, layout.span);
        w.line(format!("let words = block + {}u + {run} + lane / 4u;", layout.integers(0) / VECTOR));
        let mut integer = Vec::new();
        for (_, plane, before) in planes(layout) {
            let (vector, bit) = plane_place(plane, "step");
            if plane.bits == 8 {
                let word = format!("bitcast<i32>({name}[words + 4u*({vector} + 4u*half)][lane % 4u])");
                integer.push(format!("extractBits({word}, 8u*(k % 4u), 8u)"));
            } else {
                let word = format!("{name}[words + 4u*({before}u + {vector})][lane % 4u]");
                let bit = format!("8u*(k % 4u) + 4u*half + {}", bit.as_deref().unwrap_or("0u"));
                integer.push(format!("(extractBits({word}, {bit}, {}u) << {}u)", plane.bits, plane.at));
            }
        }
        w.line(format!("let integer = f32({});", integer.join(" | ")));
        match layout {
            Layout { has_minimum: true, .. } => w.line(format!("return fma(integer, scale, {minimum});")),
            Layout { zero: 0, .. } => w.line("return scale*integer;"),
            Layout { zero, .. } => w.line(format!("return scale*(integer - {zero}.0);")),
        }
    }
}

/// Element `slot` of a step, for four columns.
fn weight(layout: &Layout, group: usize, slot: usize) -> String {
    let (half, byte) = (slot / 4, slot % 4);
    let scaled = half * 16 / layout.group;
    if layout.is_signed() {
        // The sign comes along when the byte is moved to the top and back.
        let word = format!("word{group}_0_{half}");
        let integer = format!("({word} << vec4<u32>({}u)) >> vec4<u32>(24u)", 24 - 8 * byte);
        return format!("scale{group}_{scaled} * vec4<f32>({integer})");
    }
    let bits = planes(layout).map(|(number, plane, _)| {
        let shift = 8 * byte + 4 * half;
        let bits = format!("(word{group}_{number} >> vec4<u32>({shift}u)) & vec4<u32>({}u)", plane.mask());
        if plane.at == 0 { bits } else { format!("(({bits}) << vec4<u32>({}u))", plane.at) }
    });
    let integer = bits.map(|bits| format!("({bits})")).collect::<Vec<_>>().join(" | ");
    format!("fma(vec4<f32>({integer}), scale{group}_{scaled}, minimum{group}_{scaled})")
}

/// Vectors of a panel's block.
pub(super) fn vectors(layout: &Layout) -> usize {
    layout.bytes() / VECTOR
}
