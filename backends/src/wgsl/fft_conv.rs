//! Long convolutions: directly, an invocation for each result, or by transforms of segments in workgroup memory.
//!
//! A row of `u` is cut into segments, and each is transformed with the one before it; segments of `k` are transformed
//! with zeros after them. Segment `i` of the result is the second half of `F⁻¹(Σ_b K_b ⊙ U_{i-b})`: overlap–save with
//! a partitioned kernel, which takes any length. Spectra of real rows are kept to their middle.

use castiron_ir::{DType, Dim};
use castiron_runtime::program::FftConv;
use castiron_runtime::program::gpu::Condition;
use castiron_runtime::program::view::View;

use super::WgslFault;
use super::library::Function;
use super::operand::{Operand, address};
use super::shader::{MAP_GROUP, Writer, dim_text};
use super::space::unravel;

/// Elements of a segment: two of them are transformed in passes of radix 4.
const SEGMENT: usize = 512;
const POINTS: usize = 2 * SEGMENT;
/// Invocations of a workgroup, each of which does one butterfly of each pass.
const GROUP: usize = POINTS / 4;
/// Words of a spectrum.
const WORDS: usize = 2 * (SEGMENT + 1);
/// Up to so many results are summed directly.
const FEW_RESULTS: u32 = 64;
/// Words that every adapter binds at once.
const MOST_WORDS: u32 = 1 << 25;

/// Who does what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Method {
    /// An invocation for each result.
    Direct,
    /// Transforms of segments.
    Segments,
}

/// The ways to execute a convolution, the best first.
pub(super) fn methods(c: &FftConv) -> Vec<(Condition, Method)> {
    let at_most = |dim: Dim, most: u32| Condition { at_most: Some((dim, most)), ..Condition::default() };
    let words = scratch(c).into_iter().fold(Dim::constant(0), |sum, bytes| sum + bytes);
    vec![
        (at_most(c.length.clone(), FEW_RESULTS), Method::Direct),
        (at_most(words, MOST_WORDS), Method::Segments),
        (Condition::default(), Method::Direct),
    ]
}

/// Bytes of the spectra of `u` and of `k`.
pub(super) fn scratch(c: &FftConv) -> Vec<Dim> {
    let bytes = Dim::from(4 * WORDS);
    let u = Dim::product(&c.space) * segments(&c.inputs) * bytes.clone();
    vec![u, Dim::product(&kernel_space(c)) * segments(&c.taps) * bytes]
}

fn segments(row: &Dim) -> Dim {
    row.div_ceil(SEGMENT as i64)
}

/// The axes along which kernels differ.
fn kernel_space(c: &FftConv) -> Vec<Dim> {
    let is_same = |stride: &Dim| stride.as_constant() == Some(0);
    let extent = |(stride, extent): (&Dim, &Dim)| if is_same(stride) { Dim::constant(1) } else { extent.clone() };
    c.k.strides.iter().zip(&c.space).map(extent).collect()
}

type Grid = (Vec<(Dim, u32)>, u32);

/// Writes the direct sums; gives the grid and the workgroup's size.
pub(super) fn write_direct(w: &mut Writer<'_>, c: &FftConv) -> Result<Grid, WgslFault> {
    let space: Vec<Dim> = c.space.iter().chain([&c.length]).cloned().collect();
    let count = Dim::product(&space);
    w.line(format!("let element = {MAP_GROUP}u*group + local;"));
    w.line(format!("if (element >= {}) {{ return; }}", dim_text(&count)));
    let indices = unravel(w, &space, "element", "i");
    let (place, outer) = indices.split_last().ok_or(WgslFault::Order)?;
    write_begin(w, c, outer)?;
    w.line(format!("let place = begin + {place};"));
    let [u, k] = operands(w, c, outer)?;
    w.operand += 1;
    let out = Operand::new(w, &c.out, outer, "y_at")?;
    let taps = dim_text(&c.taps);
    w.line("var sum = 0.0;");
    w.open(format!("for (var at = select(0u, place + 1u - {taps}, place >= {taps}); at <= place; at++)"));
    let (x, tap) = (u.load(w, "at")?, k.load(w, "(place - at)")?);
    w.line(format!("sum = fma({x}, {tap}, sum);"));
    w.close();
    out.store(w, place, "sum")?;
    Ok((vec![(count, MAP_GROUP)], MAP_GROUP))
}

/// Where the results of a row begin.
fn write_begin(w: &mut Writer<'_>, c: &FftConv, outer: &[String]) -> Result<(), WgslFault> {
    let Some(past) = &c.past else {
        w.line("let begin = 0u;");
        return Ok(());
    };
    w.operand = 2;
    let at = address(w, past, &outer[..1])?;
    if past.dtype != DType::I32 {
        return Err(WgslFault::Loaded(past.dtype));
    }
    let name = w.place(&past.place, "i32")?;
    let bound = dim_text(&(c.inputs.clone() - c.length.clone() + Dim::constant(1)));
    let begin = w.checked_index(&format!("{name}[{at}]"), &bound)?;
    w.line(format!("let begin = {begin};"));
    Ok(())
}

