//! Weights of an artifact: which tensors kernels ask for, in which layout and encoding, and their
//! bytes.
//!
//! Kernels ask a [`WeightTable`] while they are lowered. Once all have asked, [`WeightTable::finish`]
//! chooses encodings, and [`PlannedWeight::write`] makes the bytes when the artifact is written.

mod expression;
mod payload;
mod strided;

use std::collections::HashMap;

use castiron_ir::interpret::EvalError;
use castiron_ir::{DType, Storage, TensorSource, template};
use castiron_runtime::program::{Weight, WeightForm};
use castiron_runtime::weights::{Encoding, PackError, PackedMatrix};

pub use expression::{LoopIndex, WeightExpression, known_values};

/// How weights are encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightFormat {
    /// As in the checkpoint.
    #[default]
    Keep,
    /// f32.
    F32,
    /// f16.
    F16,
    /// Blocks of 8-bit integers.
    Q8,
    /// Blocks of 4-bit integers; tables that are only read row by row get 8 bits.
    Q4,
}

/// A weight that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum WeightError {
    /// The checkpoint has no such tensor.
    #[error("tensor `{0}` is missing from the checkpoint")]
    Missing(String),
    /// A tensor's shape is not the graph's.
    #[error("tensor `{name}` has shape {found:?}, the graph asks for {expected:?}")]
    Shape {
        /// Its name.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The graph's.
        expected: Vec<usize>,
    },
    /// A tensor whose bytes do not fill its shape.
    #[error("tensor `{0}` has fewer bytes than its shape asks for")]
    Truncated(String),
    /// A name template without expansion.
    #[error(transparent)]
    Template(#[from] template::TemplateError),
    /// An expression without value.
    #[error("weight `{0}`: {1}")]
    Evaluate(String, EvalError),
    /// A weight that does not fit its layout.
    #[error("weight `{0}`: {1}")]
    Pack(String, PackError),
    /// A weight larger than memory can be.
    #[error("weight `{0}` is too large")]
    TooLarge(String),
}

/// A matrix `[n, k]` as a kernel reads it, or a stack of them.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// The values, `[n, k]` or, when transposed, `[k, n]`; in a stack after the axis that counts.
    pub expression: WeightExpression,
    /// Whether the expression's last axes are exchanged.
    pub transposed: bool,
}

impl Matrix {
    /// `n` and `k`.
    pub fn extents(&self) -> [usize; 2] {
        match self.expression.shape()[..] {
            [n, k] | [_, n, k] if !self.transposed => [n, k],
            [k, n] | [_, k, n] => [n, k],
            _ => [0, 0],
        }
    }

    fn label(&self) -> String {
        let label = self.expression.label();
        if self.transposed { format!("transpose axes=[1,0]({label})") } else { label.to_owned() }
    }
}

/// What kernels do with a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Use {
    /// Read elements in row-major order.
    Dense,
    /// Read some rows.
    Table,
    /// Multiply by it.
    Product,
    /// Multiply by some of its matrices.
    Stack,
}

impl Use {
    /// Whether one layout can serve both.
    fn is_like(self, other: Use) -> bool {
        let is_alone = |wanted| matches!(wanted, Use::Dense | Use::Stack);
        self == other || !is_alone(self) && !is_alone(other)
    }

    /// Whether products read it, and nothing else.
    fn is_product(self) -> bool {
        matches!(self, Use::Product | Use::Stack)
    }
}

/// A weight that kernels have asked for.
#[derive(Clone, Debug)]
struct Requested {
    groups: Vec<Matrix>,
    index: Option<LoopIndex>,
    wanted: Use,
}

impl Requested {
    /// Number of matrices of a stack.
    fn count(&self) -> Option<usize> {
        (self.wanted == Use::Stack).then(|| self.groups[0].expression.shape()[0])
    }
}

/// The weights that kernels have asked for; equal ones are one.
#[derive(Debug, Default)]
pub struct WeightTable {
    requested: Vec<Requested>,
    numbers: HashMap<(String, usize), Vec<u32>>,
}

impl WeightTable {
    /// A tensor in row-major order; gives its number.
    pub fn dense(&mut self, expression: WeightExpression, index: Option<&LoopIndex>) -> u32 {
        self.request(vec![Matrix { expression, transposed: false }], index, Use::Dense)
    }

    /// A table that is read row by row.
    pub fn table(&mut self, expression: WeightExpression, index: Option<&LoopIndex>) -> u32 {
        self.request(vec![Matrix { expression, transposed: false }], index, Use::Table)
    }

    /// Matrices of equal extents that one product reads together.
    pub fn product(&mut self, groups: Vec<Matrix>, index: Option<&LoopIndex>) -> u32 {
        self.request(groups, index, Use::Product)
    }

    /// A stack of matrices, one of which a product chooses for each row.
    pub fn stack(&mut self, matrices: Matrix, index: Option<&LoopIndex>) -> u32 {
        self.request(vec![matrices], index, Use::Stack)
    }

