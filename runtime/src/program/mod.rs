//! Kernel programs: what a compiled artifact tells the runtime to do.
//!
//! A [`Program`] is plain data: entries made of steps, kernels described by views and row programs,
//! and tables of weights and state. Sizes are symbolic; they are resolved when an entry is bound to
//! the extents of its inputs. The same description is executed on the CPU and rendered as WGSL.

pub mod gpu;
mod print;
pub mod row;
mod validate;
pub mod view;

use castiron_ir::{DType, Dim, Type};
use serde::{Deserialize, Serialize};

use crate::weights::{Encoding, PackedMatrix};
use row::RowProgram;
pub(crate) use validate::lone_symbol;
pub use validate::{Fault, GpuProgramError, MAX_RANK, ProgramError};
use view::View;

/// Everything that an artifact computes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// Weights, by the number that views use.
    pub weights: Vec<Weight>,
    /// State, by the number that views use.
    pub states: Vec<StateSlot>,
    /// Entry points.
    pub entries: Vec<EntryProgram>,
}

/// A constant tensor of the artifact, or one for each iteration of a repeat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Weight {
    /// What it is made from, for people: names and operations.
    pub label: String,
    /// Number of instances; instance `j` is the artifact's tensor `weights.{number}.{j}`.
    pub instances: u32,
    /// How the bytes are laid out, those of the first instance if they differ.
    pub form: WeightForm,
    /// The encoding of each instance of a packed weight, if they differ. Only products read such a weight.
    pub encodings: Vec<Encoding>,
}

impl Weight {
    /// How the bytes of an instance are laid out.
    pub fn form_of(&self, instance: usize) -> WeightForm {
        match (&self.form, self.encodings.get(instance)) {
            (WeightForm::Packed(matrix), Some(&encoding)) => WeightForm::Packed(PackedMatrix { encoding, ..*matrix }),
            (WeightForm::Stack { count, matrix }, Some(&encoding)) => {
                WeightForm::Stack { count: *count, matrix: PackedMatrix { encoding, ..*matrix } }
            }
            (form, _) => form.clone(),
        }
    }

    /// Bytes of an instance; `None` on overflow.
    pub fn bytes(&self, instance: usize) -> Option<usize> {
        self.form_of(instance).bytes()
    }
}

/// Layout of a weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum WeightForm {
    /// Row-major elements.
    Dense {
        /// Element type.
        dtype: DType,
        /// Extents.
        shape: Vec<usize>,
    },
    /// Panels for matrix products; also readable row by row.
    Packed(PackedMatrix),
    /// Packed matrices of one shape, one after another. Only products read them, which take one for each row.
    Stack {
        /// How many.
        count: usize,
        /// Each of them.
        matrix: PackedMatrix,
    },
}

impl WeightForm {
    /// Bytes of one instance; `None` on overflow.
    pub fn bytes(&self) -> Option<usize> {
        match self {
            WeightForm::Dense { dtype, shape } => crate::tensor::tensor_bytes(*dtype, shape),
            WeightForm::Packed(matrix) => matrix.bytes(),
            WeightForm::Stack { count, matrix } => matrix.bytes()?.checked_mul(*count),
        }
    }

    /// The matrices that a product takes: how many, and what each is.
    pub fn matrices(&self) -> Option<(usize, PackedMatrix)> {
        match *self {
            WeightForm::Dense { .. } => None,
            WeightForm::Packed(matrix) => Some((1, matrix)),
            WeightForm::Stack { count, matrix } => Some((count, matrix)),
        }
    }
}

/// A tensor that outlives a call, or one for each iteration of a repeat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StateSlot {
    /// Name or name template.
    pub name: String,
    /// Number of instances.
    pub instances: u32,
    /// Type of an instance.
    pub ty: Type,
}

/// A function of the artifact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EntryProgram {
    /// Name.
    pub name: String,
    /// Named inputs.
    pub inputs: Vec<(String, Type)>,
    /// Named outputs.
    pub outputs: Vec<(String, Type)>,
    /// Arena buffers with their lifetimes.
    pub buffers: Vec<Buffer>,
    /// Kernels, by the number that steps use.
    pub kernels: Vec<Kernel>,
    /// What is executed, in order.
    pub steps: Vec<Step>,
}

/// A buffer of an entry's arena, of elements of 32 bits or more. Two buffers may share memory if their
/// lifetimes do not meet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Buffer {
    /// Size.
    pub bytes: Dim,
    /// First kernel, in execution order of one iteration, that touches it.
    pub first: u32,
    /// Last kernel that touches it.
    pub last: u32,
}

/// One thing to execute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Step {
    /// Kernel number `.0`.
    Kernel(u32),
    /// Steps repeated; weights and state inside are those of the iteration.
    Repeat {
        /// Number of iterations.
        count: u32,
        /// What is repeated.
        body: Vec<Step>,
    },
}

/// A kernel: an archetype with its operands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kernel {
    /// The fused ops, for people: `norm`, `dot+add`.
    pub label: String,
    /// The archetype.
    pub body: KernelBody,
}