fn operands<'v>(w: &mut Writer<'_>, c: &'v FftConv, outer: &[String]) -> Result<[Operand<'v>; 2], WgslFault> {
    w.operand = 0;
    let u = Operand::new(w, &c.u, outer, "u_at")?;
    w.operand = 1;
    Ok([u, Operand::new(w, &c.k, outer, "k_at")?])
}

/// Writes the transform of each segment of `u`, with the segment before it.
pub(super) fn write_sequence(w: &mut Writer<'_>, c: &FftConv) -> Result<Grid, WgslFault> {
    let space: Vec<Dim> = c.space.iter().cloned().chain([segments(&c.inputs)]).collect();
    let indices = write_groups(w, &space);
    let (segment, outer) = indices.split_last().ok_or(WgslFault::Order)?;
    write_begin(w, c, outer)?;
    // What a cache holds beyond may be of another text.
    let read = if c.past.is_some() { format!("begin + {}", dim_text(&c.length)) } else { dim_text(&c.inputs) };
    w.line(format!("let end = {read};"));
    w.line(format!("let first = {SEGMENT}u*{segment};"));
    let is_read = format!("first + i >= {SEGMENT}u && first + i - {SEGMENT}u < end");
    w.operand = 0;
    write_spectrum(w, (&c.u, outer), (&is_read, &format!("(first + i - {SEGMENT}u)")), 0)?;
    Ok((vec![(Dim::product(&space), 1)], GROUP as u32))
}

/// Writes the transform of each segment of `k`, with zeros after it.
pub(super) fn write_kernel(w: &mut Writer<'_>, c: &FftConv) -> Result<Grid, WgslFault> {
    let space: Vec<Dim> = kernel_space(c).into_iter().chain([segments(&c.taps)]).collect();
    let indices = write_groups(w, &space);
    let (segment, outer) = indices.split_last().ok_or(WgslFault::Order)?;
    w.line(format!("let first = {SEGMENT}u*{segment};"));
    let is_read = format!("i < {SEGMENT}u && first + i < {}", dim_text(&c.taps));
    w.operand = 1;
    write_spectrum(w, (&c.k, outer), (&is_read, "(first + i)"), 1)?;
    Ok((vec![(Dim::product(&space), 1)], GROUP as u32))
}

/// A workgroup for each element of a space.
fn write_groups(w: &mut Writer<'_>, space: &[Dim]) -> Vec<String> {
    w.shared("points", &format!("array<vec2<f32>, {POINTS}>"));
    w.line(format!("if (group >= {}) {{ return; }}", dim_text(&Dim::product(space))));
    unravel(w, space, "group", "i")
}

/// Transforms what a condition lets through, and writes the first half of the spectrum.
fn write_spectrum(
    w: &mut Writer<'_>,
    (view, outer): (&View, &[String]),
    (is_read, at): (&str, &str),
    scratch: u32,
) -> Result<(), WgslFault> {
    let operand = Operand::new(w, view, outer, "row_at")?;
    w.open(format!("for (var i = local; i < {POINTS}u; i += {GROUP}u)"));
    w.line("var value = 0.0;");
    w.open(format!("if ({is_read})"));
    let loaded = operand.load(w, at)?;
    w.line(format!("value = {loaded};"));
    w.close();
    w.line("points[i] = vec2<f32>(value, 0.0);");
    w.close();
    write_transform(w, false);
    let to = w.scratch(scratch)?;
    w.open(format!("for (var i = local; i <= {SEGMENT}u; i += {GROUP}u)"));
    w.line(format!("let to = {WORDS}u*group + 2u*i;"));
    w.line(format!("{to}[to] = points[i].x;"));
    w.line(format!("{to}[to + 1u] = points[i].y;"));
    w.close();
    Ok(())
}

