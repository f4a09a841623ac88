//! What kernels read and write, by row of a batch of texts.

use castiron_ir::Dim;

use crate::program::view::{Place, View};
use crate::program::{KernelBody, Program, RowOperands, WeightForm};

/// A view with the axes it is over: those of a row in front, batch and length.
pub(super) struct Access {
    pub place: Place,
    pub bytes: usize,
    offset: Dim,
    strides: Vec<Dim>,
    axes: Vec<Dim>,
    is_indirect: bool,
    pub role: Role,
}

/// What a kernel does with what it reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Role {
    /// It computes row by row.
    Row,
    /// Keys or values: every query reads all of them but what the mask hides.
    Hidden,
    /// An index of another access.
    Index,
    /// Anything else.
    Other,
}

impl Access {
    fn new(view: &View, axes: &[Dim], role: Role) -> Access {
        Access {
            place: view.place.clone(),
            bytes: view.dtype.size(),
            offset: view.offset.clone(),
            strides: view.strides.clone(),
            axes: axes.to_vec(),
            is_indirect: view.indirect.is_some(),
            role,
        }
    }

    /// The access with axis `at` moved to the second place.
    fn turned(mut self, at: usize) -> Access {
        let (axis, stride) = (self.axes.remove(at), self.strides.remove(at));
        self.axes.insert(1, axis);
        self.strides.insert(1, stride);
        self
    }

    /// Elements of a row, if index `(b, s)` stays within row `(b, s)` of the memory.
    pub fn row(&self, [batch, length]: &[Dim; 2]) -> Option<usize> {
        let ([b, s, inner @ ..], [to_text, to_row, strides @ ..]) = (&*self.axes, &*self.strides) else { return None };
        let width = to_row.as_constant()?;
        let is_row = b == batch && s == length && *to_text == length.clone() * to_row.clone();
        (is_row && !self.is_indirect && self.fits(strides, inner, width)).then_some(width as usize)
    }

    /// Whether it is one number for each row: inner axes repeat it.
    pub fn is_number(&self, rows: &[Dim; 2]) -> bool {
        self.row(rows) == Some(1)
    }

    /// Whether it stays within the first row of each text, `width` elements long.
    pub fn is_first(&self, [batch, length]: &[Dim; 2], width: usize) -> bool {
        let ([b, inner @ ..], [to_text, strides @ ..]) = (&*self.axes, &*self.strides) else { return false };
        let width = width as i64;
        let is_text = b == batch && *to_text == length.clone() * Dim::constant(width);
        is_text && !self.is_indirect && self.fits(strides, inner, width)
    }

    /// Whether `offset + Σ strides·index` lies in `0 .. width`.
    fn fits(&self, strides: &[Dim], extents: &[Dim], width: i64) -> bool {
        let further = |at: i64, (stride, extent): (&Dim, &Dim)| match (stride.as_constant()?, extent.as_constant()) {
            (0, _) => Some(at),
            (stride, extent) => at.checked_add(stride.checked_mul(extent? - 1)?),
        };
        let last = self.offset.as_constant().and_then(|at| strides.iter().zip(extents).try_fold(at, further));
        strides.len() == extents.len() && last.is_some_and(|last| (0..width).contains(&last))
    }
}

/// What a kernel reads, in the order of [`KernelBody::views`] and each followed by its indices, and writes.
pub(super) fn accesses(program: &Program, body: &KernelBody) -> [Vec<Access>; 2] {
    let mut found = Accesses::default();
    match body {
        KernelBody::Rows(rows) => found.operands(&rows.operands, &rows.space),
        KernelBody::Matmul(matmul) if matmul.chosen.is_none() => {
            let k = match &program.weights[matmul.weight as usize].form {
                WeightForm::Packed(matrix) => Dim::from(matrix.k),
                WeightForm::Dense { .. } | WeightForm::Stack { .. } => Dim::constant(0),
            };
            let rows = &matmul.space[..matmul.space.len() - 1];
            found.read(&matmul.x, &[rows, &[k]].concat(), Role::Row, None);
            found.operands(&matmul.epilogue, &matmul.space);
        }
        KernelBody::Attention(attention) => {
            let [b, g, r, s, t, d, e] = &attention.extents;
            let over = |axes: &[&Dim]| axes.iter().map(|&axis| axis.clone()).collect::<Vec<_>>();
            let role = if attention.mask.is_some() { Role::Hidden } else { Role::Other };
            found.read(&attention.q, &over(&[b, g, r, s, d]), Role::Row, Some(3));
            found.read(&attention.k, &over(&[b, g, t, d]), role, Some(2));
            found.read(&attention.v, &over(&[b, g, t, e]), role, Some(2));
            attention.scales.iter().flatten().for_each(|scale| found.read(scale, &over(&[b, g, t]), role, Some(2)));
            attention.past.iter().for_each(|past| found.read(past, &over(&[b]), Role::Other, None));
            attention.mask.iter().for_each(|mask| found.read(mask, &over(&[b, t]), Role::Other, None));
            attention.bias.iter().for_each(|bias| found.read(bias, &over(&[b, g, r, s, t]), Role::Row, Some(3)));
            attention.sinks.iter().for_each(|sinks| found.read(sinks, &over(&[b, g, r, s]), Role::Row, Some(3)));
            found.writes.push(Access::new(&attention.out, &over(&[b, g, r, s, e]), Role::Row).turned(3));
        }
        // Whatever these read is looked at.
        KernelBody::Matmul(_)
        | KernelBody::Product(_)
        | KernelBody::Scan(_)
        | KernelBody::TopK(_)
        | KernelBody::FftConv(_) => {
            let (reads, writes) = body.views();
            reads.into_iter().for_each(|view| found.read(view, &[], Role::Other, None));
            found.writes.extend(writes.into_iter().map(|view| Access::new(view, &[], Role::Row)));
        }
    }
    [found.reads, found.writes]
}

#[derive(Default)]
struct Accesses {
    reads: Vec<Access>,
    writes: Vec<Access>,
}

impl Accesses {
    fn operands(&mut self, operands: &RowOperands, space: &[Dim]) {
        operands.inputs.iter().for_each(|view| self.read(view, space, Role::Row, None));
        self.writes.extend(operands.outputs.iter().map(|view| Access::new(view, space, Role::Row)));
    }

    /// Notes a view, whose axis `turn` is that of the length, and what its index is read from.
    fn read(&mut self, view: &View, axes: &[Dim], role: Role, turn: Option<usize>) {
        let access = Access::new(view, axes, role);
        self.reads.push(match turn {
            Some(at) => access.turned(at),
            None => access,
        });
        if let Some(indirect) = &view.indirect {
            self.read(&indirect.indices, axes, Role::Index, turn);
        }
    }
}
