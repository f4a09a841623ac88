//! The largest elements of rows: a workgroup for each row finds one after the other, each the largest of
//! those that come after the last one in order.

use castiron_ir::Dim;
use castiron_runtime::program::TopK;

use super::WgslFault;
use super::operand::Operand;
use super::rows::row_group;
use super::shader::{Writer, dim_text};
use super::space::unravel;

/// The largest i32.
const LARGEST: &str = "2147483647";

/// Writes the kernel; gives the grid and the workgroup's size.
pub(super) fn write_top_k(w: &mut Writer<'_>, top: &TopK) -> Result<(Vec<(Dim, u32)>, u32), WgslFault> {
    let (count, size) = (Dim::product(&top.space), row_group(&top.n));
    w.line(format!("if (group >= {}) {{ return; }}", dim_text(&count)));
    let outer = unravel(w, &top.space, "group", "i");
    let x = Operand::new(w, &top.x, &outer, "x_at")?;
    let values = top.values.as_ref().map(|view| Operand::new(w, view, &outer, "values_at")).transpose()?;
    let indices = top.indices.as_ref().map(|view| Operand::new(w, view, &outer, "indices_at")).transpose()?;
    w.shared("keys", &format!("array<i32, {size}>"));
    w.shared("places", &format!("array<i32, {size}>"));
    w.line(format!("var last_key = {LARGEST};"));
    w.line("var last_place = -1;");
    w.open(format!("for (var round = 0u; round < {}u; round++)", top.k));
    write_search(w, &x, &dim_text(&top.n), size)?;
    write_group(w, size);
    w.open("if (local == 0u)");
    if let Some(values) = values {
        let value = x.load(w, "u32(place)")?;
        values.store(w, "round", &value)?;
    }
    if let Some(indices) = indices {
        indices.store_index(w, "round", "place")?;
    }
    w.close();
    w.line("last_key = key;");
    w.line("last_place = place;");
    w.close();
    Ok((vec![(count, 1)], size))
}

/// The first in order of an invocation's elements that come after the last one. Keys order as numbers do in
/// IEEE 754's total order: those of negative numbers are turned around.
fn write_search(w: &mut Writer<'_>, x: &Operand<'_>, length: &str, size: u32) -> Result<(), WgslFault> {
    w.line("var key = bitcast<i32>(0x80000000u);");
    w.line(format!("var place = {LARGEST};"));
    w.open(format!("for (var at = local; at < {length}; at += {size}u)"));
    let value = x.load(w, "at")?;
    w.line(format!("let bits = bitcast<i32>({value});"));
    w.line("let found = bits ^ bitcast<i32>(bitcast<u32>(bits >> 31u) >> 1u);");
    w.line("let is_left = found < last_key || (found == last_key && i32(at) > last_place);");
    w.open(format!("if (is_left && {})", is_before("found", "i32(at)")));
    w.line("key = found;");
    w.line("place = i32(at);");
    w.close();
    w.close();
    Ok(())
}

/// The first in order of what the invocations of a workgroup found.
fn write_group(w: &mut Writer<'_>, size: u32) {
    if w.features().subgroups {
        w.line("let largest = subgroupMax(key);");
        w.line(format!("place = subgroupMin(select({LARGEST}, place, key == largest));"));
        w.line("key = largest;");
    }
    // What the last round left has been read by all.
    w.line("workgroupBarrier();");
    w.line("keys[local] = key;");
    w.line("places[local] = place;");
    w.line("workgroupBarrier();");
    if w.features().subgroups {
        w.line("key = keys[0];");
        w.line("place = places[0];");
        // The first invocation of each subgroup has its result: they are `lanes` apart.
        w.open(format!("for (var other = lanes; other < {size}u; other += lanes)"));
        take_if_before(w, "other");
        w.close();
        return;
    }
    let mut half = size / 2;
    while half > 0 {
        w.open(format!("if (local < {half}u)"));
        take_if_before(w, &format!("local + {half}u"));
        w.line("keys[local] = key;");
        w.line("places[local] = place;");
        w.close();
        w.line("workgroupBarrier();");
        half /= 2;
    }
    w.line("key = keys[0];");
    w.line("place = places[0];");
}

fn take_if_before(w: &mut Writer<'_>, other: &str) {
    w.open(format!("if ({})", is_before(&format!("keys[{other}]"), &format!("places[{other}]"))));
    w.line(format!("key = keys[{other}];"));
    w.line(format!("place = places[{other}];"));
    w.close();
}

/// Whether an element comes before the one at hand.
fn is_before(key: &str, place: &str) -> String {
    format!("({key} > key || ({key} == key && {place} < place))")
}
