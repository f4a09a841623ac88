//! Structured state spaces, S4 and S4D: convolutions whose kernels follow from a state space (arXiv:2111.00396,
//! arXiv:2206.11893).

use castiron_ir::op::{BinaryOp, Dot, Extent, FftConv, Gather, ReduceKind, StatePart, StateSpace, UnaryOp};
use castiron_ir::{DType, Dim, Value};

use super::{LinearKind, ModelBuilder, Size};

/// Taps that one power of a diagonal space serves.
const TAPS: usize = 64;

/// A layer: one or more state spaces for each channel, an activation, and a gated projection.
#[derive(Clone, Debug, PartialEq)]
pub struct S4 {
    /// Channels.
    pub width: Size,
    /// Complex numbers of a state, without their conjugates.
    pub state: Size,
    /// Kernels of each channel.
    pub kernels: Size,
    /// How parameters are stored.
    pub stored: Stored,
    /// Whether as many kernels look ahead.
    pub bidirectional: bool,
    /// Taps beyond which kernels end, if they do.
    pub longest: Option<usize>,
    /// After the convolution.
    pub activation: UnaryOp,
}

/// The parameters of state spaces in a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub enum Stored {
    /// The minimal S4D: logarithms of steps and of decays.
    Minimal,
    /// S4's block.
    Block {
        /// State spaces that channels take in turn.
        spaces: Size,
        /// Whether all numbers of a state have one step.
        ties_steps: bool,
        /// What makes steps, and real and imaginary parts of `-A`, of what is stored.
        transforms: [Positive; 3],
        /// What the matrix is.
        matrix: Matrix,
    },
}

/// The matrix of a state space.
#[derive(Clone, Debug, PartialEq)]
pub enum Matrix {
    /// Diagonal, by the bilinear transform or a hold of order zero.
    Diagonal {
        /// Which of them.
        bilinear: bool,
    },
    /// Diagonal less a product of that rank.
    LowRank(Size),
}

/// What makes a parameter positive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Positive {
    /// It is its logarithm.
    Exp,
    /// It is what is stored.
    None,
    /// Its positive part and a little more.
    Relu,
    /// The logistic function.
    Sigmoid,
    /// `log(1 + eˣ)`.
    Softplus,
}

impl Positive {
    fn of(self, x: &Value) -> Value {
        match self {
            Positive::Exp => x.unary(UnaryOp::Exp),
            Positive::None => x.clone(),
            Positive::Relu => x.unary(UnaryOp::Relu) + 1e-4,
            Positive::Sigmoid => x.unary(UnaryOp::Sigmoid),
            Positive::Softplus => x.unary(UnaryOp::Softplus),
        }
    }
}

/// A space as the op [`StateSpace`] takes it, in f64.
struct Space {
    /// `Δ`, real and imaginary parts of `A`, `B`, `C`.
    operands: Vec<Value>,
    matrix: Matrix,
    /// `P`, and the length that `C` is stored for.
    low_rank: Option<[Value; 2]>,
}

