//! Binding scans: what is carried is read where it is written.

use super::operands::BLOCK;
use super::{Binder, check_hazards};
use crate::bind::BindFault;
use crate::cpu::executor::kernels::BoundKernel;
use crate::cpu::executor::scan::ScanKernel;
use crate::program::{RowOperands, Scan};

impl Binder<'_> {
    pub(super) fn scan(&mut self, scan: &Scan, label: &str) -> Result<(), BindFault> {
        let Some(extents) = self.space(&scan.walk())? else { return Ok(()) };
        if let Some(fused) = &scan.fused
            && self.recurrence(fused, label)?
        {
            return Ok(());
        }
        let RowOperands { program, inputs, outputs } = &scan.operands;
        let carried = &outputs[..scan.carried];
        let inputs: Vec<_> = carried.iter().chain(inputs).cloned().collect();
        let count = inputs.len();
        let operands = RowOperands { program: program.clone(), inputs, outputs: outputs.clone() };
        let mut flat = self.operands(&operands, 0, &extents)?;
        // A lane belongs to one thread in all its steps, so that it may write one place again and again.
        for i in 0..scan.carried {
            flat.extents[i][0] = 1;
            flat.extents[count + i][0] = 1;
        }
        check_hazards(&flat, &[])?;
        let origin = self.origin(label, &flat);
        let mut nest = self.nest(program, 0, flat, extents);
        nest.timed = true;
        nest.simplify_outer();
        nest.simplify_row();
        let (steps, lanes, row) = (nest.extents[0], nest.outer()[1..].iter().product(), nest.row());
        let is_divisible = nest.is_divisible();
        self.count(nest.rows(), row, program.nodes.len());
        let work = self.work(nest, false)?;
        let can_cut = is_divisible && work.can_cut();
        let block = if can_cut { row.min(BLOCK) } else { row };
        let (carried, reverse) = (scan.carried, scan.reverse);
        let kernel = ScanKernel { work, carried, steps, reverse, lanes, row, block, can_cut };
        self.push(BoundKernel::Scan(kernel), origin);
        Ok(())
    }
}
