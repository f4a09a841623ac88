//! What a kernel program will need, from extents alone: memory of activations and states, and operations.

use castiron_ir::dim::DimError;
use castiron_runtime::plan::{MemoryPlan, Request, plan};
use castiron_runtime::program::{EntryProgram, KernelBody, Program, Step, WeightForm};

/// Bytes to whose multiples buffers are aligned.
const ALIGNMENT: usize = 64;

/// What one entry needs for given extents.
#[derive(Debug)]
pub struct Estimate {
    /// Where activations lie.
    pub plan: MemoryPlan,
    /// Floating-point operations of products, of weights or of activations, and of attention; a multiplication
    /// and an addition count as two. What is elementwise is left out.
    pub flops: f64,
}

/// Estimates an entry; `None` if it is too large for any memory.
///
/// # Errors
/// A symbol without an extent.
pub fn estimate(
    program: &Program,
    entry: &EntryProgram,
    extents: &[(&str, usize)],
) -> Result<Option<Estimate>, DimError> {
    let binding = |name: &str| extents.iter().find(|(symbol, _)| *symbol == name).map(|(_, extent)| *extent);
    let request = |buffer: &castiron_runtime::program::Buffer| {
        let bytes = buffer.bytes.evaluate(&binding)?;
        Ok(Request { bytes, first: buffer.first, last: buffer.last })
    };
    let requests = entry.buffers.iter().map(request).collect::<Result<Vec<_>, DimError>>()?;
    let flops = steps(program, entry, &entry.steps, &binding)?;
    Ok(plan(&requests, ALIGNMENT).map(|plan| Estimate { plan, flops }))
}

/// Bytes of the states of all layers.
///
/// # Errors
/// A symbol without an extent.
pub fn state_bytes(program: &Program, extents: &[(&str, usize)]) -> Result<usize, DimError> {
    let binding = |name: &str| extents.iter().find(|(symbol, _)| *symbol == name).map(|(_, extent)| *extent);
    let bytes = |state: &castiron_runtime::program::StateSlot| {
        let elements = state.ty.shape.iter().map(|dim| dim.evaluate(&binding)).product::<Result<usize, DimError>>()?;
        Ok(state.instances as usize * elements * state.ty.dtype.size())
    };
    program.states.iter().map(bytes).sum()
}

type Binding<'a> = dyn Fn(&str) -> Option<usize> + 'a;

fn steps(program: &Program, entry: &EntryProgram, list: &[Step], binding: &Binding<'_>) -> Result<f64, DimError> {
    let step = |step: &Step| match step {
        Step::Kernel(number) => kernel(program, &entry.kernels[*number as usize].body, binding),
        Step::Repeat { count, body } => Ok(f64::from(*count) * steps(program, entry, body, binding)?),
    };
    list.iter().map(step).sum()
}

fn kernel(program: &Program, body: &KernelBody, binding: &Binding<'_>) -> Result<f64, DimError> {
    let size = |dim: &castiron_ir::Dim| Ok(dim.evaluate(&binding)? as f64);
    let product = |dims: &[castiron_ir::Dim]| dims.iter().map(size).product::<Result<f64, DimError>>();
    Ok(match body {
        KernelBody::Matmul(matmul) => match &program.weights[matmul.weight as usize].form {
            WeightForm::Packed(matrix) => 2.0 * product(&matmul.space)? * matrix.k as f64 * matrix.groups as f64,
            WeightForm::Stack { matrix, .. } => 2.0 * product(&matmul.space)? * matrix.k as f64 * matrix.groups as f64,
            WeightForm::Dense { .. } => 0.0,
        },
        KernelBody::Product(dot) => 2.0 * product(&dot.space)? * size(&dot.k)?,
        KernelBody::Attention(attention) => {
            let [b, g, r, s, t, d, e] = &attention.extents;
            2.0 * product(&[b.clone(), g.clone(), r.clone(), s.clone(), t.clone()])? * (size(d)? + size(e)?)
        }
        _ => 0.0,
    })
}
