//! Random small entries: elementwise, movement, reductions, contractions, convolutions, and every fused op's
//! definition with random attributes. In f64, so that no constant is rounded.

use castiron_ir::op::fused::FusedOp;
use castiron_ir::op::*;
use castiron_ir::{Builder, DType, Dim, Entry, Module, Tensor, Type, Value};

/// A list of bytes read as decisions; shorter lists make smaller graphs.
pub struct Choices {
    bytes: Vec<u8>,
    next: usize,
}

impl Choices {
    pub fn new(bytes: Vec<u8>) -> Choices {
        Choices { bytes, next: 0 }
    }

    fn left(&self) -> bool {
        self.next < self.bytes.len()
    }

    /// A number below `n`; 0 when the list is used up.
    fn below(&mut self, n: usize) -> usize {
        self.next += 1;
        usize::from(self.bytes.get(self.next - 1).copied().unwrap_or(0)) % n
    }

    fn flag(&mut self) -> bool {
        self.below(2) == 1
    }

    fn of<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }
}

/// Larger tensors are not used: the interpreter is slow.
const MOST_ELEMENTS: i64 = 600;

fn float(shape: &[usize]) -> Type {
    Type::new(DType::F64, shape.iter().copied())
}

fn arguments() -> Vec<(&'static str, Type)> {
    vec![
        ("x", float(&[2, 3, 8])),
        ("y", float(&[2, 3, 8])),
        ("w", float(&[8])),
        ("c", Type::new(DType::Bool, [3usize, 1])),
        ("past", Type::i32([2usize])),
        ("mask", Type::new(DType::Bool, [2usize, 5])),
    ]
}

/// An entry from decisions.
pub fn module(choices: &mut Choices) -> Module {
    let b = Builder::new();
    let arguments: Vec<Value> = arguments().into_iter().map(|(name, ty)| b.argument(name, ty)).collect();
    let mut graph = Graph { values: arguments[..3].to_vec(), arguments, b: b.clone() };
    while choices.left() {
        let value = graph.step(choices);
        graph.values.extend(value.filter(|v| v.ty().elements().as_constant().is_some_and(|n| n <= MOST_ELEMENTS)));
    }
    let last = graph.values.last().cloned().expect("there are arguments");
    let other = choices.of(&graph.values);
    let body = b.finish(&[&last, &other]).expect("every step checks its operands");
    let outputs = vec!["last".to_owned(), "other".to_owned()];
    Module { entries: vec![Entry { name: "f".to_owned(), states: vec![], outputs, body }] }
}

/// An entry that is the definition of one fused op, and the op's name.
pub fn definition(choices: &mut Choices) -> (Module, &'static str) {
    let b = Builder::new();
    let arguments: Vec<Value> = arguments().into_iter().map(|(name, ty)| b.argument(name, ty)).collect();
    let x = arguments[0].clone();
    let mut graph = Graph { values: vec![x.clone()], arguments, b: b.clone() };
    let (value, name) = match choices.below(7) {
        0 => (expand(&Softmax {}, &[&x]), "softmax"),
        1 => (graph.norm(choices, &x), "norm"),
        2 => (graph.rope(choices), "rope"),
        3 => (graph.gated(choices, &x), "gated_mlp"),
        4 => (graph.linear_attention(choices), "linear_attention"),
        5 => (graph.selective_scan(choices), "selective_scan"),
        _ => (graph.attention(choices), "attention"),
    };
    let body = b.finish(&[&value.expect("the operands fit")]).expect("definitions are well-typed");
    (
        Module { entries: vec![Entry { name: "f".to_owned(), states: vec![], outputs: vec!["y".to_owned()], body }] },
        name,
    )
}

/// Inputs for [`module`]'s entry.
pub fn inputs(seed: u64) -> Vec<Tensor> {
    let tensor = |(i, (_, ty)): (usize, (&str, Type))| {
        let shape: Vec<usize> = ty.shape.iter().map(|d| d.as_constant().unwrap() as usize).collect();
        let mut state = seed.wrapping_mul(31).wrapping_add(i as u64 + 1);
        Tensor::from_fn(ty.dtype, &shape, |_| match ty.dtype {
            DType::Bool => f64::from(noise(&mut state) > 0.0),
            DType::I32 => (noise(&mut state) + 1.0).round(),
            _ => noise(&mut state),
        })
    };
    arguments().into_iter().enumerate().map(tensor).collect()
}

