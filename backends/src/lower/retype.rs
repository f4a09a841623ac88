//! Element types of weights in views: known only when encodings are chosen, after kernels are lowered.

use castiron_runtime::program::view::{Place, View};
use castiron_runtime::program::{EntryProgram, KernelBody, RowOperands, Weight, WeightForm};

/// Gives every view of a dense weight the element type that the weight is stored in.
pub fn retype(entries: &mut [EntryProgram], weights: &[Weight]) {
    let fix = |view: &mut View| {
        if let Place::Weight(number) = view.place
            && let WeightForm::Dense { dtype, .. } = weights[number as usize].form
        {
            view.dtype = dtype;
        }
    };
    for kernel in entries.iter_mut().flat_map(|e| &mut e.kernels) {
        match &mut kernel.body {
            KernelBody::Rows(rows) => each(&mut rows.operands, fix),
            KernelBody::Matmul(matmul) => {
                fix(&mut matmul.x);
                each(&mut matmul.epilogue, fix);
            }
            KernelBody::Product(product) => {
                fix(&mut product.lhs);
                fix(&mut product.rhs);
                each(&mut product.epilogue, fix);
            }
            KernelBody::Scan(scan) => each(&mut scan.operands, fix),
            KernelBody::TopK(top) => fix(&mut top.x),
            KernelBody::FftConv(convolution) => fix(&mut convolution.k),
            // Its other operands are buffers.
            KernelBody::Attention(attention) => attention.sinks.iter_mut().for_each(fix),
        }
    }
}

fn each(operands: &mut RowOperands, fix: impl Fn(&mut View)) {
    operands.inputs.iter_mut().for_each(fix);
}
