//! Attention with an online softmax (arXiv:1805.02867, arXiv:2205.14135).
//!
//! ```text
//!  queries.rs   many queries: an invocation for each, all keys pass by it
//!  keys.rs      few queries: an invocation for each key, then one for each channel of the values;
//!               long caches are cut into chunks, and what they give is merged
//! ```

pub(super) mod keys;
pub(super) mod queries;

use castiron_ir::Dim;
use castiron_runtime::program::AttentionKernel;
use castiron_runtime::program::gpu::{AdapterClass, Condition, Features};
use castiron_runtime::program::view::View;

use super::WgslFault;
use super::operand::{Operand, address, literal, load, product, sum};
use super::shader::{Writer, dim_text};

/// Most queries of a head for which keys are spread over invocations.
const FEW_QUERIES: u32 = 4;

/// A way to compute attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// `size` queries form a workgroup; keys come through lanes, or through workgroup memory.
    Queries { size: u32 },
    /// `size` keys at once; all keys in one workgroup, or chunks of them.
    Keys { size: u32, is_cut: bool },
}

/// The ways to compute attention, the best first.
pub(super) fn methods(kernel: &AttentionKernel) -> Vec<(Condition, Method)> {
    let [_, _, _, s, t, ..] = &kernel.extents;
    let subgroups = Features::SUBGROUPS;
    let mut methods = Vec::new();
    let sizes = [
        (AdapterClass::Cpu, subgroups, 8),
        (AdapterClass::Cpu, Features::NONE, 8),
        (AdapterClass::Gpu, Features::NONE, 64),
    ];
    for (class, features, size) in sizes {
        let condition = |at_most| Condition { features, class: Some(class), at_most, stored: None };
        let few = condition(Some((s.clone(), FEW_QUERIES)));
        // One workgroup has all keys if these are few, whatever the number of queries is then.
        if t.as_constant().is_none_or(|t| t <= keys::CHUNK as i64) {
            let product = s.clone() * t.clone();
            methods.push((condition(Some((product, keys::CHUNK))), Method::Keys { size, is_cut: false }));
        }
        methods.push((few, Method::Keys { size, is_cut: true }));
        let size = if class == AdapterClass::Cpu { 32 } else { 64 };
        methods.push((condition(None), Method::Queries { size }));
    }
    methods
}

/// Extents of the heads' queries, keys and values, which must be known when a model is compiled.
struct Widths {
    key: usize,
    value: usize,
}

impl Widths {
    fn of(kernel: &AttentionKernel) -> Result<Widths, WgslFault> {
        let constant = |dim: &Dim| dim.as_constant().and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
        match (constant(&kernel.extents[5]), constant(&kernel.extents[6])) {
            (Some(key), Some(value)) => Ok(Widths { key, value }),
            _ => Err(WgslFault::Symbolic("the width of a head")),
        }
    }
}

/// Writes the first key and the end of the keys that queries `low ..= high` of batch entry `batch`
/// see: `first_key` and `end_key`.
fn write_span(w: &mut Writer<'_>, kernel: &AttentionKernel, low: &str, high: &str) -> Result<(), WgslFault> {
    let keys = dim_text(&kernel.extents[4]);
    let past = past(w, kernel)?;
    w.line(format!("let past = {past};"));
    match (kernel.causal, kernel.window) {
        (_, Some(0)) => w.line("let end_key = 0u;"),
        (true, _) => w.line(format!("let end_key = u32(clamp(past + i32({high}) + 1, 0, i32({keys})));")),
        (false, Some(window)) => {
            let window = reach(window);
            w.line(format!("let end_key = u32(clamp(past + i32({high}) + {window}, 0, i32({keys})));"));
        }
        (false, None) => w.line(format!("let end_key = {keys};")),
    }
    match kernel.window {
        Some(window) => {
            let window = reach(window);
            w.line(format!("let first_key = u32(clamp(past + i32({low}) + 1 - {window}, 0, i32(end_key)));"));
        }
        None => w.line("let first_key = 0u;"),
    }
    Ok(())
}

/// A window, cut off where sums with positions would not fit.
fn reach(window: usize) -> i32 {
    i32::try_from(window).unwrap_or(i32::MAX).min(i32::MAX / 4)
}

/// Keys that came before the queries; positions beyond any cache are cut off, so that sums fit.
fn past(w: &mut Writer<'_>, kernel: &AttentionKernel) -> Result<String, WgslFault> {
    let Some(view) = &kernel.past else { return Ok("0".to_owned()) };
    let at = address(w, view, &["batch".to_owned()])?;
    let name = w.place(&view.place, "i32")?;
    Ok(format!("clamp({name}[{at}], -1073741824, 1073741824)"))
}

/// The condition under which query `query` sees key `key`.
fn visible(w: &mut Writer<'_>, kernel: &AttentionKernel, query: &str, key: &str) -> Result<String, WgslFault> {
    let mut all = vec![format!("{key} < end_key")];
    if kernel.causal {
        all.push(format!("i32({key}) <= past + i32({query})"));
    }
    if let Some(window) = kernel.window {
        let window = reach(window);
        all.push(format!("i32({key}) > past + i32({query}) - {window}"));
        if !kernel.causal {
            all.push(format!("i32({key}) < past + i32({query}) + {window}"));
        }
    }
    if let Some(mask) = &kernel.mask {
        let at = address(w, mask, &["batch".to_owned(), format!("min({key}, {} - 1u)", dim_text(&kernel.extents[4]))])?;
        all.push(format!("{} != 0.0", load(w, mask, &at)?));
    }
    Ok(all.join(" && "))
}

/// The score of a query and a key, given the scaled product.
fn score(
    w: &mut Writer<'_>,
    kernel: &AttentionKernel,
    dot: &str,
    [head, query, key]: [&str; 3],
) -> Result<String, WgslFault> {
    let mut text = dot.to_owned();
    if let Some(cap) = kernel.soft_cap {
        let cap = literal(w, cap);
        let tanh = w.function(super::library::Function::Tanh);
        text = format!("{cap} * {tanh}({text} / {cap})");
    }
    if let Some(bias) = &kernel.bias {
        let key = format!("min({key}, {} - 1u)", dim_text(&kernel.extents[4]));
        let indices = ["batch", "key_head", head, query].map(str::to_owned);
        let base = address(w, bias, &indices)?;
        let at = sum(&base, &product(&bias.strides[4], &key));
        text = format!("({text} + {})", load(w, bias, &at)?);
    }
    Ok(text)
}

/// Writes the address of a row of queries, keys, values or the result.
fn row<'v>(
    w: &mut Writer<'_>,
    kernel: &AttentionKernel,
    view: &'v View,
    indices: &[&str],
    name: &str,
) -> Result<Operand<'v>, WgslFault> {
    let indices: Vec<String> = indices.iter().map(|&i| i.to_owned()).collect();
    let read = [&kernel.q, &kernel.k, &kernel.v];
    w.operand = read.iter().position(|operand| std::ptr::eq(*operand, view)).unwrap_or(0) as u32;
    Operand::new(w, view, &indices, name)
}

/// The sum of a query's weights with its sink, given the sum over keys and the largest score.
fn divisor(
    w: &mut Writer<'_>,
    kernel: &AttentionKernel,
    [total, largest]: [&str; 2],
    indices: [&str; 4],
) -> Result<String, WgslFault> {
    let Some(sinks) = &kernel.sinks else { return Ok(total.to_owned()) };
    let at = address(w, sinks, &indices.map(str::to_owned))?;
    Ok(format!("({total} + exp(min({} - {largest}, 88.0)))", load(w, sinks, &at)?))
}