/// A parameter of [`module`]'s entry, whose name holds its shape: `p3:8x8`.
pub fn parameter(name: &str) -> Option<Tensor> {
    let (number, shape) = name.strip_prefix('p')?.split_once(':')?;
    let shape: Vec<usize> = shape.split('x').map(|n| n.parse().unwrap()).collect();
    let mut state = number.parse::<u64>().ok()? + 77;
    Some(Tensor::from_fn(DType::F64, &shape, |_| noise(&mut state)))
}

/// A number in -1..1 (splitmix64).
fn noise(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

struct Graph {
    b: Builder,
    arguments: Vec<Value>,
    values: Vec<Value>,
}

impl Graph {
    fn param(&mut self, c: &mut Choices, shape: &[usize]) -> Value {
        // A few numbers, so that equal params occur.
        let text: Vec<String> = shape.iter().map(usize::to_string).collect();
        let name = format!("p{}:{}", c.below(3), text.join("x"));
        self.b.apply(Param { name, stack: None, stored: None, ty: float(shape) }, &[])
    }

    fn step(&mut self, c: &mut Choices) -> Option<Value> {
        let x = c.of(&self.values);
        match c.below(15) {
            0 | 1 => Some(self.unary(c, &x)),
            2..=4 => self.binary(c, &x),
            5 => self.movement(c, &x),
            6 => self.reduce(c, &x),
            7 => self.linear(c, &x),
            8 if c.flag() => expand(&Softmax {}, &[&x]),
            8 => self.norm(c, &x),
            9 => self.rope(c),
            10 => self.gated(c, &x),
            11 => self.convolution(c),
            12 => self.linear_attention(c),
            13 => self.selective_scan(c),
            _ => self.attention(c),
        }
    }

    /// Functions that are smooth and of moderate values, alone or as models spell them out.
    fn unary(&mut self, c: &mut Choices, x: &Value) -> Value {
        use UnaryOp::*;
        let one = x.constant(1.0);
        match c.below(12) {
            0 => (x * x + &one).unary(Rsqrt),
            1 => &one / &(x.unary(Abs) + &one),
            2 => x.unary(Tanh).unary(Exp),
            3 => (x.unary(Tanh).unary(Exp) + &one).unary(Log),
            4 => &one / &((-x.clone()).unary(Exp) + &one),
            5 => x / &((-x.clone()).unary(Exp) + one),
            6 => (x * 0.5) * ((x * std::f64::consts::FRAC_1_SQRT_2).unary(Erf) + one),
            7 => {
                let cube = x.binary(BinaryOp::Pow, &x.constant(3.0));
                let inner = (x + &(cube * 0.044715)) * (2.0 / std::f64::consts::PI).sqrt();
                (x * 0.5) * (one + inner.unary(Tanh))
            }
            8 => x.binary(BinaryOp::Max, &x.constant(0.0)),
            _ => x.unary(c.of(&[Neg, Abs, Sin, Cos, Tanh, Erf, Relu, Sigmoid, Silu, Gelu, GeluTanh, Softplus])),
        }
    }

    fn binary(&mut self, c: &mut Choices, x: &Value) -> Option<Value> {
        if c.below(3) == 0 {
            let scalar = x.constant(c.of(&[0.0, 1.0, -1.0, 0.5, 2.0, 3.0, 0.3]));
            return Some(match c.below(5) {
                0 => x + &scalar,
                1 => &scalar - x,
                2 => scalar * x,
                3 => x * &scalar,
                _ => x / &x.constant(c.of(&[1.0, 2.0, 3.0, -1.0])),
            });
        }
        let fits: Vec<Value> =
            self.values.iter().filter(|v| broadcast_shapes(&[&v.ty(), &x.ty()]).is_ok()).cloned().collect();
        let y = c.of(&fits);
        Some(match c.below(7) {
            0 | 1 => x + &y,
            2 => x - &y,
            3 => (x * &y) * 0.5,
            4 => x.binary(BinaryOp::Max, &y),
            5 => x / &(&y * &y + y.constant(1.0)),
            _ => {
                let condition = &self.arguments[3];
                let types = [condition.ty(), x.ty(), y.ty()];
                broadcast_shapes(&[&types[0], &types[1], &types[2]]).ok()?;
                let condition = if c.flag() { condition.unary(UnaryOp::Not) } else { condition.clone() };
                condition.select(x, &y)
            }
        })
    }

    fn movement(&mut self, c: &mut Choices, x: &Value) -> Option<Value> {
        let (rank, shape) = (x.rank(), x.ty().shape);
        let axis = c.below(rank.max(1));
        match c.below(6) {
            0 => Some(x.reshape([x.ty().elements()])),
            1 => {
                let mut to = shape;
                to.insert(c.below(rank + 1), Dim::from(1));
                Some(x.reshape(to))
            }
            2 => {
                let mut axes: Vec<usize> = (0..rank).collect();
                axes.rotate_left(axis);
                Some(x.transpose(&axes))
            }
            3 if rank > 0 => {
                let n = shape[axis].as_constant()? as usize;
                let start = c.below(n);
                Some(x.slice(axis, start, start + 1 + c.below(n - start)))
            }
            4 if rank > 0 => Some(self.b.concat(axis, &[x, &(x * 2.0)])),
            5 => {
                let mut to = shape;
                to.insert(0, Dim::from(1 + c.below(3)));
                Some(x.broadcast(to))
            }
            _ => None,
        }
    }

    fn reduce(&mut self, c: &mut Choices, x: &Value) -> Option<Value> {
        let last = x.rank().checked_sub(1)?;
        let axis = if c.flag() { last } else { c.below(x.rank()) };
        Some(x.reduce(c.of(&[ReduceKind::Sum, ReduceKind::Max, ReduceKind::Min]), &[axis]) * 0.25)
    }

    fn linear(&mut self, c: &mut Choices, x: &Value) -> Option<Value> {
        let k = x.ty().shape.last()?.as_constant()? as usize;
        let n = c.of(&[4, 8]);
        let (shape, axis) = if c.flag() { ([n, k], 1) } else { ([k, n], 0) };
        let weight = self.param(c, &shape);
        let mut y = x.apply(Dot { batch: vec![], contract: vec![(x.rank() - 1, axis)] }, &[&weight]) * 0.25;
        if c.flag() {
            y = y + self.param(c, &[n]);
        }
        Some(y)
    }

    fn norm(&mut self, c: &mut Choices, x: &Value) -> Option<Value> {
        let n = x.ty().shape.last()?.as_constant()? as usize;
        let norm = Norm { kind: c.of(&[NormKind::Rms, NormKind::Layer]), eps: c.of(&[1e-5, 1e-2, 0.3]) };
        let affine: Vec<Value> = (0..c.below(3)).map(|_| self.param(c, &[n])).collect();
        expand(&norm, &[x].into_iter().chain(&affine).collect::<Vec<_>>())
    }

    fn rope(&mut self, c: &mut Choices) -> Option<Value> {
        let half = c.of(&[4, 3, 1]);
        let tables = [0, 1].map(|_| self.param(c, &[3, half]));
        expand(&Rope { interleaved: c.flag() }, &[&self.of_shape(c, &[2, 3, 8]), &tables[0], &tables[1]])
    }

    fn gated(&mut self, c: &mut Choices, x: &Value) -> Option<Value> {
        let k = x.ty().shape.last()?.as_constant()? as usize;
        let activation = c.of(&[UnaryOp::Silu, UnaryOp::Gelu, UnaryOp::GeluTanh, UnaryOp::Relu]);
        let weights = [0, 1].map(|_| self.param(c, &[6, k]));
        let biases: Vec<Value> = (0..if c.flag() { 2 } else { 0 }).map(|_| self.param(c, &[6])).collect();
        let x = &(x * 0.25);
        expand(&GatedMlp { activation }, &[x, &weights[0], &weights[1]].into_iter().chain(&biases).collect::<Vec<_>>())
    }

    fn linear_attention(&mut self, c: &mut Choices) -> Option<Value> {
        let op = LinearAttention { decay: c.flag(), delta: c.flag(), before: c.flag() };
        // One key may serve several queries, and one decay a head.
        let (r, w) = (c.of(&[1, 2]), c.of(&[1, 4]));
        let state = self.of_shape(c, &[2, 1, 2, 4, 3]);
        let mut operands = vec![state];
        for shape in [[2, 3, 1, 2, 4], [2, 3, 1, r, 4], [2, 3, 1, 2, 3]] {
            operands.push(self.of_shape(c, &shape));
        }
        if op.decay {
            operands.push(self.of_shape(c, &[2, 3, 1, 2, w]).sigmoid());
        }
        for _ in 0..if op.delta { 2 } else { 0 } {
            operands.push(self.of_shape(c, &[2, 3, 1, r, 4]).unary(UnaryOp::Tanh) * 0.25);
        }
        expand(&op, &operands.iter().collect::<Vec<_>>())
    }

    fn selective_scan(&mut self, c: &mut Choices) -> Option<Value> {
        let state = self.of_shape(c, &[2, 4, 3]);
        let (u, delta) = (self.of_shape(c, &[2, 3, 4]), self.of_shape(c, &[2, 3, 4]).sigmoid());
        let (b, k) = (self.of_shape(c, &[2, 3, 3]), self.of_shape(c, &[2, 3, 3]));
        let a = self.of_shape(c, &[4, 3]).unary(UnaryOp::Tanh);
        expand(&SelectiveScan {}, &[&state, &u, &delta, &b, &k, &a])
    }

    /// A convolution with any attributes, perhaps with a bias and an activation.
    fn convolution(&mut self, c: &mut Choices) -> Option<Value> {
        let (channels, spatial): (usize, &[usize]) =
            c.of(&[(4, &[6][..]), (4, &[3, 2][..]), (2, &[3, 4][..]), (6, &[4][..])]);
        let x = self.of_shape(c, &[&[2, channels][..], spatial].concat());
        let groups = c.of(&[1, 1, 2, channels]);
        let outputs = groups * (1 + c.below(2));
        let kernel: Vec<usize> = spatial.iter().map(|_| 1 + c.below(3)).collect();
        let shape = [&[outputs, channels / groups][..], kernel.as_slice()].concat();
        let w = if c.flag() { self.param(c, &shape) } else { self.of_shape(c, &shape) };
        let mut each = |least: usize, n: usize| -> Vec<usize> { spatial.iter().map(|_| least + c.below(n)).collect() };
        let (stride, dilation, expand) = (each(1, 2), each(1, 2), each(1, 2));
        let padding = each(2, 2).into_iter().zip(each(2, 2)).collect();
        let y = x.apply(Conv { stride, padding, dilation, expand, groups: Some(groups) }, &[&w]) * 0.25;
        if c.flag() {
            return Some(y);
        }
        let bias = self.param(c, &[&[outputs][..], &vec![1; spatial.len()]].concat());
        Some((y + bias).unary(c.of(&[UnaryOp::Relu, UnaryOp::Silu])))
    }

    fn attention(&mut self, c: &mut Choices) -> Option<Value> {
        let q = self.of_shape(c, &[2, 2, 1, 3, 4]);
        let (k, v) = (self.of_shape(c, &[2, 2, 5, 4]), self.of_shape(c, &[2, 2, 5, 4]));
        let causal = c.flag();
        let window = c.flag().then(|| 1 + c.below(3));
        let attention = Attention {
            scale: c.of(&[0.5, 1.0, 0.3]),
            soft_cap: if c.flag() { Some(c.of(&[2.0, 5.0])) } else { None },
            causal,
            window,
            scales: c.flag(),
            past: (causal || window.is_some()) && c.flag(),
            mask: c.flag(),
            bias: c.flag(),
            sinks: c.flag(),
        };
        let (bias, sinks) = (self.param(c, &[2, 1, 3, 5]), self.param(c, &[1, 2, 1, 1, 1]));
        let scales = [(); 2].map(|()| attention.scales.then(|| self.of_shape(c, &[2, 2, 5, 1])));
        let optional = [
            scales[0].clone(),
            scales[1].clone(),
            attention.past.then(|| self.arguments[4].clone()),
            attention.mask.then(|| self.arguments[5].clone()),
            attention.bias.then_some(bias),
            attention.sinks.then_some(sinks),
        ];
        let operands: Vec<&Value> = [&q, &k, &v].into_iter().chain(optional.iter().flatten()).collect();
        expand(&attention, &operands)
    }

    /// A value of that shape, made of one that has as many elements, or a param.
    fn of_shape(&mut self, c: &mut Choices, shape: &[usize]) -> Value {
        let count = Dim::from(shape.iter().product::<usize>());
        let fits: Vec<Value> = self.values.iter().filter(|v| v.ty().elements() == count).cloned().collect();
        if fits.is_empty() { self.param(c, shape) } else { c.of(&fits).reshape(shape.iter().copied()) }
    }
}

fn expand(op: &dyn FusedOp, operands: &[&Value]) -> Option<Value> {
    let operands: Vec<Value> = operands.iter().map(|&v| v.clone()).collect();
    let rank = operands.first()?.rank();
    if rank == 0 { None } else { op.expand(&operands).ok()?.pop() }
}
