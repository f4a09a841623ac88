//! Kernel programs as text, for people: one paragraph for each kernel.

use std::fmt::{self, Display, Formatter};

use castiron_ir::op::BinaryOp;

use super::row::{RowNode, RowNodeId, RowProgram};
use super::view::{Place, View};
use super::{EntryProgram, Kernel, KernelBody, Program, RowOperands, Step, Weight, WeightForm};

impl Display for Program {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (number, weight) in self.weights.iter().enumerate() {
            writeln!(f, "w{number} = {weight}")?;
        }
        for (number, state) in self.states.iter().enumerate() {
            writeln!(f, "state{number} = {} x {:?} : {}", state.instances, state.name, state.ty)?;
        }
        self.entries.iter().try_for_each(|entry| write!(f, "\n{entry}"))
    }
}

impl Display for Weight {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.instances > 1 {
            write!(f, "{} x ", self.instances)?;
        }
        match &self.form {
            WeightForm::Dense { dtype, shape } => write!(f, "{dtype}{shape:?}")?,
            WeightForm::Packed(m) | WeightForm::Stack { matrix: m, .. } => {
                if let WeightForm::Stack { count, .. } = self.form {
                    write!(f, "stack of {count} ")?;
                }
                let mut encodings: Vec<_> = self.encodings.iter().map(|e| format!("{e:?}")).collect();
                encodings.sort();
                encodings.dedup();
                let name = if encodings.is_empty() { format!("{:?}", m.encoding) } else { encodings.join("/") };
                write!(f, "packed {name}[{},{}]", m.n, m.k)?;
                if m.groups > 1 {
                    write!(f, " x {} groups", m.groups)?;
                }
            }
        }
        write!(f, " {}", self.label)
    }
}

impl Display for EntryProgram {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let list = |values: &[(String, castiron_ir::Type)]| {
            values.iter().map(|(name, ty)| format!("{name}: {ty}")).collect::<Vec<_>>().join(", ")
        };
        writeln!(f, "entry {}({}) -> ({}) {{", self.name, list(&self.inputs), list(&self.outputs))?;
        for (number, buffer) in self.buffers.iter().enumerate() {
            writeln!(f, "  b{number}: {} bytes, kernels {} to {}", buffer.bytes, buffer.first, buffer.last)?;
        }
        write_steps(f, &self.kernels, &self.steps, "  ")?;
        writeln!(f, "}}")
    }
}

fn write_steps(f: &mut Formatter<'_>, kernels: &[Kernel], steps: &[Step], indent: &str) -> fmt::Result {
    for step in steps {
        match step {
            Step::Kernel(number) => write_kernel(f, *number, &kernels[*number as usize], indent)?,
            Step::Repeat { count, body } => {
                writeln!(f, "{indent}repeat {count} {{")?;
                write_steps(f, kernels, body, &format!("{indent}  "))?;
                writeln!(f, "{indent}}}")?;
            }
        }
    }
    Ok(())
}

fn write_kernel(f: &mut Formatter<'_>, number: u32, kernel: &Kernel, indent: &str) -> fmt::Result {
    write!(f, "{indent}{number}: {} \"{}\"", kernel.body.archetype(), kernel.label)?;
    match &kernel.body {
        KernelBody::Rows(rows) => {
            writeln!(f, " over {}", dims(&rows.space))?;
            write_operands(f, &rows.operands, "", indent)
        }
        KernelBody::Matmul(m) => {
            let chosen = m.chosen.as_ref().map(|v| format!("[{}]", view(v))).unwrap_or_default();
            writeln!(f, " over {}: {} · w{}{chosen}ᵀ", dims(&m.space), view(&m.x), m.weight)?;
            write_operands(f, &m.epilogue, "sum", indent)
        }
        KernelBody::Product(p) => {
            writeln!(f, " over {}: {} · {}ᵀ over {}", dims(&p.space), view(&p.lhs), view(&p.rhs), p.k)?;
            write_operands(f, &p.epilogue, "sum", indent)
        }
        KernelBody::Attention(a) => {
            writeln!(f, " over [b,g,r,s,t,d,e] = {}", dims(&a.extents))?;
            let optional = [("past", &a.past), ("mask", &a.mask), ("bias", &a.bias), ("sinks", &a.sinks)];
            let named = [("q", &a.q), ("k", &a.k), ("v", &a.v)].into_iter();
            let named = named.chain(["scales of k", "scales of v"].into_iter().zip(a.scales.iter().flatten()));
            let named = named.chain(optional.into_iter().filter_map(|(name, v)| Some((name, v.as_ref()?))));
            for (name, operand) in named {
                writeln!(f, "{indent}    {name} = {}", view(operand))?;
            }
            writeln!(f, "{indent}    {} = attention scale={} causal={}", view(&a.out), a.scale, a.causal)
        }
        KernelBody::Scan(s) => {
            let order = if s.reverse { " from the last" } else { "" };
            write!(f, " over {} steps{order} of {}", s.steps, dims(&s.space))?;
            match &s.fused {
                Some(fused) => writeln!(f, ", {:?}", fused.kind)?,
                None => writeln!(f)?,
            }
            write_operands(f, &s.operands, "carried", indent)
        }
        KernelBody::FftConv(c) => {
            writeln!(
                f,
                " over {}: {} results of {} elements with {} taps",
                dims(&c.space),
                c.length,
                c.inputs,
                c.taps
            )?;
            for (name, operand) in [("u", Some(&c.u)), ("k", Some(&c.k)), ("past", c.past.as_ref())] {
                operand.map_or(Ok(()), |operand| writeln!(f, "{indent}    {name} = {}", view(operand)))?;
            }
            writeln!(f, "{indent}    {} = u ∗ k", view(&c.out))
        }
        KernelBody::TopK(t) => {
            writeln!(f, " over {}: {} of {} in {}", dims(&t.space), t.k, t.n, view(&t.x))?;
            let results = [("elements", &t.values), ("indices", &t.indices)];
            results
                .into_iter()
                .filter_map(|(name, result)| Some((name, result.as_ref()?)))
                .try_for_each(|(name, result)| writeln!(f, "{indent}    {} = {name}", view(result)))
        }
    }
}

