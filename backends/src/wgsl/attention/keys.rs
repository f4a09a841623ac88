//! Few queries: an invocation for each key computes scores, then one for each channel adds values.
//!
//! A workgroup has one query position, the heads that share its keys, and a chunk of the keys. Keys
//! and values are read once for all these heads.

use castiron_ir::Dim;
use castiron_runtime::program::AttentionKernel;
use castiron_runtime::program::row::RowReduce;

use super::{Widths, divisor, row, score, visible, write_span};
use crate::wgsl::WgslFault;
use crate::wgsl::operand::{LOWEST, Operand, literal};
use crate::wgsl::rows::reduce_group;
use crate::wgsl::shader::{LANES, Writer, dim_text};
use crate::wgsl::space::unravel;

/// Keys of a chunk.
pub const CHUNK: u32 = 512;
/// Most heads of a workgroup.
const MOST_HEADS: i64 = 4;

/// How heads and keys are divided.
struct Division {
    /// Heads of a workgroup.
    heads: usize,
    /// Workgroups for the heads that share keys.
    head_groups: Dim,
    /// Chunks of the keys.
    chunks: Dim,
}

impl Division {
    fn of(kernel: &AttentionKernel, is_cut: bool) -> Result<Division, WgslFault> {
        let shared = kernel.extents[2].as_constant().ok_or(WgslFault::Symbolic("the number of heads for one key"))?;
        let heads = (1..=MOST_HEADS).rev().find(|n| shared % n == 0).unwrap_or(1);
        let chunks = if is_cut { kernel.extents[4].div_ceil(CHUNK.into()) } else { Dim::constant(1) };
        Ok(Division { heads: heads as usize, head_groups: Dim::constant(shared / heads), chunks })
    }

    fn grid(&self, kernel: &AttentionKernel) -> Vec<Dim> {
        let [b, g, _, s, ..] = &kernel.extents;
        vec![b.clone(), g.clone(), self.head_groups.clone(), s.clone(), self.chunks.clone()]
    }
}

/// Bytes of what chunks give: for each query of each head, and each chunk, sums of values, the largest
/// score, and the sum of weights.
pub fn scratch(kernel: &AttentionKernel) -> Result<Dim, WgslFault> {
    let chunks = kernel.extents[4].div_ceil(CHUNK.into());
    let record = Widths::of(kernel)?.value + 2;
    Ok(Dim::product(&kernel.extents[..4]) * chunks * Dim::from(4 * record))
}

/// Writes attention with `size` keys at once; gives the grid.
pub fn write(
    w: &mut Writer<'_>,
    kernel: &AttentionKernel,
    size: u32,
    is_cut: bool,
) -> Result<Vec<(Dim, u32)>, WgslFault> {
    let widths = Widths::of(kernel)?;
    let division = Division::of(kernel, is_cut)?;
    let grid = division.grid(kernel);
    w.line(format!("if (group >= {}) {{ return; }}", dim_text(&Dim::product(&grid))));
    let parts = unravel(w, &grid, "group", "part");
    w.line(format!("let batch = {};", parts[0]));
    w.line(format!("let key_head = {};", parts[1]));
    w.line(format!("let first_head = {}u*{};", division.heads, parts[2]));
    w.line(format!("let query = {};", parts[3]));
    write_span(w, kernel, "query", "query")?;
    w.line(format!("let start = max(first_key, {CHUNK}u*{});", parts[4]));
    w.line(format!("let end = min(end_key, {CHUNK}u*{} + {CHUNK}u);", parts[4]));
    w.shared("scores", &format!("array<f32, {}>", division.heads as u32 * CHUNK));
    write_scores(w, kernel, &widths, &division, size)?;
    write_weights(w, &division, size);
    let scratch = if is_cut { Some(write_records(w, kernel, &widths, &division, &parts[4])?) } else { None };
    write_values(w, kernel, &widths, &division, size, &mut |w| {
        let Some(scratch) = &scratch else { return write_result(w, kernel, &division) };
        (0..division.heads).for_each(|h| w.line(format!("{scratch}[record{h} + channel] = sum{h};")));
        Ok(())
    })?;
    Ok(grid.into_iter().map(|extent| (extent, 1)).collect())
}

