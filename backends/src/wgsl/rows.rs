//! Maps, with an invocation for each element; row programs with reductions, with a workgroup for each row.

use castiron_ir::Dim;
use castiron_runtime::program::Rows;
use castiron_runtime::program::row::{RowNode, RowReduce};

use super::WgslFault;
use super::expression::{Expressions, Inputs};
use super::operand::{LOWEST, Operands};
use super::shader::{MAP_GROUP, Writer, dim_text};
use super::space::{Space, unravel};

/// Rows of more elements are walked by large workgroups.
const LONG_ROW: i64 = 2048;

/// Inputs that are read from memory at a position of the row.
pub(super) struct FromMemory<'o, 'v> {
    pub operands: &'o Operands<'v>,
    /// Inputs that come first and are given by the kernel: accumulators.
    pub given: &'o [String],
    pub position: String,
}

impl Inputs for FromMemory<'_, '_> {
    fn input(&self, w: &mut Writer<'_>, number: usize) -> Result<String, WgslFault> {
        match number.checked_sub(self.given.len()) {
            None => Ok(self.given[number].clone()),
            Some(i) => self.operands.inputs[i].load(w, &self.position),
        }
    }
}

/// A map as a part of a shader: `group` is the number of a workgroup within it.
pub(super) fn write_map(w: &mut Writer<'_>, rows: &Rows, group: &str) -> Result<Vec<(Dim, u32)>, WgslFault> {
    let space = Space::new(&rows.space, &rows.operands, Vec::new());
    let elements = Dim::product(&space.extents);
    w.line(format!("let element = {MAP_GROUP}u*{group} + local;"));
    w.open(format!("if (element < {})", dim_text(&elements)));
    let indices = unravel(w, &space.extents, "element", "i");
    let (position, outer) = indices.split_last().ok_or(WgslFault::Order)?;
    write_element(w, &space, outer, position, Given { values: &[], views: 0 })?;
    w.close();
    Ok(vec![(elements, MAP_GROUP)])
}

/// What a kernel has before the operands of its row program.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    /// Accumulators, which are the program's first inputs.
    pub values: &'a [String],
    /// Number of views.
    pub views: usize,
}

/// The work of a map, or of an epilogue, at one element.
pub(super) fn write_element(
    w: &mut Writer<'_>,
    space: &Space,
    outer: &[String],
    position: &str,
    given: Given<'_>,
) -> Result<(), WgslFault> {
    let operands = Operands::new(w, &space.operands, outer, given.views)?;
    let program = &space.operands.program;
    let mut expressions = Expressions::new(program, position, &dim_text(space.row()));
    let from = FromMemory { operands: &operands, given: given.values, position: position.to_owned() };
    // Everything is read before anything is written: results may lie where operands do.
    let mut values = Vec::new();
    for (i, &stored) in program.stores.iter().enumerate() {
        let value = expressions.value(w, stored, &from)?;
        w.line(format!("let y{i} = {value};"));
        values.push((format!("y{i}"), expressions.varies(stored)));
    }
    for (output, (value, varies)) in operands.outputs.iter().zip(values) {
        if varies || output.moves() {
            output.store(w, position, &value)?;
        } else {
            w.open(format!("if ({position} == 0u)"));
            output.store(w, "0u", &value)?;
            w.close();
        }
    }
    Ok(())
}

/// Invocations for each row.
pub(super) fn row_group(row: &Dim) -> u32 {
    match row.as_constant() {
        Some(n) if n <= 32 => 32,
        Some(n) if n > LONG_ROW => 256,
        _ => 64,
    }
}

/// A row program with reductions.
pub(super) fn write_rows(w: &mut Writer<'_>, rows: &Rows) -> Result<(Vec<(Dim, u32)>, u32), WgslFault> {
    let space = Space::new(&rows.space, &rows.operands, Vec::new());
    let count = Dim::product(space.outer());
    let size = row_group(space.row());
    w.line(format!("if (group >= {}) {{ return; }}", dim_text(&count)));
    let outer = space.outer_indices(w, "group", "i");
    let operands = Operands::new(w, &space.operands, &outer, 0)?;
    let from = FromMemory { operands: &operands, given: &[], position: "at".to_owned() };
    let program = &space.operands.program;
    let mut expressions = Expressions::new(program, "at", &dim_text(space.row()));
    let length = dim_text(space.row());
    reduce_phases(w, &mut expressions, &from, &length, size)?;
    write_results(w, &mut expressions, &operands, &from, &length, size)?;
    Ok((vec![(count, 1)], size))
}

