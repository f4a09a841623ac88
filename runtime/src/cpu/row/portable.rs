//! Portable evaluation of row programs: node by node over blocks of 64 elements.
//!
//! The compiler's vectoriser makes what it can of the loops. Values of a block live in slots that
//! are assigned by lifetime when the program is prepared, so that the scratch memory is a small
//! array on the stack and a call allocates nothing.
#![allow(unsafe_code)] // Copies between rows and scratch memory.

use castiron_ir::op::{BinaryOp, UnaryOp};

use crate::program::row::{Level, RowNode, RowNodeId, RowProgram, RowReduce};

/// Elements of a block.
const BLOCK: usize = 64;

type Lanes = [f32; BLOCK];

/// A prepared program.
#[derive(Debug)]
pub(super) struct Portable {
    phases: Vec<Phase>,
    /// Number of slots, and of uniform values.
    scratch: usize,
    element_outputs: Vec<(usize, Source)>,
    uniform_outputs: Vec<(usize, Source)>,
}

/// What is computed once, then for each block, then folded.
#[derive(Debug, Default)]
struct Phase {
    uniform: Vec<Step>,
    varying: Vec<Step>,
    reductions: Vec<(RowReduce, Source, u16)>,
}

/// A node with places for operands and result.
#[derive(Debug)]
struct Step {
    node: RowNode,
    operands: [Source; 3],
    target: u16,
}

/// Where a value is.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// The same for all elements.
    Uniform(u16),
    /// One for each element of the block.
    Slot(u16),
}

/// Values under evaluation.
struct Scratch<const N: usize> {
    uniforms: [f32; N],
    slots: [Lanes; N],
}

impl Portable {
    /// Prepares a valid program.
    pub(super) fn new(program: &RowProgram) -> Portable {
        Preparation::new(program).prepare()
    }

    /// Evaluates one row.
    ///
    /// # Safety
    /// As for [`super::RowFunction::call`].
    pub(super) unsafe fn call(&self, inputs: &[*const f32], outputs: &[*mut f32], n: usize) {
        // Few sizes, since clearing the scratch memory costs as much as a short row.
        // SAFETY: the caller's promise.
        unsafe {
            match self.scratch {
                ..=16 => self.run::<16>(inputs, outputs, n),
                17..=128 => self.run::<128>(inputs, outputs, n),
                _ => self.run::<{ crate::program::row::MAX_NODES }>(inputs, outputs, n),
            }
        }
    }

    unsafe fn run<const N: usize>(&self, inputs: &[*const f32], outputs: &[*mut f32], n: usize) {
        let mut scratch = Scratch::<N> { uniforms: [0.0; N], slots: [[0.0; BLOCK]; N] };
        let last = self.phases.len() - 1;
        for (number, phase) in self.phases.iter().enumerate() {
            for step in &phase.uniform {
                // SAFETY: uniform inputs point to one value.
                scratch.uniforms[usize::from(step.target)] = unsafe { scratch.uniform_step(step, inputs, n) };
            }
            for &(kind, _, target) in &phase.reductions {
                scratch.uniforms[usize::from(target)] = identity(kind);
            }
            for start in (0..n).step_by(BLOCK) {
                let len = BLOCK.min(n - start);
                for step in &phase.varying {
                    // SAFETY: element inputs have n values.
                    scratch.slots[usize::from(step.target)] = unsafe { scratch.step(step, inputs, start, len, n) };
                }
                for &(kind, source, target) in &phase.reductions {
                    let block = fold(kind, &scratch.lanes(source)[..len]);
                    let sum = &mut scratch.uniforms[usize::from(target)];
                    *sum = join(kind, *sum, block);
                }
                if number == last {
                    // SAFETY: outputs that vary have n values.
                    unsafe { scratch.store(&self.element_outputs, outputs, start, len) };
                }
            }
        }
        for &(output, source) in &self.uniform_outputs {
            // SAFETY: outputs that do not vary have one value.
            unsafe { outputs[output].write_unaligned(scratch.lanes(source)[0]) };
        }
    }
}

impl<const N: usize> Scratch<N> {
    fn lanes(&self, source: Source) -> Lanes {
        match source {
            Source::Uniform(i) => [self.uniforms[usize::from(i)]; BLOCK],
            Source::Slot(i) => self.slots[usize::from(i)],
        }
    }