/// Kernel archetypes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum KernelBody {
    /// A row program over an iteration space.
    Rows(Rows),
    /// A product of rows with a packed weight.
    Matmul(Matmul),
    /// A product of two activations.
    Product(Product),
    /// Attention with an online softmax.
    Attention(Box<AttentionKernel>),
    /// A row program repeated along time.
    Scan(Scan),
    /// The largest elements of rows, in order.
    TopK(TopK),
    /// A convolution as long as its operand.
    FftConv(FftConv),
}

/// A row program at each index of the outer axes; the last axis is the row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rows {
    /// Iteration space, the row last.
    pub space: Vec<Dim>,
    /// Operands of the program.
    pub operands: RowOperands,
}

/// A row program at each step of a time axis, with rows that are carried from step to step: a recurrence.
///
/// Views have a stride along time, then those over the space. What is carried lies where the first
/// `carried` outputs go, which do not move along time: a step reads it there, as the first inputs of
/// its program, and replaces it. What lies there before the first step are the initial values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scan {
    /// Number of steps.
    pub steps: Dim,
    /// Whether the last step comes first.
    pub reverse: bool,
    /// Iteration space of a step: axes that are independent of one another, the row last.
    pub space: Vec<Dim>,
    /// How many rows are carried.
    pub carried: usize,
    /// Operands of a step.
    pub operands: RowOperands,
    /// The same in a form that some executors have a kernel for.
    pub fused: Option<Box<Recurrence>>,
}

impl Scan {
    /// The steps, then the space: what views have strides over.
    pub fn walk(&self) -> Vec<Dim> {
        std::iter::once(&self.steps).chain(&self.space).cloned().collect()
    }
}

/// A fused recurrence on views of what the scan that defines it reads and writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recurrence {
    /// Which one.
    pub kind: RecurrenceKind,
    /// `[b, s, g, r, k, e]` of linear attention, `[b, s, d, n]` of a selective scan.
    pub extents: Vec<Dim>,
    /// What is carried, where the scan has it.
    pub state: View,
    /// The op's other operands in its order.
    pub operands: Vec<View>,
    /// What is read at each step.
    pub out: View,
}

/// Recurrences that are ops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecurrenceKind {
    /// [`castiron_ir::op::LinearAttention`]
    LinearAttention {
        /// Whether states decay.
        decay: bool,
        /// Whether states are corrected by what they hold.
        delta: bool,
        /// Whether queries read the state as it was before their own token.
        before: bool,
    },
    /// [`castiron_ir::op::SelectiveScan`]
    SelectiveScan,
}

impl RecurrenceKind {
    /// How many extents there are.
    pub fn rank(self) -> usize {
        match self {
            RecurrenceKind::LinearAttention { .. } => 6,
            RecurrenceKind::SelectiveScan => 4,
        }
    }

    /// The axes of the state and of the result, as places in the extents.
    pub fn results(self) -> [&'static [usize]; 2] {
        match self {
            RecurrenceKind::LinearAttention { .. } => [&[0, 2, 3, 4, 5], &[0, 1, 2, 3, 5]],
            RecurrenceKind::SelectiveScan => [&[0, 2, 3], &[0, 1, 2]],
        }
    }

    /// The axes of each operand.
    pub fn operands(self) -> Vec<&'static [usize]> {
        const KEY: &[usize] = &[0, 1, 2, 3, 4];
        match self {
            RecurrenceKind::LinearAttention { decay, delta, .. } => {
                let mut operands = vec![KEY, KEY, &[0, 1, 2, 3, 5]];
                operands.resize(3 + usize::from(decay) + 2 * usize::from(delta), KEY);
                operands
            }
            RecurrenceKind::SelectiveScan => vec![&[0, 1, 2], &[0, 1, 2], &[0, 1, 3], &[0, 1, 3], &[2, 3]],
        }
    }
}

/// A row program with its memory operands over an iteration space.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RowOperands {
    /// What is computed. Its first inputs are the accumulators of the kernel, or what it carries, if it has any.
    pub program: RowProgram,
    /// Views of the remaining inputs.
    pub inputs: Vec<View>,
    /// Views of the outputs.
    pub outputs: Vec<View>,
}

/// `epilogue(x · Wᵀ)`, with one accumulator for each group of the weight. With a stack of weights, each row has
/// its own `W`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Matmul {
    /// Iteration space of the result: rows, then columns.
    pub space: Vec<Dim>,
    /// Left operand over rows, then the contracted axis.
    pub x: View,
    /// The weight.
    pub weight: u32,
    /// Where the weight is a stack, over the space and the same for all columns: the number of each row's
    /// matrix, i32.
    pub chosen: Option<View>,
    /// Applied to the accumulators.
    pub epilogue: RowOperands,
}