/// Writes a loop for each phase of reductions; their results, and what the whole row shares, are named
/// afterwards.
pub(super) fn reduce_phases(
    w: &mut Writer<'_>,
    expressions: &mut Expressions<'_>,
    from: &dyn Inputs,
    length: &str,
    size: u32,
) -> Result<(), WgslFault> {
    let program = expressions.program;
    let last = expressions.levels.iter().map(|level| level.phase).max().unwrap_or(0);
    for phase in 0..last {
        let of_phase = |(at, node): (usize, &RowNode)| match *node {
            RowNode::Reduce(kind, operand) if expressions.levels[at].phase == phase + 1 => Some((at, kind, operand)),
            _ => None,
        };
        let reductions: Vec<(usize, RowReduce, u16)> = program.nodes.iter().enumerate().filter_map(of_phase).collect();
        expressions.hoist(w, phase, from)?;
        for &(at, kind, _) in &reductions {
            let start = identity(kind);
            w.line(format!("var r{at} = {start};"));
        }
        w.open(format!("for (var at = local; at < {length}; at += {size}u)"));
        for &(at, kind, operand) in &reductions {
            let value = expressions.value(w, operand, from)?;
            w.line(format!("r{at} = {};", combine(kind, &format!("r{at}"), &value)));
        }
        expressions.leave_position();
        w.close();
        for &(at, kind, _) in &reductions {
            reduce_group(w, &format!("r{at}"), kind, size);
            expressions.set_reduced(at, format!("r{at}"));
        }
    }
    expressions.hoist(w, last, from)
}

fn identity(kind: RowReduce) -> &'static str {
    match kind {
        RowReduce::Sum => "0.0",
        RowReduce::Max => LOWEST,
        RowReduce::Min => "3.4028235e38",
    }
}

fn combine(kind: RowReduce, a: &str, b: &str) -> String {
    match kind {
        RowReduce::Sum => format!("{a} + {b}"),
        RowReduce::Max => format!("max({a}, {b})"),
        RowReduce::Min => format!("min({a}, {b})"),
    }
}

/// Combines a variable of all invocations of a workgroup; each has the result.
pub(super) fn reduce_group(w: &mut Writer<'_>, name: &str, kind: RowReduce, size: u32) {
    let shared = w.shared_reduction(size);
    w.line("workgroupBarrier();");
    if w.features().subgroups {
        let function = match kind {
            RowReduce::Sum => "subgroupAdd",
            RowReduce::Max => "subgroupMax",
            RowReduce::Min => "subgroupMin",
        };
        w.line(format!("{name} = {function}({name});"));
        w.line(format!("{shared}[local] = {name};"));
        w.line("workgroupBarrier();");
        // The first invocation of each subgroup has its result: they are `lanes` apart.
        w.line(format!("{name} = {shared}[0];"));
        w.open(format!("for (var other = lanes; other < {size}u; other += lanes)"));
        w.line(format!("{name} = {};", combine(kind, name, &format!("{shared}[other]"))));
        w.close();
        return;
    }
    w.line(format!("{shared}[local] = {name};"));
    w.line("workgroupBarrier();");
    let mut half = size / 2;
    while half > 0 {
        let other = format!("{shared}[local + {half}u]");
        w.line(format!(
            "if (local < {half}u) {{ {shared}[local] = {}; }}",
            combine(kind, &format!("{shared}[local]"), &other)
        ));
        w.line("workgroupBarrier();");
        half /= 2;
    }
    w.line(format!("{name} = {shared}[0];"));
}

/// Writes what is stored. A row of a result is written when nothing is read any more.
fn write_results(
    w: &mut Writer<'_>,
    expressions: &mut Expressions<'_>,
    operands: &Operands<'_>,
    from: &dyn Inputs,
    length: &str,
    size: u32,
) -> Result<(), WgslFault> {
    let stores = &expressions.program.stores;
    let is_whole = |&(i, &stored): &(usize, &u16)| expressions.varies(stored) || operands.outputs[i].moves();
    let (whole, single): (Vec<_>, Vec<_>) = stores.iter().enumerate().partition(is_whole);
    if !whole.is_empty() {
        w.open(format!("for (var at = local; at < {length}; at += {size}u)"));
        let mut values = Vec::new();
        for &(i, &stored) in &whole {
            let value = expressions.value(w, stored, from)?;
            w.line(format!("let y{i} = {value};"));
            values.push(format!("y{i}"));
        }
        for (&(i, _), value) in whole.iter().zip(&values) {
            operands.outputs[i].store(w, "at", value)?;
        }
        expressions.leave_position();
        w.close();
    }
    if !single.is_empty() {
        w.open("if (local == 0u)");
        for &(i, &stored) in &single {
            let value = expressions.value(w, stored, from)?;
            operands.outputs[i].store(w, "0u", &value)?;
        }
        w.close();
    }
    Ok(())
}