    /// The value of a uniform node.
    unsafe fn uniform_step(&self, step: &Step, inputs: &[*const f32], n: usize) -> f32 {
        let [a, b, c] = step.operands.map(|source| match source {
            Source::Uniform(i) => self.uniforms[usize::from(i)],
            Source::Slot(_) => f32::NAN,
        });
        match step.node {
            // SAFETY: the caller gives one value for each uniform input.
            RowNode::Input(i) => unsafe { inputs[usize::from(i)].read_unaligned() },
            RowNode::Constant(c) => c,
            RowNode::Length => n as f32,
            RowNode::Unary(op, _) => op.f32(a),
            RowNode::Binary(op, ..) => op.f32(a, b),
            RowNode::Select(..) => choose(a, b, c),
            RowNode::Position | RowNode::Reduce(..) => unreachable!("not computed here"),
        }
    }

    /// The values of a varying node for the elements from `start` on; those from `len` on are any.
    unsafe fn step(&self, step: &Step, inputs: &[*const f32], start: usize, len: usize, n: usize) -> Lanes {
        let [a, b, c] = step.operands;
        match step.node {
            RowNode::Input(i) => {
                let mut lanes = [0.0; BLOCK];
                debug_assert!(start + len <= n);
                // SAFETY: the caller gives n values, start + len ≤ n, and f32 is copied bytewise.
                unsafe {
                    let from = inputs[usize::from(i)].add(start).cast::<u8>();
                    from.copy_to_nonoverlapping(lanes.as_mut_ptr().cast(), 4 * len);
                }
                lanes
            }
            RowNode::Position => std::array::from_fn(|lane| (start + lane) as f32),
            RowNode::Unary(op, _) => unary(op, self.lanes(a)),
            RowNode::Binary(op, ..) => binary(op, self.lanes(a), self.lanes(b)),
            RowNode::Select(..) => {
                let (a, b, c) = (self.lanes(a), self.lanes(b), self.lanes(c));
                std::array::from_fn(|i| choose(a[i], b[i], c[i]))
            }
            RowNode::Constant(_) | RowNode::Length | RowNode::Reduce(..) => unreachable!("the same for all elements"),
        }
    }

    unsafe fn store(&self, stores: &[(usize, Source)], outputs: &[*mut f32], start: usize, len: usize) {
        for &(output, source) in stores {
            let lanes = self.lanes(source);
            // SAFETY: the caller gives room for n values, start + len ≤ n, and f32 is copied bytewise.
            unsafe {
                let to = outputs[output].add(start).cast::<u8>();
                to.copy_from_nonoverlapping(lanes.as_ptr().cast(), 4 * len);
            }
        }
    }
}

fn choose(c: f32, yes: f32, no: f32) -> f32 {
    if c != 0.0 { yes } else { no }
}

fn identity(kind: RowReduce) -> f32 {
    match kind {
        RowReduce::Sum => 0.0,
        RowReduce::Max => f32::NEG_INFINITY,
        RowReduce::Min => f32::INFINITY,
    }
}

fn join(kind: RowReduce, a: f32, b: f32) -> f32 {
    match kind {
        RowReduce::Sum => a + b,
        RowReduce::Max => a.max(b),
        RowReduce::Min => a.min(b),
    }
}

/// Reduces a block with eight accumulators.
fn fold(kind: RowReduce, values: &[f32]) -> f32 {
    let mut sums = [identity(kind); 8];
    for chunk in values.chunks(8) {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            *sum = join(kind, *sum, x);
        }
    }
    sums.into_iter().fold(identity(kind), |a, b| join(kind, a, b))
}

/// Applies a function of the table; each gets a loop of its own, where its code is inlined.
macro_rules! each_lane {
    ($op:expr, $Enum:ident [$($Variant:ident)+], |$i:ident| $arguments:tt) => {
        match $op { $($Enum::$Variant => std::array::from_fn(|$i| $Enum::$Variant.f32 $arguments),)+ }
    };
}

fn unary(op: UnaryOp, x: Lanes) -> Lanes {
    each_lane!(op, UnaryOp [
        Neg Abs Exp Log Log1p Sqrt Rsqrt Reciprocal Sin Cos Tanh Erf Floor Round Sign Not Relu Relu2
        Sigmoid Silu Gelu GeluTanh Softplus
    ], |i| (x[i]))
}

fn binary(op: BinaryOp, a: Lanes, b: Lanes) -> Lanes {
    each_lane!(op, BinaryOp [
        Add Sub Mul Div Pow Max Min Mod Eq Ne Lt Le Gt Ge And Or
    ], |i| (a[i], b[i]))
}

/// Assignment of nodes to phases and slots.
struct Preparation<'a> {
    program: &'a RowProgram,
    levels: Vec<Level>,
    uniforms: Vec<Option<u16>>,
    uniform_count: u16,
    slot_count: u16,
}