/// Writes the sums of products of spectra, transformed back.
pub(super) fn write_results(w: &mut Writer<'_>, c: &FftConv) -> Result<Grid, WgslFault> {
    // Results that begin within a segment end in one more.
    let more = Dim::constant(i64::from(c.past.is_some()));
    let space: Vec<Dim> = c.space.iter().cloned().chain([segments(&c.length) + more]).collect();
    let indices = write_groups(w, &space);
    let (segment, outer) = indices.split_last().ok_or(WgslFault::Order)?;
    write_begin(w, c, outer)?;
    let row = number(&c.space, outer);
    let kernel = number(&kernel_space(c), outer);
    let [of_u, of_k] = [&c.inputs, &c.taps].map(|row| dim_text(&segments(row)));
    w.line(format!("let last = min(begin / {SEGMENT}u + {segment}, {of_u} - 1u);"));
    w.line(format!("let u_row = {row};"));
    w.line(format!("let k_row = {kernel};"));
    let (us, ks) = (w.scratch(0)?, w.scratch(1)?);
    w.open(format!("for (var i = local; i <= {SEGMENT}u; i += {GROUP}u)"));
    w.line("var sum = vec2<f32>(0.0, 0.0);");
    w.open(format!("for (var b = 0u; b <= min(last, {of_k} - 1u); b++)"));
    w.line(format!("let u_at = {WORDS}u*(u_row*{of_u} + last - b) + 2u*i;"));
    w.line(format!("let k_at = {WORDS}u*(k_row*{of_k} + b) + 2u*i;"));
    let product = times(w);
    w.line(format!(
        "sum += {product}(vec2<f32>({us}[u_at], {us}[u_at + 1u]), vec2<f32>({ks}[k_at], {ks}[k_at + 1u]));"
    ));
    w.close();
    w.line("points[i] = sum;");
    w.open(format!("if (i > 0u && i < {SEGMENT}u)"));
    w.line(format!("points[{POINTS}u - i] = vec2<f32>(sum.x, -sum.y);"));
    w.close();
    w.close();
    write_transform(w, true);
    w.operand = 2 + u32::from(c.past.is_some());
    let out = Operand::new(w, &c.out, outer, "y_at")?;
    w.line(format!("let first = {SEGMENT}u*(begin / {SEGMENT}u + {segment});"));
    w.open(format!("for (var i = local; i < {SEGMENT}u; i += {GROUP}u)"));
    w.line("let place = first + i;");
    w.open(format!("if (place >= begin && place < begin + {})", dim_text(&c.length)));
    out.store(w, "(place - begin)", &format!("points[i + {SEGMENT}u].x * {:?}", 1.0 / POINTS as f32))?;
    w.close();
    w.close();
    Ok((vec![(Dim::product(&space), 1)], GROUP as u32))
}

/// The number of an index in row-major order.
fn number(space: &[Dim], indices: &[String]) -> String {
    let mut text = "0u".to_owned();
    for (extent, index) in space.iter().zip(indices).filter(|(extent, _)| extent.as_constant() != Some(1)) {
        text = if text == "0u" { index.clone() } else { format!("(({text})*({}) + {index})", dim_text(extent)) };
    }
    text
}

/// The product of complex numbers.
fn times(w: &mut Writer<'_>) -> &'static str {
    w.own_function(
        "fn times(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
  return vec2<f32>(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x);
}
"
        .to_owned(),
    );
    "times"
}

/// Transforms the points that a workgroup shares: Stockham's passes of radix 4, each of which reads quarters of all
/// points and writes four runs of `span`.
fn write_transform(w: &mut Writer<'_>, is_inverse: bool) {
    let (times, sine, cosine) = (times(w), w.function(Function::Sine), w.function(Function::Cosine));
    let sign = if is_inverse { 1.0 } else { -1.0 };
    let mut span = 1;
    while span < POINTS {
        w.open("");
        w.line("workgroupBarrier();");
        w.line("let a = points[local];");
        let quarters = ["b", "c", "d"].into_iter().enumerate();
        if span == 1 {
            w.line("let place = 0u;");
            quarters.for_each(|(i, name)| w.line(format!("let {name} = points[local + {}u];", (i + 1) * GROUP)));
        } else {
            w.line(format!("let place = local % {span}u;"));
            let step = sign * std::f64::consts::FRAC_PI_2 / span as f64;
            w.line(format!("let angle = {:?} * f32(place);", step as f32));
            w.line(format!("let w1 = vec2<f32>({cosine}(angle), {sine}(angle));"));
            w.line(format!("let w2 = {times}(w1, w1);"));
            w.line(format!("let w3 = {times}(w2, w1);"));
            quarters.for_each(|(i, name)| {
                w.line(format!("let {name} = {times}(w{}, points[local + {}u]);", i + 1, (i + 1) * GROUP));
            });
        }
        w.line("workgroupBarrier();");
        w.line("let turned = b - d;");
        let quarter = if is_inverse { "vec2<f32>(-turned.y, turned.x)" } else { "vec2<f32>(turned.y, -turned.x)" };
        w.line(format!("let quarter = {quarter};"));
        w.line("let to = 4u*(local - place) + place;");
        w.line("points[to] = a + c + b + d;");
        w.line(format!("points[to + {span}u] = a - c + quarter;"));
        w.line(format!("points[to + {}u] = a + c - b - d;", 2 * span));
        w.line(format!("points[to + {}u] = a - c - quarter;", 3 * span));
        w.close();
        span *= 4;
    }
    w.line("workgroupBarrier();");
}
