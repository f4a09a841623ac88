//! Rules of kernels and their views.

use std::collections::BTreeSet;

use castiron_ir::{DType, Dim};

use super::{Fault, MAX_RANK, bound};
use crate::program::row::Access;
use crate::program::view::{Place, View};
use crate::program::{
    AttentionKernel, EntryProgram, FftConv, KernelBody, Matmul, Product, Program, Recurrence, RowOperands, Rows, Scan,
    TopK, WeightForm,
};
use crate::weights::PackedMatrix;

/// A kernel with what it may refer to.
pub(super) struct KernelRules<'a> {
    pub program: &'a Program,
    pub entry: &'a EntryProgram,
    pub symbols: &'a BTreeSet<&'a str>,
    pub number: u32,
    /// How often it is executed.
    pub count: u32,
}

/// Name of the operand that says which matrix of a stack a row takes.
const CHOSEN: &str = "the choice of a weight";

/// Fewest bytes of a buffer's elements: GPUs address memory by words.
const WORD: usize = 4;

/// How an operand is used.
#[derive(Clone, Copy, PartialEq)]
enum Use {
    /// An input of a row program.
    Row(Access),
    /// An operand that the kernel itself reads; it may be copied first.
    Operand,
    /// An operand that is read as it is: indices, masks.
    Plain,
    /// A result.
    Output,
}

/// Calls `visit` with each place that a kernel names.
pub(super) fn for_each_place<'a>(body: &'a KernelBody, visit: &mut dyn FnMut(&'a Place)) {
    let (reads, writes) = body.views();
    for view in reads.into_iter().chain(writes) {
        visit(&view.place);
        if let Some(indirect) = &view.indirect {
            visit(&indirect.indices.place);
        }
    }
}

