//! Products of two activations: an invocation has a column and a few rows.

use castiron_ir::Dim;
use castiron_runtime::program::Product;

use super::WgslFault;
use super::operand::Operand;
use super::rows::{Given, write_element};
use super::shader::{Writer, dim_text};
use super::space::unravel;

/// Rows of an invocation.
const ROWS: usize = 4;
/// Columns of a workgroup.
const COLUMNS: u32 = 64;

/// Writes the product; gives the grid and the workgroup's size.
pub(super) fn write_product(w: &mut Writer<'_>, product: &Product) -> Result<(Vec<(Dim, u32)>, u32), WgslFault> {
    let (batch, [m, n]) = product.space.split_at(product.space.len() - 2) else { return Err(WgslFault::Order) };
    write_epilogue(w, product, batch)?;
    let across = n.div_ceil(COLUMNS.into());
    let down = m.div_ceil(ROWS as i64);
    let grid = vec![(Dim::product(batch), 1), (down.clone(), 1), (across.clone(), 1)];
    let count = Dim::product(batch) * down.clone() * across.clone();
    w.line(format!("if (group >= {}) {{ return; }}", dim_text(&count)));
    let parts = unravel(w, &[Dim::product(batch), down, across], "group", "part");
    let outer = unravel(w, batch, &parts[0], "i");
    let (last_row, last_column) = (format!("{} - 1u", dim_text(m)), format!("{} - 1u", dim_text(n)));
    w.line(format!("let first_row = {ROWS}u*{};", parts[1]));
    w.line(format!("let column = {COLUMNS}u*{} + local;", parts[2]));
    let over = |row: &str| -> Vec<String> { outer.iter().cloned().chain([row.to_owned()]).collect() };
    w.line(format!("let near_column = min(column, {last_column});"));
    w.operand = 1;
    let rhs = Operand::new(w, &product.rhs, &over("near_column"), "rhs_at")?;
    w.operand = 0;
    let mut lhs = Vec::new();
    for r in 0..ROWS {
        w.line(format!("let row{r}_ = min(first_row + {r}u, {last_row});"));
        lhs.push(Operand::new(w, &product.lhs, &over(&format!("row{r}_")), &format!("lhs{r}_at"))?);
        w.line(format!("var sum{r} = 0.0;"));
    }
    w.open(format!("for (var k = 0u; k < {}; k++)", dim_text(&product.k)));
    let value = rhs.load(w, "k")?;
    w.line(format!("let right = {value};"));
    for (r, row) in lhs.iter().enumerate() {
        let value = row.load(w, "k")?;
        w.line(format!("sum{r} = fma({value}, right, sum{r});"));
    }
    w.close();
    for r in 0..ROWS {
        w.line(format!("finish({}, first_row + {r}u, column, sum{r});", parts[0]));
    }
    Ok((grid, COLUMNS))
}

/// The epilogue as a function of one element.
fn write_epilogue(w: &mut Writer<'_>, product: &Product, batch: &[Dim]) -> Result<(), WgslFault> {
    let suspended = w.begin_function();
    let space = super::space::Space::whole(&product.space, &product.epilogue);
    let (m, n) = (&product.space[batch.len()], space.row());
    w.line(format!("if (row >= {} || column >= {}) {{ return; }}", dim_text(m), dim_text(n)));
    let mut outer = unravel(w, batch, "number", "i");
    outer.push("row".to_owned());
    write_element(w, &space, &outer, "column", Given { values: &["sum0".to_owned()], views: 2 })?;
    w.end_function("finish(number: u32, row: u32, column: u32, sum0: f32)", suspended);
    Ok(())
}
