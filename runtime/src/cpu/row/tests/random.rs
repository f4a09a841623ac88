//! Random programs: generated code and the portable path agree with the double-precision evaluator.

use proptest::prelude::*;

use super::oracle::evaluate;
use super::*;

/// What a random number becomes: one node, or a few that keep values in a function's domain.
#[derive(Clone, Debug)]
enum Recipe {
    Unary(UnaryOp, u16),
    Binary(BinaryOp, u16, u16),
    Select(u16, u16, u16),
    Reduce(RowReduce, u16),
    Constant(f32),
    Position,
    Length,
}

fn recipe() -> impl Strategy<Value = Recipe> {
    let id = any::<u16>;
    let reduce = prop_oneof![Just(RowReduce::Sum), Just(RowReduce::Max), Just(RowReduce::Min)];
    prop_oneof![
        6 => (0..UnaryOp::ALL.len(), id()).prop_map(|(op, x)| Recipe::Unary(UnaryOp::ALL[op], x)),
        10 => (0..BinaryOp::ALL.len(), id(), id()).prop_map(|(op, a, b)| Recipe::Binary(BinaryOp::ALL[op], a, b)),
        2 => (id(), id(), id()).prop_map(|(c, a, b)| Recipe::Select(c, a, b)),
        2 => (reduce, id()).prop_map(|(kind, x)| Recipe::Reduce(kind, x)),
        1 => (-4.0_f32..4.0).prop_map(Recipe::Constant),
        1 => Just(Recipe::Position),
        1 => Just(Recipe::Length),
    ]
}

fn program() -> impl Strategy<Value = RowProgram> {
    let access = prop_oneof![3 => Just(Access::Element), 1 => Just(Access::Uniform)];
    let inputs = prop_oneof![
        3 => prop::collection::vec(access.clone(), 1..5),
        1 => prop::collection::vec(access, 17..21),
    ];
    let recipes = prop::collection::vec(recipe(), 1..60);
    let stores =
        prop_oneof![3 => prop::collection::vec(any::<u16>(), 1..4), 1 => prop::collection::vec(any::<u16>(), 9..12)];
    // Mostly recent operands, so that programs grow deep, or from anywhere, so that many values live long.
    let reach = prop_oneof![Just(6_u16), Just(u16::MAX)];
    (inputs, recipes, stores, reach)
        .prop_map(|(inputs, recipes, stores, reach)| build(&inputs, &recipes, &stores, reach))
}

fn build(inputs: &[Access], recipes: &[Recipe], stores: &[u16], reach: u16) -> RowProgram {
    let mut w = Writer::default();
    for &access in inputs {
        w.input(access);
    }
    for recipe in recipes {
        let count = w.0.nodes.len() as u16;
        let id = |x: u16| if x.is_multiple_of(3) { x / 3 % count } else { count - 1 - x % count.min(reach) };
        match *recipe {
            Recipe::Unary(op, x) => cook(&mut w, op, id(x)),
            Recipe::Binary(BinaryOp::Pow, a, b) => {
                let base = w.unary(UnaryOp::Softplus, id(a));
                let exponent = w.unary(UnaryOp::Tanh, id(b));
                w.binary(BinaryOp::Pow, base, exponent)
            }
            Recipe::Binary(op @ (BinaryOp::Div | BinaryOp::Mod), a, b) => {
                let divisor = w.unary(UnaryOp::Softplus, id(b));
                let half = w.constant(0.5);
                let divisor = w.binary(BinaryOp::Add, divisor, half);
                w.binary(op, id(a), divisor)
            }
            Recipe::Binary(op, a, b) => w.binary(op, id(a), id(b)),
            Recipe::Select(c, a, b) => w.node(RowNode::Select(id(c), id(a), id(b))),
            Recipe::Reduce(kind, x) => w.reduce(kind, id(x)),
            Recipe::Constant(c) => w.constant(c),
            Recipe::Position => w.node(RowNode::Position),
            Recipe::Length => w.node(RowNode::Length),
        };
    }
    let count = w.0.nodes.len() as u16;
    let stores: Vec<RowNodeId> = stores.iter().map(|store| count - 1 - store % count.min(24)).collect();
    w.store(&stores)
}

/// A function of a value that is brought into its domain.
fn cook(w: &mut Writer, op: UnaryOp, x: RowNodeId) -> RowNodeId {
    let x = match op {
        UnaryOp::Log | UnaryOp::Sqrt | UnaryOp::Rsqrt | UnaryOp::Reciprocal | UnaryOp::Log1p => {
            let positive = w.unary(UnaryOp::Abs, x);
            let offset = w.constant(0.25);
            w.binary(BinaryOp::Add, positive, offset)
        }
        UnaryOp::Exp => {
            let limit = w.constant(4.0);
            w.binary(BinaryOp::Min, x, limit)
        }
        _ => x,
    };
    w.unary(op, x)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn programs_keep_their_meaning(program in program(), n in 1_usize..101, seed in any::<u64>()) {
        let inputs: Vec<Vec<f32>> = (0..program.inputs.len() as u64).map(|i| noise(seed ^ i, n)).collect();
        let expected = evaluate(&program, &inputs, n);
        for isa in Isa::available() {
            let outputs = run(&program, isa, &inputs, n);
            for (output, (row, expected)) in outputs.iter().zip(&expected).enumerate() {
                prop_assert_eq!(row.len(), expected.len());
                for (i, (&y, bound)) in row.iter().zip(expected).enumerate() {
                    prop_assert!(bound.allows(y), "{:?}: output {}[{}] is {:e}, not {:?}", isa, output, i, y, bound);
                }
            }
        }
    }

    #[test]
    fn an_output_may_be_an_input(program in program(), n in 1_usize..80, seed in any::<u64>()) {
        let inputs: Vec<Vec<f32>> = (0..program.inputs.len() as u64).map(|i| noise(seed ^ i, n)).collect();
        let levels = program.levels();
        for isa in Isa::available() {
            let expected = run(&program, isa, &inputs, n);
            let function = RowFunction::compile(&program, isa).expect("the program compiles");
            let mut rows = inputs.clone();
            let mut outputs: Vec<Vec<f32>> = vec![vec![0.0; n]; program.stores.len()];
            // The first output that has an input of its extent takes that input's memory.
            let extent = |store: usize| if levels[usize::from(program.stores[store])].varies { n } else { 1 };
            let input_extent = |i: usize| if program.inputs[i] == Access::Element { n } else { 1 };
            let shared = (0..outputs.len()).flat_map(|o| (0..rows.len()).map(move |i| (o, i)))
                .find(|&(o, i)| extent(o) == input_extent(i));
            let row_pointers: Vec<*mut f32> = rows.iter_mut().map(|row| row.as_mut_ptr()).collect();
            let sources: Vec<*const f32> = row_pointers.iter().map(|p| p.cast_const()).collect();
            let mut targets: Vec<*mut f32> = outputs.iter_mut().map(|row| row.as_mut_ptr()).collect();
            if let Some((o, i)) = shared {
                targets[o] = row_pointers[i];
            }
            call_raw(&function, &sources, &targets, n);
            if let Some((o, i)) = shared {
                outputs[o] = rows[i].clone();
            }
            for (o, (row, expected)) in outputs.iter().zip(&expected).enumerate() {
                let bits = |row: &[f32]| row.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(bits(&row[..extent(o)]), bits(expected), "{:?}: output {}", isa, o);
            }
        }
    }
}
