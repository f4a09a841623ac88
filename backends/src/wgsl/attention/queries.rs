//! Many queries: an invocation holds a query and its sums, and all visible keys pass by.

use castiron_ir::Dim;
use castiron_runtime::program::AttentionKernel;

use super::{Widths, divisor, row, score, visible, write_span};
use crate::wgsl::WgslFault;
use crate::wgsl::operand::{LOWEST, literal};
use crate::wgsl::shader::{LANES, Writer, dim_text};
use crate::wgsl::space::unravel;

/// Keys between two corrections of the sums.
const TILE: usize = 8;

/// Writes attention with `size` queries for each workgroup; gives the grid.
pub fn write(w: &mut Writer<'_>, kernel: &AttentionKernel, size: u32) -> Result<Vec<(Dim, u32)>, WgslFault> {
    let widths = Widths::of(kernel)?;
    let [b, g, r, s, ..] = &kernel.extents;
    let rows = r.clone() * s.clone();
    let tiles = rows.div_ceil(size.into());
    let grid = vec![b.clone(), g.clone(), tiles];
    w.line(format!("if (group >= {}) {{ return; }}", dim_text(&Dim::product(&grid))));
    let parts = unravel(w, &grid, "group", "part");
    w.line(format!("let batch = {};", parts[0]));
    w.line(format!("let key_head = {};", parts[1]));
    let (rows_text, s_text) = (dim_text(&rows), dim_text(s));
    w.line(format!("let tile_first = {size}u*{};", parts[2]));
    w.line(format!("let tile_last = min(tile_first + {}u, {rows_text} - 1u);", size - 1));
    w.line(format!("let is_one_head = tile_first / {s_text} == tile_last / {s_text};"));
    w.line(format!("let low_query = select(0u, tile_first % {s_text}, is_one_head);"));
    w.line(format!("let high_query = select({s_text} - 1u, tile_last % {s_text}, is_one_head);"));
    w.line(format!("let number = min(tile_first + local, {rows_text} - 1u);"));
    w.line(format!("let head = number / {s_text};"));
    w.line(format!("let query = number % {s_text};"));
    write_span(w, kernel, "low_query", "high_query")?;
    write_query(w, kernel, &widths)?;
    let is_shared = !w.features().subgroups;
    if is_shared {
        write_shared_span(w, &widths);
    }
    let (first, end) = if is_shared { ("span.x", "span.y") } else { ("first_key", "end_key") };
    w.open(format!("for (var start = {first}; start < {end}; start += {TILE}u)"));
    if is_shared {
        write_tile(w, kernel, &widths, size)?;
    }
    write_scores(w, kernel, &widths)?;
    write_correction(w, &widths);
    write_values(w, kernel, &widths)?;
    w.close();
    write_result(w, kernel, &widths)?;
    Ok(grid.into_iter().map(|extent| (extent, 1)).collect())
}

/// The query, multiplied by the scale, in vectors of four, and the sums.
fn write_query(w: &mut Writer<'_>, kernel: &AttentionKernel, widths: &Widths) -> Result<(), WgslFault> {
    let q = row(w, kernel, &kernel.q, &["batch", "key_head", "head", "query"], "q_at")?;
    // A loop over an array keeps the shader small; what is used often then has a name.
    let quads = widths.key.div_ceil(4);
    w.line(format!("var loaded: array<vec4<f32>, {quads}>;"));
    w.open(format!("for (var d = 0u; d < {}u; d++)", widths.key));
    let value = q.load(w, "d")?;
    w.line(format!("loaded[d / 4u][d % 4u] = {value};"));
    w.close();
    let scale = literal(w, kernel.scale);
    (0..quads).for_each(|c| w.line(format!("let q{c} = {scale} * loaded[{c}];")));
    for c in 0..widths.value.div_ceil(4) {
        w.line(format!("var sum{c} = vec4<f32>(0.0);"));
    }
    w.line(format!("var largest = {LOWEST};"));
    w.line("var total = 0.0;");
    w.line(format!("var scores: array<f32, {TILE}>;"));
    Ok(())
}

/// Loops around barriers must be the same for the whole workgroup.
fn write_shared_span(w: &mut Writer<'_>, widths: &Widths) {
    w.shared("shared_span", "vec2<u32>");
    w.shared("keys", &format!("array<vec4<f32>, {}>", TILE * widths.key.div_ceil(4)));
    w.shared("values", &format!("array<vec4<f32>, {}>", TILE * widths.value.div_ceil(4)));
    w.line("if (local == 0u) { shared_span = vec2<u32>(first_key, end_key); }");
    w.line("let span = workgroupUniformLoad(&shared_span);");
}

