//! Where the elements of a product's left operand come from: rows in memory, a tile that the workgroup
//! has copied, or a norm that is computed on the way.

use super::WgslFault;
use super::expression::Expressions;
use super::matmul::SHARED_DEPTH;
use super::operand::{Operand, Operands};
use super::panel::{Step, Work};
use super::rows::{FromMemory, Team, reduce_phases};
use super::shader::Writer;
use super::space::Space;

/// Rows of `x` in memory: each lane loads an element and passes it around, or all load all.
pub(super) struct FromRows<'v> {
    pub rows: Vec<Operand<'v>>,
    pub k: usize,
}

impl FromRows<'_> {
    fn load(&self, w: &mut Writer<'_>, row: usize, at: &str, may_exceed: bool) -> Result<String, WgslFault> {
        // The weights of elements beyond the end are zeros, so any element will do.
        let at = if may_exceed { format!("min({at}, {}u)", self.k - 1) } else { format!("({at})") };
        self.rows[row].load(w, &at)
    }
}

impl Work for FromRows<'_> {
    fn begin(&mut self, w: &mut Writer<'_>, step: &Step) -> Result<(), WgslFault> {
        if w.features().subgroups {
            for row in 0..self.rows.len() {
                let value = self.load(w, row, &format!("{} + {}", step.base, step.lane_offset), step.may_exceed)?;
                w.line(format!("let x{row} = {value};"));
            }
        }
        Ok(())
    }

    fn multiply(&mut self, w: &mut Writer<'_>, step: &Step, slot: usize, weights: &[String]) -> Result<(), WgslFault> {
        for row in 0..self.rows.len() {
            let value = if w.features().subgroups {
                format!("subgroupBroadcast(x{row}, {slot}u)")
            } else {
                self.load(w, row, &format!("{} + {}u", step.base, step.offsets[slot]), step.may_exceed)?
            };
            write_products(w, row, slot, &value, weights);
        }
        Ok(())
    }
}

/// A tile of `x` in workgroup memory.
pub(super) struct FromTile {
    pub rows: usize,
}

impl Work for FromTile {
    fn begin(&mut self, _: &mut Writer<'_>, _: &Step) -> Result<(), WgslFault> {
        Ok(())
    }

    fn multiply(&mut self, w: &mut Writer<'_>, step: &Step, slot: usize, weights: &[String]) -> Result<(), WgslFault> {
        for row in 0..self.rows {
            let at = format!("{SHARED_DEPTH}u*(mine + {row}u) + {} - start + {}u", step.base, step.offsets[slot]);
            write_products(w, row, slot, &format!("tile[{at}]"), weights);
        }
        Ok(())
    }
}

/// Adds the products of an element of a row with the weights of each group.
fn write_products(w: &mut Writer<'_>, row: usize, slot: usize, value: &str, weights: &[String]) {
    let name = format!("v{row}_{slot}");
    w.line(format!("let {name} = vec4<f32>({value});"));
    for (g, weight) in weights.iter().enumerate() {
        w.line(format!("sum{g}_{row} = fma({name}, {weight}, sum{g}_{row});"));
    }
}

/// The row of a product that is a norm's result, computed where it is needed.
pub(super) struct FromNorm<'o, 'v> {
    expressions: Expressions<'o>,
    operands: &'o Operands<'v>,
    k: usize,
}

impl<'o, 'v> FromNorm<'o, 'v> {
    /// Writes the reductions of the norm.
    pub fn new(
        w: &mut Writer<'_>,
        space: &'o Space,
        operands: &'o Operands<'v>,
        (k, size): (usize, u32),
    ) -> Result<FromNorm<'o, 'v>, WgslFault> {
        let length = format!("{k}u");
        let mut expressions = Expressions::new(&space.operands.program, "at", &length);
        let from = FromMemory { operands, given: &[], position: "at".to_owned() };
        reduce_phases(w, &mut expressions, &from, &length, Team::Group(size))?;
        Ok(FromNorm { expressions, operands, k })
    }

    /// Writes an element of the row, with a name.
    fn write(&mut self, w: &mut Writer<'_>, name: &str, at: &str) -> Result<(), WgslFault> {
        let position = format!("{name}_at");
        w.line(format!("let {position} = min({at}, {}u);", self.k - 1));
        let from = FromMemory { operands: self.operands, given: &[], position: position.clone() };
        self.expressions.position = format!("f32({position})");
        self.expressions.leave_position();
        let stored = self.expressions.program.stores[0];
        let value = self.expressions.value(w, stored, &from)?;
        w.line(format!("let {name} = {value};"));
        Ok(())
    }
}

impl Work for FromNorm<'_, '_> {
    fn begin(&mut self, w: &mut Writer<'_>, step: &Step) -> Result<(), WgslFault> {
        if w.features().subgroups {
            self.write(w, "element", &format!("{} + {}", step.base, step.lane_offset))?;
        }
        Ok(())
    }

    fn multiply(&mut self, w: &mut Writer<'_>, step: &Step, slot: usize, weights: &[String]) -> Result<(), WgslFault> {
        if w.features().subgroups {
            write_products(w, 0, slot, &format!("subgroupBroadcast(element, {slot}u)"), weights);
            return Ok(());
        }
        // Names of values are used again in each slot.
        w.line(format!("var element_{slot}: f32;"));
        w.open("");
        self.write(w, "element", &format!("{} + {}u", step.base, step.offsets[slot]))?;
        w.line(format!("element_{slot} = element;"));
        w.close();
        write_products(w, 0, slot, &format!("element_{slot}"), weights);
        Ok(())
    }
}