/// Adds the products of a few channels of queries and keys.
fn write_dots(
    w: &mut Writer<'_>,
    queries: &[Operand<'_>],
    k: &Operand<'_>,
    (first, count, width): (&str, usize, usize),
) -> Result<(), WgslFault> {
    let by_lanes = w.features().subgroups;
    if by_lanes {
        for (h, q) in queries.iter().enumerate() {
            let value = q.load(w, &format!("min({first} + lane % {LANES}u, {}u)", width - 1))?;
            w.line(format!("let q{h} = {value};"));
        }
    }
    for j in 0..count {
        let value = k.load(w, &format!("({first} + {j}u)"))?;
        w.line(format!("let k{j} = {value};"));
        for h in 0..queries.len() {
            let q = if by_lanes {
                format!("subgroupBroadcast(q{h}, {j}u)")
            } else {
                format!("queries[{}u + {first} + {j}u]", h * width)
            };
            w.line(format!("dot{h} = fma({q}, k{j}, dot{h});"));
        }
    }
    Ok(())
}

/// Loads the queries of all heads for all invocations, and writes the scores of the chunk.
fn write_scores(
    w: &mut Writer<'_>,
    kernel: &AttentionKernel,
    widths: &Widths,
    division: &Division,
    size: u32,
) -> Result<(), WgslFault> {
    let scale = literal(w, kernel.scale);
    let by_lanes = w.features().subgroups;
    if !by_lanes {
        w.shared("queries", &format!("array<f32, {}>", division.heads * widths.key));
    }
    let mut queries = Vec::new();
    for h in 0..division.heads {
        w.line(format!("let head{h} = first_head + {h}u;"));
        let q = row(w, kernel, &kernel.q, &["batch", "key_head", &format!("head{h}"), "query"], &format!("q{h}_at"))?;
        if !by_lanes {
            w.open(format!("for (var d = local; d < {}u; d += {size}u)", widths.key));
            let value = q.load(w, "d")?;
            w.line(format!("queries[{}u + d] = {value};", h * widths.key));
            w.close();
        }
        queries.push(q);
        w.line(format!("var largest{h} = {LOWEST};"));
    }
    if !by_lanes {
        w.line("workgroupBarrier();");
    }
    // All lanes walk as long as one has a key, since they pass queries around.
    w.open(format!("for (var tile = start; tile < end; tile += {size}u)"));
    w.line("let key = tile + local;");
    w.line("let near_key = min(key, end - 1u);");
    let k = row(w, kernel, &kernel.k, &["batch", "key_head", "near_key"], "k_at")?;
    (0..division.heads).for_each(|h| w.line(format!("var dot{h} = 0.0;")));
    let whole = widths.key / LANES * LANES;
    if whole > 0 {
        w.open(format!("for (var d = 0u; d < {whole}u; d += {LANES}u)"));
        write_dots(w, &queries, &k, ("d", LANES, widths.key))?;
        w.close();
    }
    if whole < widths.key {
        write_dots(w, &queries, &k, (&format!("{whole}u"), widths.key - whole, widths.key))?;
    }
    let visible = visible(w, kernel, "query", "key")?;
    w.line(format!("let is_visible = key < end && {visible};"));
    for h in 0..division.heads {
        let score = score(w, kernel, &format!("({scale} * dot{h})"), [&format!("head{h}"), "query", "key"])?;
        w.line(format!("let score{h} = select({LOWEST}, {score}, is_visible);"));
        w.line(format!("largest{h} = max(largest{h}, score{h});"));
        w.line(format!("if (key < end) {{ scores[{}u + key - start] = score{h}; }}", h as u32 * CHUNK));
    }
    w.close();
    Ok(())
}

/// Scores become weights; `total` is their sum.
fn write_weights(w: &mut Writer<'_>, division: &Division, size: u32) {
    for h in 0..division.heads {
        reduce_group(w, &format!("largest{h}"), RowReduce::Max, size);
        w.line(format!("var total{h} = 0.0;"));
    }
    w.line("workgroupBarrier();");
    w.open(format!("for (var at = local; at + start < end; at += {size}u)"));
    for h in 0..division.heads {
        let place = format!("scores[{}u + at]", h as u32 * CHUNK);
        w.line(format!("let p{h} = select(exp({place} - largest{h}), 0.0, {place} == {LOWEST});"));
        w.line(format!("{place} = p{h};"));
        w.line(format!("total{h} += p{h};"));
    }
    w.close();
    for h in 0..division.heads {
        reduce_group(w, &format!("total{h}"), RowReduce::Sum, size);
    }
    w.line("workgroupBarrier();");
}

/// Adds the values of the chunk: an invocation has channels `local`, `local + size`, … in turn, so that
/// it needs few sums at once.
fn write_values(
    w: &mut Writer<'_>,
    kernel: &AttentionKernel,
    widths: &Widths,
    division: &Division,
    size: u32,
    finish: &mut dyn FnMut(&mut Writer<'_>) -> Result<(), WgslFault>,
) -> Result<(), WgslFault> {
    let by_lanes = w.features().subgroups;
    let step = if by_lanes { LANES } else { 1 };
    let rounds = widths.value.div_ceil(size as usize);
    w.open(format!("for (var round = 0u; round < {rounds}u; round++)"));
    w.line(format!("let channel = {size}u*round + local;"));
    w.line(format!("let near_channel = min(channel, {}u);", widths.value - 1));
    (0..division.heads).for_each(|h| w.line(format!("var sum{h} = 0.0;")));
    w.open(format!("for (var first = start; first < end; first += {step}u)"));
    if by_lanes {
        for h in 0..division.heads {
            let at = format!("first + lane % {LANES}u");
            let place = format!("scores[{}u + min({at}, end - 1u) - start]", h as u32 * CHUNK);
            w.line(format!("let p{h} = select(0.0, {place}, {at} < end);"));
        }
    }
    for j in 0..step {
        w.line(format!("let key{j} = min(first + {j}u, end - 1u);"));
        let v = row(w, kernel, &kernel.v, &["batch", "key_head", &format!("key{j}")], &format!("v{j}_at"))?;
        let value = v.load(w, "near_channel")?;
        w.line(format!("let v{j} = {value};"));
        for h in 0..division.heads {
            let weight = if by_lanes {
                format!("subgroupBroadcast(p{h}, {j}u)")
            } else {
                format!("scores[{}u + first - start]", h as u32 * CHUNK)
            };
            w.line(format!("sum{h} = fma({weight}, v{j}, sum{h});"));
        }
    }
    w.close();
    w.open(format!("if (channel < {}u)", widths.value));
    finish(w)?;
    w.close();
    w.close();
    Ok(())
}

/// A query that sees no key gives zeros.
fn write_result(w: &mut Writer<'_>, kernel: &AttentionKernel, division: &Division) -> Result<(), WgslFault> {
    for h in 0..division.heads {
        let out =
            row(w, kernel, &kernel.out, &["batch", "key_head", &format!("head{h}"), "query"], &format!("out{h}_at"))?;
        let (head, of) = (format!("head{h}"), [format!("total{h}"), format!("largest{h}")]);
        let divisor = divisor(w, kernel, [&of[0], &of[1]], ["batch", "key_head", &head, "query"])?;
        out.store(w, "channel", &format!("select(sum{h} / {divisor}, 0.0, total{h} == 0.0)"))?;
    }
    Ok(())
}

/// Writes where the records of a chunk lie, with what they hold for all channels; gives their memory.
fn write_records(
    w: &mut Writer<'_>,
    kernel: &AttentionKernel,
    widths: &Widths,
    division: &Division,
    chunk: &str,
) -> Result<String, WgslFault> {
    let scratch = w.scratch(0)?;
    let [_, g, r, s, ..] = &kernel.extents;
    let (g, r, s, chunks) = (dim_text(g), dim_text(r), dim_text(s), dim_text(&division.chunks));
    let record = widths.value + 2;
    for h in 0..division.heads {
        w.line(format!("let number{h} = ((batch*{g} + key_head)*{r} + head{h})*{s} + query;"));
        w.line(format!("let record{h} = {record}u*(number{h}*{chunks} + {chunk});"));
        w.open("if (local == 0u)");
        w.line(format!("{scratch}[record{h} + {}u] = largest{h};", widths.value));
        w.line(format!("{scratch}[record{h} + {}u] = total{h};", widths.value + 1));
        w.close();
    }
    Ok(scratch)
}

/// Writes how the chunks of each query are put together; gives the grid.
pub fn write_merge(w: &mut Writer<'_>, kernel: &AttentionKernel, size: u32) -> Result<Vec<(Dim, u32)>, WgslFault> {
    let widths = Widths::of(kernel)?;
    let grid = kernel.extents[..4].to_vec();
    w.line(format!("if (group >= {}) {{ return; }}", dim_text(&Dim::product(&grid))));
    let indices = unravel(w, &grid, "group", "part");
    let names: Vec<&str> = indices.iter().map(String::as_str).collect();
    let out = row(w, kernel, &kernel.out, &names, "out_at")?;
    let scratch = w.scratch(0)?;
    let (chunks, record) = (dim_text(&kernel.extents[4].div_ceil(CHUNK.into())), widths.value + 2);
    w.line(format!("let first = {record}u*group*{chunks};"));
    w.line(format!("let end = first + {record}u*{chunks};"));
    w.line(format!("var largest = {LOWEST};"));
    w.open(format!("for (var at = first; at < end; at += {record}u)"));
    w.line(format!("largest = max(largest, {scratch}[at + {}u]);", widths.value));
    w.close();
    w.open(format!("for (var channel = local; channel < {}u; channel += {size}u)", widths.value));
    w.line("var sum = 0.0;");
    w.line("var total = 0.0;");
    w.open(format!("for (var at = first; at < end; at += {record}u)"));
    w.line(format!("let correction = exp({scratch}[at + {}u] - largest);", widths.value));
    w.line(format!("total = fma(correction, {scratch}[at + {}u], total);", widths.value + 1));
    w.line(format!("sum = fma(correction, {scratch}[at + channel], sum);"));
    w.close();
    let [batch, key_head, head, query] = names[..] else { return Err(WgslFault::Symbolic("a number of heads")) };
    let divisor = divisor(w, kernel, ["total", "largest"], [batch, key_head, head, query])?;
    w.line(format!("let factor = select(1.0 / {divisor}, 0.0, total == 0.0);"));
    out.store(w, "channel", "factor * sum")?;
    w.close();
    Ok(grid.into_iter().map(|extent| (extent, 1)).collect())
}