/// Copies a tile of keys and values to workgroup memory.
fn write_tile(w: &mut Writer<'_>, kernel: &AttentionKernel, widths: &Widths, size: u32) -> Result<(), WgslFault> {
    w.line("workgroupBarrier();");
    for (view, width, name) in [(&kernel.k, widths.key, "keys"), (&kernel.v, widths.value, "values")] {
        let quads = width.div_ceil(4);
        w.open(format!("for (var at = local; at < {}u; at += {size}u)", TILE * quads));
        w.line(format!("let key = min(start + at / {quads}u, end_key - 1u);"));
        w.line(format!("let d = 4u*(at % {quads}u);"));
        let operand = row(w, kernel, view, &["batch", "key_head", "key"], "row_at")?;
        let mut elements = Vec::new();
        for j in 0..4 {
            let value = operand.load(w, &format!("min(d + {j}u, {}u)", width - 1))?;
            elements.push(value);
        }
        w.line(format!("{name}[at] = vec4<f32>({});", elements.join(", ")));
        w.close();
    }
    w.line("workgroupBarrier();");
    Ok(())
}

/// Four elements of key or value number `j` of the tile.
fn quad(w: &Writer<'_>, name: &str, width: usize, c: usize) -> String {
    let quads = width.div_ceil(4);
    if !w.features().subgroups {
        return format!("{name}[{quads}u*j + {c}u]");
    }
    let element = |d: usize| format!("subgroupBroadcast({name}{}, {}u)", d / LANES, d % LANES);
    let elements: Vec<String> =
        (4 * c..4 * c + 4).map(|d| if d < width { element(d) } else { "0.0".to_owned() }).collect();
    format!("vec4<f32>({})", elements.join(", "))
}

/// What lanes load of key or value `key`.
fn write_lane_loads(
    w: &mut Writer<'_>,
    kernel: &AttentionKernel,
    view: &castiron_runtime::program::view::View,
    width: usize,
    name: &str,
) -> Result<(), WgslFault> {
    if !w.features().subgroups {
        return Ok(());
    }
    let operand = row(w, kernel, view, &["batch", "key_head", "near_key"], "row_at")?;
    for part in 0..width.div_ceil(LANES) {
        let at = format!("{}u + lane % {LANES}u", part * LANES);
        let at = if (part + 1) * LANES > width { format!("min({at}, {}u)", width - 1) } else { at };
        let value = operand.load(w, &format!("({at})"))?;
        w.line(format!("let {name}{part} = {value};"));
    }
    Ok(())
}

fn write_scores(w: &mut Writer<'_>, kernel: &AttentionKernel, widths: &Widths) -> Result<(), WgslFault> {
    w.line("var next = largest;");
    w.open(format!("for (var j = 0u; j < {TILE}u; j++)"));
    w.line("let key = start + j;");
    w.line("let near_key = min(key, end_key - 1u);");
    write_lane_loads(w, kernel, &kernel.k, widths.key, "keys")?;
    w.line("var dot = vec4<f32>(0.0);");
    for c in 0..widths.key.div_ceil(4) {
        let key = quad(w, "keys", widths.key, c);
        w.line(format!("dot = fma(q{c}, {key}, dot);"));
    }
    w.line("let product = (dot.x + dot.y) + (dot.z + dot.w);");
    let score = score(w, kernel, "product", ["head", "query", "key"])?;
    let visible = visible(w, kernel, "query", "key")?;
    w.line(format!("scores[j] = select({LOWEST}, {score}, {visible});"));
    w.line("next = max(next, scores[j]);");
    w.close();
    Ok(())
}

/// Corrects the sums for a new largest score.
fn write_correction(w: &mut Writer<'_>, widths: &Widths) {
    w.line("let correction = exp(largest - next);");
    w.line("largest = next;");
    w.line("total = total * correction;");
    for c in 0..widths.value.div_ceil(4) {
        w.line(format!("sum{c} = sum{c} * correction;"));
    }
}

fn write_values(w: &mut Writer<'_>, kernel: &AttentionKernel, widths: &Widths) -> Result<(), WgslFault> {
    w.open(format!("for (var j = 0u; j < {TILE}u; j++)"));
    w.line("let near_key = min(start + j, end_key - 1u);");
    write_lane_loads(w, kernel, &kernel.v, widths.value, "values")?;
    w.line(format!("let p = select(exp(scores[j] - largest), 0.0, scores[j] == {LOWEST});"));
    w.line("total += p;");
    for c in 0..widths.value.div_ceil(4) {
        let value = quad(w, "values", widths.value, c);
        w.line(format!("sum{c} = fma(vec4<f32>(p), {value}, sum{c});"));
    }
    w.close();
    Ok(())
}

/// A query that sees no key gives zeros.
fn write_result(w: &mut Writer<'_>, kernel: &AttentionKernel, widths: &Widths) -> Result<(), WgslFault> {
    let divisor = divisor(w, kernel, ["total", "largest"], ["batch", "key_head", "head", "query"])?;
    w.line(format!("let factor = select(1.0 / {divisor}, 0.0, total == 0.0);"));
    w.open("if (tile_first + local <= tile_last)");
    let out = row(w, kernel, &kernel.out, &["batch", "key_head", "head", "query"], "out_at")?;
    let quads = widths.value.div_ceil(4);
    let sums: Vec<String> = (0..quads).map(|c| format!("sum{c}")).collect();
    w.line(format!("var result = array<vec4<f32>, {quads}>({});", sums.join(", ")));
    w.open(format!("for (var e = 0u; e < {}u; e++)", widths.value));
    out.store(w, "e", "factor * result[e / 4u][e % 4u]")?;
    w.close();
    w.close();
    Ok(())
}