/// Inputs, intermediate values with several uses, and stores; `given` is the name of inputs that have no view.
fn write_operands(f: &mut Formatter<'_>, operands: &RowOperands, given: &'static str, indent: &str) -> fmt::Result {
    let program = &operands.program;
    let count = program.inputs.len().saturating_sub(operands.inputs.len());
    for (i, input) in operands.inputs.iter().enumerate() {
        writeln!(f, "{indent}    x{i} = {}", view(input))?;
    }
    let text = Expressions { program, uses: program.uses(), given, count };
    for (id, node) in program.nodes.iter().enumerate() {
        if text.is_named(id as RowNodeId) {
            writeln!(f, "{indent}    t{id} = {}", text.node(node))?;
        }
    }
    for (output, &stored) in operands.outputs.iter().zip(&program.stores) {
        writeln!(f, "{indent}    {} = {}", view(output), text.value(stored))?;
    }
    Ok(())
}

struct Expressions<'a> {
    program: &'a RowProgram,
    uses: Vec<u16>,
    /// Name of the first inputs, and how many have it.
    given: &'static str,
    count: usize,
}

impl Expressions<'_> {
    fn is_named(&self, id: RowNodeId) -> bool {
        let node = &self.program.nodes[usize::from(id)];
        let is_leaf = node.operands().next().is_none();
        self.uses[usize::from(id)] > 1 && !is_leaf
    }

    fn value(&self, id: RowNodeId) -> String {
        if self.is_named(id) { format!("t{id}") } else { self.node(&self.program.nodes[usize::from(id)]) }
    }

    fn node(&self, node: &RowNode) -> String {
        match *node {
            RowNode::Input(i) => match usize::from(i).checked_sub(self.count) {
                Some(i) => format!("x{i}"),
                None => format!("{}{i}", self.given),
            },
            RowNode::Constant(c) => format!("{c:?}"),
            RowNode::Position => "position".to_owned(),
            RowNode::Length => "length".to_owned(),
            RowNode::Unary(op, a) => format!("{}({})", op.name(), self.value(a)),
            RowNode::Binary(op, a, b) => {
                let (a, b) = (self.value(a), self.value(b));
                match op {
                    BinaryOp::Add => format!("({a} + {b})"),
                    BinaryOp::Sub => format!("({a} - {b})"),
                    BinaryOp::Mul => format!("{a}·{b}"),
                    BinaryOp::Div => format!("({a} / {b})"),
                    _ => format!("{}({a}, {b})", op.name()),
                }
            }
            RowNode::Select(c, a, b) => format!("select({}, {}, {})", self.value(c), self.value(a), self.value(b)),
            RowNode::Reduce(kind, a) => format!("{kind:?}({})", self.value(a)).to_lowercase(),
        }
    }
}

fn dims(dims: &[castiron_ir::Dim]) -> String {
    format!("[{}]", dims.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
}

/// `b3:f32+64[576·s,576,1]`: place, element type, offset, strides; `@` before an index that is read.
fn view(v: &View) -> String {
    let place = match &v.place {
        Place::Buffer(n) => format!("b{n}"),
        Place::Input(n) => format!("in{n}"),
        Place::Output(n) => format!("out{n}"),
        Place::State(n) => format!("state{n}"),
        Place::Weight(n) => format!("w{n}"),
        Place::Index(axis) => return format!("index of axis {axis}"),
        Place::Extent(dim) => return format!("extent {dim}"),
    };
    let offset = if v.offset.as_constant() == Some(0) { String::new() } else { format!("+{}", v.offset) };
    let indirect = match &v.indirect {
        Some(at) => format!(" @ {}·{} below {}", at.stride, view(&at.indices), at.extent),
        None => String::new(),
    };
    format!("{place}:{}{offset}{}{indirect}", v.dtype, dims(&v.strides))
}