/// `epilogue(Σ_k lhs[.., m, k] · rhs[.., k, n])` of two activations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Product {
    /// Iteration space of the result: batch axes, rows, columns.
    pub space: Vec<Dim>,
    /// Extent that is summed over.
    pub k: Dim,
    /// Left operand over batch axes, rows, k.
    pub lhs: View,
    /// Right operand over batch axes, columns, k.
    pub rhs: View,
    /// Applied to the accumulator.
    pub epilogue: RowOperands,
}

/// The fused op [`castiron_ir::op::Attention`] on views.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttentionKernel {
    /// `[b, g, r, s, t, d, e]`: batch, key heads, query heads of one, queries, keys, key width, value width.
    pub extents: [Dim; 7],
    /// Over `[b, g, r, s, d]`.
    pub q: View,
    /// Over `[b, g, t, d]`.
    pub k: View,
    /// Over `[b, g, t, e]`.
    pub v: View,
    /// Over `[b, g, t]`: what each key, and what each value, is multiplied with.
    pub scales: Option<[View; 2]>,
    /// Over `[b]`, i32.
    pub past: Option<View>,
    /// Over `[b, t]`, i32: a key of 0 is hidden.
    pub mask: Option<View>,
    /// Over `[b, g, r, s, t]`.
    pub bias: Option<View>,
    /// Over `[b, g, r, s]`: scores without a key.
    pub sinks: Option<View>,
    /// Over `[b, g, r, s, e]`.
    pub out: View,
    /// Factor of the scores.
    pub scale: f32,
    /// Soft cap of the scores.
    pub soft_cap: Option<f32>,
    /// Whether later keys are hidden.
    pub causal: bool,
    /// How many keys back, and without `causal` ahead, are visible, the query's own among them.
    pub window: Option<usize>,
}

/// The op [`castiron_ir::op::TopK`] on views: for each index of the outer axes the `k` largest of `n` elements,
/// in descending order of IEEE 754's total order, and among equals in ascending order of their indices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopK {
    /// The outer axes.
    pub space: Vec<Dim>,
    /// Elements of a row.
    pub n: Dim,
    /// How many are taken, at least one.
    pub k: u32,
    /// Over the outer axes, then `n`.
    pub x: View,
    /// Over the outer axes, then `k`, if the elements are wanted.
    pub values: Option<View>,
    /// Over the outer axes, then `k`, i32, if their indices are wanted.
    pub indices: Option<View>,
}

/// The op [`castiron_ir::op::FftConv`] on views: for each index of the outer axes
/// `out_i = Σ_j k_{past + i - j} · u_j` over the places `j ≤ past + i` that have a tap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FftConv {
    /// The outer axes.
    pub space: Vec<Dim>,
    /// Results of a row.
    pub length: Dim,
    /// Elements of a row of `u`.
    pub inputs: Dim,
    /// Elements of a row of `k`.
    pub taps: Dim,
    /// Over the outer axes, then `inputs`.
    pub u: View,
    /// Over the outer axes, then `taps`.
    pub k: View,
    /// Over the first outer axis, i32: `past + length` is at most `inputs`. Without it results begin at 0.
    pub past: Option<View>,
    /// Over the outer axes, then `length`.
    pub out: View,
}

impl KernelBody {
    /// Name of the archetype.
    pub fn archetype(&self) -> &'static str {
        match self {
            KernelBody::Rows(rows) if rows.operands.program.is_map() => "map",
            KernelBody::Rows(_) => "row",
            KernelBody::Matmul(_) => "matmul",
            KernelBody::Product(_) => "product",
            KernelBody::Attention(_) => "attention",
            KernelBody::Scan(_) => "scan",
            KernelBody::TopK(_) => "top_k",
            KernelBody::FftConv(_) => "fft_conv",
        }
    }

    /// Views that are read, then views that are written.
    pub fn views(&self) -> (Vec<&View>, Vec<&View>) {
        match self {
            KernelBody::Rows(r) => (r.operands.inputs.iter().collect(), r.operands.outputs.iter().collect()),
            KernelBody::Matmul(m) => {
                let reads = std::iter::once(&m.x).chain(&m.chosen).chain(&m.epilogue.inputs);
                (reads.collect(), m.epilogue.outputs.iter().collect())
            }
            KernelBody::Product(p) => {
                let reads = [&p.lhs, &p.rhs].into_iter().chain(&p.epilogue.inputs);
                (reads.collect(), p.epilogue.outputs.iter().collect())
            }
            KernelBody::Attention(a) => {
                let reads = [&a.q, &a.k, &a.v].into_iter().chain(a.scales.iter().flatten());
                let reads = reads.chain(&a.past).chain(&a.mask).chain(&a.bias).chain(&a.sinks);
                (reads.collect(), vec![&a.out])
            }
            KernelBody::Scan(s) => (s.operands.inputs.iter().collect(), s.operands.outputs.iter().collect()),
            KernelBody::TopK(t) => (vec![&t.x], t.values.iter().chain(&t.indices).collect()),
            KernelBody::FftConv(c) => ([&c.u, &c.k].into_iter().chain(&c.past).collect(), vec![&c.out]),
        }
    }
}
