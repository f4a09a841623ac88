//! The best token that a model finds is the one that greedy sampling takes, whatever the logits are.

use std::collections::HashMap;
use std::path::Path;

use castiron_ir::interpret::{Binding, run_entry};
use castiron_ir::op::Gather;
use castiron_ir::{Builder, DType, Dim, Entry, Module, State, Storage, StoredTensor, Task, Tensor, TensorSource, Type};
use castiron_runtime::cpu::isa::Isa;
use castiron_runtime::session::{self, Model};
use castiron_runtime::tasks::Pipeline;
use castiron_runtime::tasks::generate::Request;
use castiron_runtime::tensor::TensorRef;
use castiron_runtime::text::{NoCandidate, Sampler, Sampling};
use castiron_tests::compiled;
use proptest::prelude::*;
use proptest::sample::select;

/// The logits after each token, whatever comes before it: `[tokens, tokens]`.
struct Table {
    shape: [usize; 2],
    logits: Vec<f32>,
    bytes: Vec<u8>,
}

impl Table {
    fn new(logits: Vec<f32>) -> Table {
        let tokens = logits.len().isqrt();
        let bytes = logits.iter().flat_map(|x| x.to_le_bytes()).collect();
        Table { shape: [tokens, tokens], logits, bytes }
    }

    fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.logits.chunks(self.shape[1])
    }

    /// What greedy sampling takes after each token; their number if it finds none.
    fn best(&self) -> Vec<i32> {
        let choose = |row: &[f32]| Sampler::new(Sampling::GREEDY, 0).choose(row, &[], &[]);
        self.rows().map(|row| choose(row).map_or(row.len() as i32, |token| token as i32)).collect()
    }
}

impl TensorSource for Table {
    fn layout(&self, name: &str) -> Option<(Storage, &[usize])> {
        (name == "table").then_some((Storage::Dense(DType::F32), &self.shape))
    }

    fn tensor(&self, name: &str) -> Option<StoredTensor<'_>> {
        let (storage, shape) = self.layout(name)?;
        Some(StoredTensor { shape: shape.to_vec(), storage, bytes: self.bytes.as_slice().into() })
    }
}

/// A decoder of so many tokens that looks its logits up and remembers what it has seen.
fn module(tokens: usize) -> Module {
    let m = Builder::new();
    let ids = m.argument("input_ids", Type::i32(["b", "s"]));
    let (past, last) = (m.argument("past", Type::i32(["b"])), m.argument("last", Type::i32(["b"])));
    let cache = Type::f32([Dim::symbol("b"), "c".into(), 1.into()]);
    let rows = ids.cast(DType::F32).reshape([ids.dim(0), ids.dim(1), 1.into()]);
    m.state_update("seen", cache.clone(), 1, &rows, &past);
    let logits = m.param("table", [tokens, tokens]).gather(0, &ids).apply(Gather { axis: 1, batch: Some(1) }, &[&last]);
    let body = m.finish(&[&logits, &logits.arg_max_last()]).unwrap();
    let states = vec![State { name: "seen".into(), instances: None, ty: cache }];
    Module { entries: vec![Entry { name: "step".into(), states, outputs: vec!["logits".into(), "best".into()], body }] }
}

fn compile(module: &Module, table: &Table, artifact: &Path) {
    compiled::write(module, table, Task::TextGeneration, false, artifact);
}

/// The best tokens of all rows at once.
fn best(model: &Model, tokens: usize) -> Vec<i32> {
    let mut session = model.session(&[("b", tokens), ("c", 1)]).unwrap();
    let (ids, zeros) = ((0..tokens as i32).collect::<Vec<_>>(), vec![0; tokens]);
    let shape = [tokens, 1];
    let rows = TensorRef::i32(&shape[..1], &zeros).unwrap();
    let inputs = [("input_ids", TensorRef::i32(&shape, &ids).unwrap()), ("past", rows), ("last", rows)];
    session.run("step", &inputs).unwrap().get("best").unwrap().as_i32().unwrap().to_vec()
}

fn interpreted(table: &Table) -> Vec<i32> {
    let (module, tokens) = (module(table.shape[1]), table.shape[1]);
    let tensor = |shape: &[usize], value: fn(usize) -> f64| Tensor::from_fn(DType::I32, shape, |i| value(i[0]));
    let inputs = [tensor(&[tokens, 1], |i| i as f64), tensor(&[tokens], |_| 0.0), tensor(&[tokens], |_| 0.0)];
    let data: Vec<f64> = table.logits.iter().map(|&x| x.into()).collect();
    let params = |_: &str| Some(Tensor { dtype: DType::F32, shape: table.shape.to_vec(), data: data.clone() });
    let binding = Binding::from([("c".to_owned(), 1)]);
    let results = run_entry(&module.entries[0], &inputs, &binding, &params, &mut HashMap::new()).unwrap();
    results[1].data.iter().map(|&x| x as i32).collect()
}