impl KernelRules<'_> {
    pub fn check(&self, body: &KernelBody) -> Result<(), Fault> {
        match body {
            KernelBody::Rows(rows) => self.rows(rows),
            KernelBody::Matmul(matmul) => self.matmul(matmul),
            KernelBody::Product(product) => self.product(product),
            KernelBody::Attention(attention) => self.attention(attention),
            KernelBody::Scan(scan) => self.scan(scan),
            KernelBody::TopK(top) => self.top_k(top),
            KernelBody::FftConv(convolution) => self.fft_conv(convolution),
        }
    }

    fn top_k(&self, top: &TopK) -> Result<(), Fault> {
        self.space(&top.space, 0)?;
        self.dim(&top.n)?;
        if top.k == 0 {
            return Err(Fault::Size("the number of elements that are taken"));
        }
        let rank = top.space.len() + 1;
        self.view("the operand", &top.x, rank, Use::Operand)?;
        for (name, view) in [("the elements", &top.values), ("the indices", &top.indices)] {
            let Some(view) = view else { continue };
            self.view(name, view, rank, Use::Output)?;
            if view.indirect.is_some() {
                return Err(misplaced(name, "at indices from memory"));
            }
        }
        match &top.indices {
            Some(indices) => require_dtype("the indices", indices, indices.dtype == DType::I32),
            None => Ok(()),
        }
    }

    fn fft_conv(&self, c: &FftConv) -> Result<(), Fault> {
        self.space(&c.space, 0)?;
        [&c.length, &c.inputs, &c.taps].into_iter().try_for_each(|dim| self.dim(dim))?;
        let rank = c.space.len() + 1;
        self.view("the sequence", &c.u, rank, Use::Operand)?;
        self.view("the kernel", &c.k, rank, Use::Operand)?;
        if let Some(past) = &c.past {
            self.view("the past", past, 1, Use::Plain)?;
            require_dtype("the past", past, past.dtype == DType::I32)?;
            if c.space.is_empty() {
                return Err(misplaced("the past", "where there are no rows"));
            }
        }
        self.view("the result", &c.out, rank, Use::Output)?;
        require_dtype("the result", &c.out, c.out.dtype == DType::F32)?;
        let is_plain = c.out.indirect.is_none();
        if is_plain { Ok(()) } else { Err(misplaced("the result", "at indices from memory")) }
    }

    fn rows(&self, rows: &Rows) -> Result<(), Fault> {
        self.space(&rows.space, 1)?;
        self.operands(&rows.operands, 0, rows.space.len())
    }

    fn matmul(&self, matmul: &Matmul) -> Result<(), Fault> {
        self.space(&matmul.space, 1)?;
        let matrix = self.packed(matmul)?;
        self.view("the left operand", &matmul.x, matmul.space.len(), Use::Operand)?;
        if let Some(chosen) = &matmul.chosen {
            self.view(CHOSEN, chosen, matmul.space.len(), Use::Plain)?;
            require_dtype(CHOSEN, chosen, chosen.dtype == DType::I32)?;
            if chosen.strides.last().is_some_and(|stride| stride.as_constant() != Some(0)) {
                return Err(misplaced(CHOSEN, "at another place for each column"));
            }
        }
        self.epilogue(&matmul.epilogue, matrix.groups, matmul.space.len())
    }

    fn product(&self, product: &Product) -> Result<(), Fault> {
        self.space(&product.space, 2)?;
        self.dim(&product.k)?;
        let rank = product.space.len();
        self.view("the left operand", &product.lhs, rank, Use::Operand)?;
        self.view("the right operand", &product.rhs, rank, Use::Operand)?;
        self.epilogue(&product.epilogue, 1, rank)
    }

    fn attention(&self, a: &AttentionKernel) -> Result<(), Fault> {
        a.extents.iter().try_for_each(|dim| self.dim(dim))?;
        self.view("q", &a.q, 5, Use::Operand)?;
        self.view("k", &a.k, 4, Use::Operand)?;
        self.view("v", &a.v, 4, Use::Operand)?;
        for scale in a.scales.iter().flatten() {
            self.view("the scales", scale, 3, Use::Operand)?;
        }
        if let Some(bias) = &a.bias {
            self.view("the bias", bias, 5, Use::Operand)?;
        }
        if let Some(sinks) = &a.sinks {
            self.view("the sinks", sinks, 4, Use::Operand)?;
        }
        if let Some(past) = &a.past {
            self.view("the past", past, 1, Use::Plain)?;
            require_dtype("the past", past, past.dtype == DType::I32)?;
        }
        if let Some(mask) = &a.mask {
            self.view("the mask", mask, 2, Use::Plain)?;
            require_dtype("the mask", mask, mask.dtype == DType::I32)?;
        }
        self.view("the result", &a.out, 5, Use::Output)?;
        require_dtype("the result", &a.out, a.out.dtype == DType::F32)?;
        let is_plain = a.out.indirect.is_none();
        if is_plain { Ok(()) } else { Err(misplaced("the result", "at indices from memory")) }
    }

    fn scan(&self, scan: &Scan) -> Result<(), Fault> {
        let walk = scan.walk();
        self.space(&walk, 2)?;
        let Some(carried) = scan.operands.outputs.get(..scan.carried) else {
            let (program, kernel) = (scan.operands.outputs.len(), scan.carried);
            return Err(Fault::Operands { what: "outputs to carry", program, kernel });
        };
        self.operands(&scan.operands, scan.carried, walk.len())?;
        for (i, view) in carried.iter().enumerate() {
            let name = format!("carried row {i}");
            require_dtype(&name, view, view.dtype == DType::F32)?;
            if view.indirect.is_some() {
                return Err(misplaced(&name, "at indices from memory"));
            }
            if view.strides[0].as_constant() != Some(0) {
                return Err(misplaced(&name, "at another place in each step"));
            }
        }
        scan.fused.as_ref().map_or(Ok(()), |fused| self.recurrence(fused))
    }

    fn recurrence(&self, fused: &Recurrence) -> Result<(), Fault> {
        let (rank, axes) = (fused.kind.rank(), fused.kind.operands());
        if (fused.extents.len(), fused.operands.len()) != (rank, axes.len()) {
            let (program, kernel) = (fused.operands.len(), axes.len());
            return Err(Fault::Operands { what: "operands of a recurrence", program, kernel });
        }
        fused.extents.iter().try_for_each(|dim| self.dim(dim))?;
        for (i, (view, axes)) in fused.operands.iter().zip(axes).enumerate() {
            self.view(&format!("operand {i}"), view, axes.len(), Use::Operand)?;
        }
        let results = [("the state", &fused.state), ("the result", &fused.out)];
        for ((name, view), axes) in results.into_iter().zip(fused.kind.results()) {
            self.view(name, view, axes.len(), Use::Output)?;
            require_dtype(name, view, view.dtype == DType::F32)?;
            if view.indirect.is_some() {
                return Err(misplaced(name, "at indices from memory"));
            }
        }
        Ok(())
    }

    fn epilogue(&self, operands: &RowOperands, accumulators: usize, rank: usize) -> Result<(), Fault> {
        let accesses = operands.program.inputs.get(..accumulators);
        if !accesses.is_some_and(|a| a.iter().all(|&access| access == Access::Element)) {
            return Err(Fault::Accumulators);
        }
        if !operands.program.is_map() {
            return Err(Fault::Epilogue);
        }
        self.operands(operands, accumulators, rank)
    }

    /// A row program whose first inputs the kernel gives.
    fn operands(&self, operands: &RowOperands, given: usize, rank: usize) -> Result<(), Fault> {
        let program = &operands.program;
        program.validate()?;
        let counts = [
            ("inputs", program.inputs.len(), given + operands.inputs.len()),
            ("outputs", program.stores.len(), operands.outputs.len()),
        ];
        if let Some(&(what, program, kernel)) = counts.iter().find(|(_, program, kernel)| program != kernel) {
            return Err(Fault::Operands { what, program, kernel });
        }
        for (i, (view, &access)) in operands.inputs.iter().zip(&program.inputs[given..]).enumerate() {
            self.view(&format!("input {i}"), view, rank, Use::Row(access))?;
        }
        for (i, view) in operands.outputs.iter().enumerate() {
            self.view(&format!("output {i}"), view, rank, Use::Output)?;
        }
        Ok(())
    }

    fn space(&self, space: &[Dim], least: usize) -> Result<(), Fault> {
        if !(least..=MAX_RANK).contains(&space.len()) {
            return Err(Fault::Size("the number of axes"));
        }
        space.iter().try_for_each(|dim| self.dim(dim))
    }

    fn dim(&self, dim: &Dim) -> Result<(), Fault> {
        bound(dim, self.symbols)
    }

    fn view(&self, operand: &str, view: &View, rank: usize, used: Use) -> Result<(), Fault> {
        if view.strides.len() != rank {
            return Err(Fault::Rank { operand: operand.to_owned(), found: view.strides.len(), expected: rank });
        }
        view.strides.iter().chain([&view.offset]).try_for_each(|dim| self.dim(dim))?;
        self.place(operand, view, rank, used)?;
        let Some(indirect) = &view.indirect else { return Ok(()) };
        if used == Use::Plain {
            return Err(misplaced(operand, "at indices from memory"));
        }
        [&indirect.stride, &indirect.extent].into_iter().try_for_each(|dim| self.dim(dim))?;
        let name = format!("the index of {operand}");
        require_dtype(&name, &indirect.indices, matches!(indirect.indices.dtype, DType::I32 | DType::I64))?;
        self.view(&name, &indirect.indices, rank, Use::Plain)
    }

    fn place(&self, operand: &str, view: &View, rank: usize, used: Use) -> Result<(), Fault> {
        let misplaced = |what| misplaced(operand, what);
        let missing = |what, number: u32, count| Fault::Missing { what, number: number as usize, count };
        let found = |what, number: u32, count: usize| {
            if (number as usize) < count { Ok(()) } else { Err(missing(what, number, count)) }
        };
        let (entry, program) = (self.entry, self.program);
        match view.place {
            Place::Buffer(number) => {
                found("buffer", number, entry.buffers.len())?;
                let (buffer, kernel) = (&entry.buffers[number as usize], self.number);
                let (first, last) = (buffer.first, buffer.last);
                if !(first..=last).contains(&kernel) {
                    return Err(Fault::Lifetime { buffer: number, first, last, kernel });
                }
                require_dtype(operand, view, view.dtype.size() >= WORD)
            }
            Place::Input(_) if used == Use::Output => Err(misplaced("an input of the entry")),
            Place::Input(number) => {
                found("input", number, entry.inputs.len())?;
                require_dtype(operand, view, view.dtype == entry.inputs[number as usize].1.dtype)
            }
            Place::Output(number) => {
                found("output", number, entry.outputs.len())?;
                require_dtype(operand, view, view.dtype == entry.outputs[number as usize].1.dtype)
            }
            Place::State(number) => {
                found("state", number, program.states.len())?;
                let state = &program.states[number as usize];
                self.instances("state", number, state.instances)?;
                require_dtype(operand, view, view.dtype == state.ty.dtype)
            }
            Place::Weight(_) if used == Use::Output => Err(misplaced("a weight")),
            Place::Weight(number) => {
                found("weight", number, program.weights.len())?;
                let weight = &program.weights[number as usize];
                self.instances("weight", number, weight.instances)?;
                match &weight.form {
                    WeightForm::Dense { dtype, .. } => require_dtype(operand, view, view.dtype == *dtype),
                    WeightForm::Packed(_) if used == Use::Plain => Err(misplaced("a packed weight")),
                    WeightForm::Packed(_) if !weight.encodings.is_empty() => {
                        Err(misplaced("a weight of several encodings"))
                    }
                    WeightForm::Packed(_) => Ok(()),
                    WeightForm::Stack { .. } => Err(misplaced("a stack of weights")),
                }
            }
            Place::Index(_) | Place::Extent(_) if used != Use::Row(Access::Uniform) || view.indirect.is_some() => {
                Err(misplaced("a number without memory"))
            }
            Place::Index(axis) if axis as usize + 1 >= rank => Err(misplaced("the index along the row")),
            Place::Index(_) => Ok(()),
            Place::Extent(ref dim) => self.dim(dim),
        }
    }

    /// The packed weight of a product, or those that it chooses from.
    fn packed(&self, matmul: &Matmul) -> Result<&PackedMatrix, Fault> {
        let number = matmul.weight;
        let count = self.program.weights.len();
        let missing = Fault::Missing { what: "weight", number: number as usize, count };
        let weight = self.program.weights.get(number as usize).ok_or(missing)?;
        self.instances("weight", number, weight.instances)?;
        match (&weight.form, &matmul.chosen) {
            (WeightForm::Packed(matrix), None) | (WeightForm::Stack { matrix, .. }, Some(_)) => Ok(matrix),
            (WeightForm::Packed(_), Some(_)) => Err(misplaced(CHOSEN, "a weight that is no stack")),
            (WeightForm::Stack { .. }, None) => Err(misplaced("the right operand", "a stack without a choice")),
            (WeightForm::Dense { .. }, _) => Err(misplaced("the right operand", "a dense weight")),
        }
    }

    /// One instance serves every iteration; several serve one each.
    fn instances(&self, what: &'static str, number: u32, instances: u32) -> Result<(), Fault> {
        let (count, is_enough) = (self.count, instances == 1 || self.count > 1 && self.count <= instances);
        if is_enough { Ok(()) } else { Err(Fault::Instances { what, number, instances, count }) }
    }
}

fn misplaced(operand: &str, what: &'static str) -> Fault {
    Fault::Place { operand: operand.to_owned(), what }
}

fn require_dtype(operand: &str, view: &View, is_right: bool) -> Result<(), Fault> {
    if is_right { Ok(()) } else { Err(Fault::DType { operand: operand.to_owned(), found: view.dtype }) }
}