impl ModelBuilder<'_> {
    /// The mean along the sequence, `[b, s, n]` → `[b, n]`.
    pub fn mean(&self, x: &Value) -> Value {
        let count = self.builder.apply(Extent { of: x.dim(1) }, &[]).cast(DType::F32);
        let sum = x.reduce(ReduceKind::Sum, &[1]).reshape([x.dim(0), x.dim(2)]);
        sum.binary(BinaryOp::Div, &count)
    }

    /// `glu(W·act(K ∗ x + D ⊙ x) + w)` of `x: [b, s, n]`.
    pub fn s4(&self, x: &Value, s4: &S4) -> Value {
        let (width, kernels) = (&s4.width, s4.kernels.value());
        let all = if s4.bidirectional { &s4.kernels * 2 } else { s4.kernels.clone() };
        let m = if s4.stored == Stored::Minimal { self.clone() } else { self.scope("layer") };
        let k = m.space(s4, &all).kernel(x.dim(1), s4.longest);
        let skip = match s4.stored {
            Stored::Minimal => m.param("D", &[width]).reshape([1, width.value()]),
            Stored::Block { .. } => m.param("D", &[&s4.kernels, width]),
        };
        let rows = |x: &Value| x.transpose(&[0, 2, 1]).reshape([x.dim(0), 1.into(), x.dim(2), x.dim(1)]);
        let mut y = rows(x).apply(FftConv { length: None }, &[&k.slice(0, 0, kernels)]);
        if s4.bidirectional {
            // What looks ahead reads backwards, and begins after its own place.
            let ahead = k.slice(0, kernels, 2 * kernels).pad(2, 1, 0);
            let last = x.builder().apply(Extent { of: x.dim(1) - Dim::from(1) }, &[]);
            let backwards = last - x.builder().iota([x.dim(1)], 0);
            let turned = |y: &Value, axis: usize| y.apply(Gather { axis, batch: None }, &[&backwards]);
            let before = rows(&turned(x, 1)).apply(FftConv { length: None }, &[&ahead]);
            let before = turned(&before.transpose(&[3, 0, 1, 2]), 0);
            y = y.transpose(&[3, 0, 1, 2]) + before;
            y = y.transpose(&[1, 2, 3, 0]);
        }
        let y = y.transpose(&[0, 3, 1, 2]) + x.reshape([x.dim(0), x.dim(1), 1.into(), x.dim(2)]) * skip;
        let inner = Size::new(kernels * width.value(), format!("{}·{width}", s4.kernels));
        let y = y.unary(s4.activation).reshape([x.dim(0), x.dim(1), inner.value().into()]);
        self.gated_halves(&y, &inner, s4)
    }

    /// The projection, whose first half its second half gates.
    fn gated_halves(&self, y: &Value, inner: &Size, s4: &S4) -> Value {
        let (m, n, both) = (self.scope("output_linear.0"), s4.width.value(), &s4.width * 2);
        let both = match s4.stored {
            Stored::Minimal => {
                let weight = m.param("weight", &[&both, inner, &Size::new(1, "1")]);
                y.linear(&weight.reshape([2 * n, inner.value()])) + m.param("bias", &[&both])
            }
            Stored::Block { .. } => self.linear("output_linear.0", y, [inner, &both], LinearKind::BIASED),
        };
        both.slice(2, 0, n) * both.slice(2, n, 2 * n).sigmoid()
    }

    fn space(&self, s4: &S4, kernels: &Size) -> Space {
        let m = self.scope("kernel");
        let (d, n, two) = (&s4.width, &s4.state, Size::new(2, "2"));
        let exact = |name: &str, shape: &[&Size]| m.param(name, shape).cast(DType::F64);
        let over = [d.value(), n.value()];
        let Stored::Block { spaces, ties_steps, transforms, matrix } = &s4.stored else {
            let dt = exact("log_dt", &[d]).unary(UnaryOp::Exp).reshape([d.value(), 1]);
            let re = exact("log_A_real", &[d, n]).unary(UnaryOp::Exp).unary(UnaryOp::Neg);
            let im = exact("A_imag", &[d, n]);
            let zero = (&im * 0.0).reshape([over[0], over[1], 1]);
            let b = self.builder.concat(2, &[&(&zero + 1.0), &zero]);
            let c = exact("C", &[d, n, &two]).reshape([1, over[0], over[1], 2]);
            return Space {
                operands: vec![dt, re, im, b, c],
                matrix: Matrix::Diagonal { bilinear: false },
                low_rank: None,
            };
        };
        // Channel h takes space h mod S.
        let of_channels = |x: Value, axis: usize| {
            let times = d.value() / spaces.value();
            if times == 1 { x } else { self.builder.concat(axis, &vec![&x; times]) }
        };
        let steps = if *ties_steps { Size::new(1, "1") } else { n.clone() };
        let dt = transforms[0].of(&exact("inv_dt", &[d, &steps]));
        let [re, im] = [("A_real", transforms[1]), ("A_imag", transforms[2])]
            .map(|(name, transform)| of_channels(transform.of(&exact(name, &[spaces, n])).unary(UnaryOp::Neg), 0));
        let b = exact("B", &[&Size::new(1, "1"), spaces, n, &two]).reshape([spaces.value(), n.value(), 2]);
        let c = exact("C", &[kernels, d, n, &two]);
        let low_rank = match matrix {
            Matrix::LowRank(rank) => {
                let p = of_channels(exact("P", &[rank, spaces, n, &two]), 1);
                Some([p, exact("l_kernel", &[])])
            }
            Matrix::Diagonal { .. } => None,
        };
        Space { operands: vec![dt, re, im, of_channels(b, 0), c], matrix: matrix.clone(), low_rank }
    }
}

impl Space {
    fn part(&self, part: StatePart, taps: Option<usize>) -> Value {
        let count = match part {
            StatePart::Zoh | StatePart::Bilinear => 0,
            StatePart::Step => 1,
            StatePart::Readout => 2,
        };
        let others = self.low_rank.iter().flatten().take(count);
        let operands: Vec<&Value> = self.operands[1..].iter().chain(others).collect();
        self.operands[0].apply(StateSpace { part, taps }, &operands)
    }

    /// The first taps of the kernels, `[k, d, l]` with `l` at least `length`, or as many as kernels have.
    fn kernel(&self, length: Dim, longest: Option<usize>) -> Value {
        let length = longest.map_or(length, Dim::from);
        let k = match self.matrix {
            Matrix::Diagonal { bilinear } => {
                self.of_powers(if bilinear { StatePart::Bilinear } else { StatePart::Zoh }, &length)
            }
            Matrix::LowRank(_) => self.of_steps(&length),
        };
        match longest {
            Some(longest) => k.slice(2, 0, longest),
            None => k,
        }
    }