fn check(table: &Table) {
    let expected = table.best();
    assert_eq!(interpreted(table), expected);
    let folder = tempfile::tempdir().unwrap();
    let artifact = folder.path().join("table.iron");
    compile(&module(table.shape[1]), table, &artifact);
    for isa in Isa::available() {
        let options = session::Options { threads: 2, isa, ..session::Options::default() };
        let mut pipeline = Pipeline::new(Model::open(&artifact, options).unwrap());
        assert_eq!(best(pipeline.model(), table.shape[1]), expected, "{isa:?}");
        texts(&mut pipeline, table);
    }
}

/// Texts from the model's best tokens and from its logits are the same. They come from the logits when
/// a token is banned, even one that does not exist.
fn texts(pipeline: &mut Pipeline, table: &Table) {
    const LENGTH: usize = 4;
    let sampling = Sampling::GREEDY;
    let free = Request { sampling, end: vec![u32::MAX], ..Request::plain(LENGTH) };
    // The second half of a text is chosen in the other way than the first.
    let requests = [0, LENGTH / 2, LENGTH].map(|min_new_tokens| Request { min_new_tokens, ..free.clone() });
    for first in 0..table.shape[1].min(20) as u32 {
        let mut write = |request: &Request| {
            let rows = pipeline.generate(&[vec![first]], request, &mut |_| true).map(|generated| generated.rows);
            rows.map_err(|error| error.to_string())
        };
        let [best, mixed, logits] = requests.each_ref().map(&mut write);
        assert_eq!(best, logits);
        assert_eq!(mixed, logits);
    }
}

#[test]
fn ties_go_to_the_smaller_and_what_is_no_number_is_left_out() {
    const NAN: f32 = f32::NAN;
    const NONE: f32 = f32::NEG_INFINITY;
    let two = [2.0, 3.0, 1.0, 3.0];
    let zeros = [NAN, 0.0, NAN, -0.0];
    let lowest = [NONE, f32::MIN, NAN, f32::MIN];
    let no_numbers = [NONE, NAN, NONE, NAN];
    let table = Table::new([two, zeros, lowest, no_numbers].concat());
    assert_eq!(table.best(), [1, 1, 1, 4]);
    check(&table);
    let infinite = [f32::INFINITY, NAN, f32::INFINITY, 1.0];
    let table = Table::new([infinite, [NAN; 4], [NONE; 4], [1.0; 4]].concat());
    assert_eq!(table.best(), [0, 4, 4, 0]);
    check(&table);
}

/// Why a model writes no text after token 0.
fn error(module: &Module, table: &Table) -> String {
    let folder = tempfile::tempdir().unwrap();
    let artifact = folder.path().join("table.iron");
    compile(module, table, &artifact);
    let mut pipeline = Pipeline::open(&artifact, session::Options::default()).unwrap();
    let request = Request::of_model(pipeline.description(), 3);
    pipeline.generate(&[vec![0]], &request, &mut |_| true).unwrap_err().to_string()
}

#[test]
fn a_row_without_numbers_is_the_error_of_the_sampler() {
    let table = Table::new(vec![0.0, 1.0, f32::NAN, f32::NAN]);
    assert_eq!(error(&module(2), &table), NoCandidate(2).to_string());
}

#[test]
fn a_decoder_gives_logits_and_the_best_token() {
    for (kept, missing) in [(0, "best"), (1, "logits")] {
        let mut module = module(2);
        let entry = &mut module.entries[0];
        entry.outputs = vec![entry.outputs[kept].clone()];
        entry.body.results = vec![entry.body.results[kept]];
        let message = error(&module, &Table::new(vec![0.0; 4]));
        assert!(message.starts_with(&format!("entry `step` has no output `{missing}`")), "{message}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn best_tokens_are_those_of_the_sampler(
        logits in (1..70_usize).prop_flat_map(|n| {
            let few = select(vec![f32::NAN, f32::NEG_INFINITY, f32::INFINITY, f32::MIN, -1.0, -0.0, 0.0, 1.0, 2.0]);
            prop_oneof![
                prop::collection::vec(few, n * n),
                prop::collection::vec(-4..4_i8, n * n).prop_map(|row| row.into_iter().map(f32::from).collect()),
                prop::collection::vec(any::<f32>(), n * n),
            ]
        }),
    ) {
        check(&Table::new(logits));
    }
}