    fn request(&mut self, groups: Vec<Matrix>, index: Option<&LoopIndex>, wanted: Use) -> u32 {
        let index = index.filter(|i| groups.iter().any(|g| g.expression.depends_on(i))).cloned();
        let label = groups.iter().map(Matrix::label).collect::<Vec<_>>().join(" | ");
        let numbers = self.numbers.entry((label, index.as_ref().map_or(1, |i| i.count))).or_default();
        let requested = &mut self.requested;
        if let Some(&number) = numbers.iter().find(|&&n| requested[n as usize].wanted.is_like(wanted)) {
            let known = &mut requested[number as usize].wanted;
            *known = wanted.max(*known);
            return number;
        }
        let number = requested.len() as u32;
        numbers.push(number);
        requested.push(Requested { groups, index, wanted });
        number
    }

    /// Chooses encodings.
    ///
    /// # Errors
    /// Parameters that are missing or have another shape.
    pub fn finish(self, source: &dyn TensorSource, format: WeightFormat) -> Result<Vec<PlannedWeight>, WeightError> {
        self.requested.into_iter().map(|r| PlannedWeight::plan(r, source, format)).collect()
    }
}

/// A weight with its layout and encoding.
#[derive(Debug)]
pub struct PlannedWeight {
    /// What the program says of it.
    pub weight: Weight,
    groups: Vec<Matrix>,
    index: Option<LoopIndex>,
}

impl PlannedWeight {
    fn plan(r: Requested, source: &dyn TensorSource, format: WeightFormat) -> Result<PlannedWeight, WeightError> {
        let stored = common_storage(&r, source)?;
        let first = &r.groups[0].expression;
        let [n, k] = r.groups[0].extents();
        let mut encodings: Vec<Encoding> = stored.iter().map(|&s| encoding(format, s, k, r.wanted)).collect();
        let is_uniform = encodings.iter().all(|e| *e == encodings[0]);
        let encoding = if is_uniform || r.wanted.is_product() { encodings[0] } else { Encoding::F32 };
        if is_uniform || !r.wanted.is_product() {
            encodings.clear();
        }
        let matrix = PackedMatrix { encoding, groups: r.groups.len(), n, k };
        let packed = |encoding| WeightForm::Packed(PackedMatrix { encoding, ..matrix });
        let dense = |dtype| WeightForm::Dense { dtype, shape: first.shape() };
        let is_table = first.shape().len() == 2;
        let form = match r.wanted {
            Use::Product => packed(encoding),
            Use::Stack => WeightForm::Stack { count: r.count().unwrap_or(1), matrix },
            Use::Table if is_table => match encoding {
                Encoding::F32 => dense(DType::F32),
                Encoding::F16 => dense(DType::F16),
                Encoding::BF16 => dense(DType::BF16),
                quantised => packed(quantised),
            },
            Use::Table | Use::Dense => dense(first.ty().dtype),
        };
        let label = r.groups.iter().map(Matrix::label).collect::<Vec<_>>().join(" | ");
        let instances = stored.len() as u32;
        Ok(PlannedWeight { weight: Weight { label, instances, form, encodings }, groups: r.groups, index: r.index })
    }

    /// Bytes of an instance.
    ///
    /// # Errors
    /// More than memory can hold.
    pub fn bytes(&self, instance: usize) -> Result<usize, WeightError> {
        self.weight.bytes(instance).ok_or_else(|| WeightError::TooLarge(self.weight.label.clone()))
    }
}

/// For each instance, the storage that every stored part of a weight has; `None` if they differ or the
/// weight is computed.
fn common_storage(r: &Requested, source: &dyn TensorSource) -> Result<Vec<Option<Storage>>, WeightError> {
    let numbers: Vec<Option<usize>> = r.count().map_or_else(|| vec![None], |count| (0..count).map(Some).collect());
    let matrices = r.groups.iter().flat_map(|group| numbers.iter().map(move |&number| (group, number)));
    let groups: Option<Vec<_>> = matrices.map(|(group, number)| payload::parts_of(group, number)).collect();
    let instances = r.index.as_ref().map_or(1, |i| i.count);
    let Some(groups) = groups else { return Ok(vec![None; instances]) };
    let of_instance = |instance| {
        let mut storages = Vec::new();
        for part in groups.iter().flatten() {
            let storage = payload::storage(source, part, r.index.as_ref(), instance)?;
            storages.push(Some(storage).filter(|s| matches!(s, Storage::Dense(_)) || part.has_rows_of_blocks(*s)));
        }
        let first = storages.first().copied().flatten();
        Ok(first.filter(|_| storages.iter().all(|s| *s == first)))
    };
    (0..instances).map(of_instance).collect()
}

fn encoding(format: WeightFormat, storage: Option<Storage>, k: usize, wanted: Use) -> Encoding {
    match format {
        WeightFormat::F32 => Encoding::F32,
        WeightFormat::F16 => Encoding::F16,
        WeightFormat::Q8 => Encoding::Q8_0,
        WeightFormat::Q4 if wanted == Use::Table => Encoding::Q8_0,
        WeightFormat::Q4 => Encoding::Q4_0,
        WeightFormat::Keep => match storage {
            Some(Storage::Dense(DType::F16)) => Encoding::F16,
            Some(Storage::Dense(DType::BF16)) => Encoding::BF16,
            Some(Storage::Blocks(format)) if k.is_multiple_of(format.block().0) => Encoding::of(format),
            _ => Encoding::F32,
        },
    }
}