impl<'a> Preparation<'a> {
    fn new(program: &'a RowProgram) -> Preparation<'a> {
        let uniforms = vec![None; program.nodes.len()];
        Preparation { program, levels: program.levels(), uniforms, uniform_count: 0, slot_count: 0 }
    }

    fn prepare(mut self) -> Portable {
        let uses = self.program.uses();
        let last = self.program.stores.iter().map(|&n| self.levels[usize::from(n)].phase).max().unwrap_or(0);
        let mut element_outputs = Vec::new();
        let mut phases = Vec::new();
        for phase in 0..=last {
            let is_reduced = |id: usize| self.levels[id].phase == phase + 1 && uses[id] > 0;
            let nodes = self.program.nodes.iter().enumerate();
            let reductions: Vec<(usize, RowReduce, RowNodeId)> = nodes
                .filter_map(|(id, node)| match *node {
                    RowNode::Reduce(kind, x) if is_reduced(id) => Some((id, kind, x)),
                    _ => None,
                })
                .collect();
            let mut roots: Vec<RowNodeId> = reductions.iter().map(|r| r.2).collect();
            if phase == last {
                roots.extend(&self.program.stores);
            }
            let (uniform, varying, places) = self.steps(&roots);
            let source = |id: RowNodeId| places[usize::from(id)].expect("a root has a place");
            if phase == last {
                element_outputs = self.program.stores.iter().map(|&id| source(id)).enumerate().collect();
            }
            let folds: Vec<_> = reductions.iter().map(|&(id, kind, x)| (id, kind, source(x))).collect();
            let reductions = folds.into_iter().map(|(id, kind, x)| (kind, x, self.new_uniform(id))).collect();
            phases.push(Phase { uniform, varying, reductions });
        }
        let (element_outputs, uniform_outputs) =
            element_outputs.into_iter().partition(|(_, source)| matches!(source, Source::Slot(_)));
        let scratch = usize::from(self.uniform_count.max(self.slot_count));
        Portable { phases, scratch, element_outputs, uniform_outputs }
    }

    fn new_uniform(&mut self, id: usize) -> u16 {
        self.uniforms[id] = Some(self.uniform_count);
        self.uniform_count += 1;
        self.uniform_count - 1
    }

    /// The uniform and varying steps that compute the roots, and where the values are. Uniform
    /// values stay from phase to phase; a slot is used again after its value's last use.
    fn steps(&mut self, roots: &[RowNodeId]) -> (Vec<Step>, Vec<Step>, Vec<Option<Source>>) {
        let last_uses = self.last_uses(roots);
        let mut places: Vec<Option<Source>> = self.uniforms.iter().map(|u| u.map(Source::Uniform)).collect();
        let mut free: Vec<u16> = Vec::new();
        let (mut uniform, mut varying) = (Vec::new(), Vec::new());
        for (id, node) in self.program.nodes.iter().enumerate() {
            if last_uses[id].is_none() || places[id].is_some() {
                continue;
            }
            let mut operands = [Source::Uniform(0); 3];
            for (operand, from) in operands.iter_mut().zip(node.operands()) {
                *operand = places[usize::from(from)].expect("operands are computed first");
            }
            if !self.levels[id].varies {
                let target = self.new_uniform(id);
                places[id] = Some(Source::Uniform(target));
                uniform.push(Step { node: *node, operands, target });
                continue;
            }
            for from in node.operands().map(usize::from) {
                if let (Some(Source::Slot(slot)), Some(use_at)) = (places[from], last_uses[from])
                    && use_at == id
                    && !free.contains(&slot)
                {
                    free.push(slot);
                }
            }
            let target = free.pop().unwrap_or_else(|| {
                self.slot_count += 1;
                self.slot_count - 1
            });
            places[id] = Some(Source::Slot(target));
            varying.push(Step { node: *node, operands, target });
        }
        (uniform, varying, places)
    }

    /// For each node needed for the roots, the last node that uses it; roots are used at the end.
    fn last_uses(&self, roots: &[RowNodeId]) -> Vec<Option<usize>> {
        let mut last_uses = vec![None; self.program.nodes.len()];
        for &root in roots {
            last_uses[usize::from(root)] = Some(usize::MAX);
        }
        for (id, node) in self.program.nodes.iter().enumerate().rev() {
            if last_uses[id].is_none() || self.uniforms[id].is_some() {
                continue;
            }
            for operand in node.operands() {
                last_uses[usize::from(operand)].get_or_insert(id);
            }
        }
        last_uses
    }
}