    /// `K_{64q + i} = 2·Re(Σ C·B̄·λ^i · λ^(64q))`: the first factor is a table, the second follows from step to step, and
    /// the sum is a product of matrices.
    fn of_powers(&self, part: StatePart, length: &Dim) -> Value {
        let table = self.part(part, Some(TAPS));
        let [d, twice] = [0, 1].map(|axis| table.dim(axis).as_constant().unwrap_or(0) as usize);
        let kernels = self.operands[4].dim(0).as_constant().unwrap_or(0) as usize;
        let n = twice / 2;
        let growth = table.slice(2, kernels * TAPS, kernels * TAPS + 1).reshape([d, twice]);
        let half = |x: &Value, i: usize| x.slice(1, i * n, (i + 1) * n);
        let builder = table.builder();
        let steps = builder.iota([length.div_ceil(TAPS as i64)], 0).cast(DType::F32);
        let one = builder.scalar(DType::F32, 1.0).broadcast([d, n]);
        let zero = builder.scalar(DType::F32, 0.0).broadcast([d, n]);
        let (re, im) = (half(&growth, 0), half(&growth, 1));
        let powers = builder.scan(0, [&[&one, &zero], &[&steps], &[&re, &im]], |_, values| {
            let [x, y, _, re, im] = values else { unreachable!("as many values as operands") };
            vec![x * re - y * im, x * im + y * re, x.clone(), y.clone()]
        });
        let powers = builder.concat(2, &[&powers[2], &powers[3]]);
        let of = |kernel: usize| {
            let taps = table.slice(2, kernel * TAPS, (kernel + 1) * TAPS);
            let product = powers.apply(Dot { batch: vec![(1, 0)], contract: vec![(2, 1)] }, &[&taps]);
            product.reshape([Dim::from(1), d.into(), product.dim(1) * Dim::from(TAPS)])
        };
        let all: Vec<Value> = (0..kernels).map(of).collect();
        builder.concat(0, &all.iter().collect::<Vec<_>>())
    }

    /// `K_l = C·x_l` with `x_0 = B̄`, `x_{l+1} = Ā·x_l`, where `Ā` is a diagonal less a product of low rank.
    fn of_steps(&self, length: &Dim) -> Value {
        let (step, read) = (self.part(StatePart::Step, None), self.part(StatePart::Readout, None));
        let [d, twice] = [1, 2].map(|axis| step.dim(axis).as_constant().unwrap_or(0) as usize);
        let [rows, kernels] = [&step, &read].map(|x| x.dim(0).as_constant().unwrap_or(0) as usize);
        let n = twice / 2;
        let half =
            |x: &Value, row: usize, i: usize| x.slice(0, row, row + 1).slice(2, i * n, (i + 1) * n).reshape([d, n]);
        let both = |x: &Value, row: usize| [half(x, row, 0), half(x, row, 1)];
        let builder = step.builder();
        let first = both(&step, 1);
        let steps = builder.iota([length.clone()], 0).cast(DType::F32);
        let rank = rows / 2 - 1;
        // Read into two buffers and sliced inside: as a weight each, constants would be more than shaders bind.
        let in_one = |x: &Value, rows: usize| x.gather(0, &builder.iota([rows], 0));
        let shared = [in_one(&step, rows), in_one(&read, kernels)];
        let results = builder.scan(0, [&[&first[0], &first[1]], &[&steps], &[&shared[0], &shared[1]]], |_, values| {
            let [x, y, _, step, read] = values else { unreachable!("as many values as operands") };
            let meets = |[re, im]: [Value; 2]| {
                let sum = |a: &Value, b: &Value| (a * b).reduce(ReduceKind::Sum, &[1]);
                sum(x, &re) + sum(y, &im)
            };
            let [re, im] = &both(step, 0);
            let mut next = [x + x * re - y * im, y + x * im + y * re];
            for r in 0..rank {
                let (seen, [u, w]) = (meets(both(step, 2 + rank + r)), both(step, 2 + r));
                next = [&next[0] - &seen * u, &next[1] - &seen * w];
            }
            let taps = (0..kernels).map(|kernel| meets(both(read, kernel)).reshape([d]));
            next.clone().into_iter().chain(taps).collect()
        });
        let taps =
            results[2..].iter().map(|taps| taps.transpose(&[1, 0]).reshape([Dim::from(1), d.into(), length.clone()]));
        builder.concat(0, &taps.collect::<Vec<_>>().iter().collect::<Vec<_>>())
    }
}
