//! KV caches of 16 and 8 bits on the CPU, against the interpreter on the same graph: what is written is
//! rounded in the same way, so that only the last bits of sums differ; and against caches of f32.

use std::path::Path;

use castiron::compiler;
use castiron_frontends::checkpoint::Checkpoint;
use castiron_frontends::models::{self, Model};
use castiron_ir::DType;
use castiron_passes::caches::{self, CacheFormat};
use castiron_runtime::cpu::isa::Isa;
use castiron_runtime::program::KernelBody;
use castiron_runtime::program::view::{Place, View};
use castiron_runtime::session;
use castiron_runtime::tasks::Pipeline;
use castiron_runtime::tensor::TensorRef;
use castiron_tests::compiled::{self, cpu};
use castiron_tests::fixture::{self, Fixture};
use castiron_tests::oracle::{Oracle, argmax};

const TOLERANCE: f64 = 1e-3;

/// Grouped heads, one and many key heads, heads wider than their share, extents that are multiples of nothing.
const FIXTURES: [&str; 5] = ["gpt2-odd-sizes", "llama-gqa", "llama-head-dim", "llama-mha", "llama-mqa"];

fn fixtures() -> impl Iterator<Item = Fixture> {
    fixture::all().into_iter().filter(|fixture| FIXTURES.contains(&fixture.name.as_str()))
}

const NARROW: [CacheFormat; 2] = [CacheFormat::F16, CacheFormat::Q8];

fn open(path: &Path, caches: CacheFormat, executed: session::Options) -> Pipeline {
    let options = compiler::Options { caches, ..compiler::Options::default() };
    compiled::open_with(path, &options, executed).unwrap()
}

/// The graph as a compiler gets it.
fn narrowed(checkpoint: &Checkpoint, to: CacheFormat) -> Model {
    let mut model = models::of(checkpoint).unwrap();
    caches::narrow(&mut model.module, to).unwrap();
    castiron_ir::verify::verify(&model.module).unwrap();
    model
}

#[test]
fn scores_and_greedy_tokens_are_those_of_the_interpreter() {
    assert_eq!(fixtures().count(), FIXTURES.len());
    for fixture in fixtures() {
        NARROW.into_iter().for_each(|format| agrees_with_the_interpreter(&fixture, format));
    }
}

fn agrees_with_the_interpreter(fixture: &Fixture, format: CacheFormat) {
    let checkpoint = Checkpoint::open(&fixture.path).unwrap();
    let model = narrowed(&checkpoint, format);
    let mut pipelines: Vec<Pipeline> = Isa::available().map(|isa| open(&fixture.path, format, cpu(isa))).collect();
    for generated in &fixture.generations {
        let (cut, capacity) = (generated.prompt.len() / 2, generated.greedy.len());
        let mut oracle = Oracle::new(&model, &checkpoint);
        let mut sessions: Vec<_> =
            pipelines.iter_mut().map(|p| p.model().session(&[("b", 1), ("c", capacity)]).unwrap()).collect();
        let mut tokens = generated.prompt.clone();
        // The prompt in two parts, then token by token.
        let mut past = 0;
        for end in std::iter::once(cut).filter(|&cut| cut > 0).chain(generated.prompt.len()..capacity) {
            let expected = oracle.step(&tokens[past..end], past, end, capacity);
            for session in &mut sessions {
                let found = compiled::step(session, &tokens[past..end], past).unwrap();
                for (x, y) in found.iter().zip(&expected) {
                    let close = (f64::from(*x) - y).abs() < TOLERANCE * y.abs().max(1.0);
                    assert!(close, "{}, {format:?}, at {past}: {x}, not {y}", fixture.name);
                }
                let found: Vec<f64> = found.into_iter().map(f64::from).collect();
                assert_eq!(argmax(&found, &[]), argmax(&expected, &[]), "{}, {format:?}, at {past}", fixture.name);
            }
            past = end;
            if end >= generated.prompt.len() {
                tokens.push(argmax(&expected, &[]));
            }
        }
    }
}

/// Scores after each token of a text.
fn scores(path: &Path, caches: CacheFormat, tokens: &[u32]) -> Vec<f32> {
    let mut session = open(path, caches, cpu(Isa::detect())).model().session(&[("b", 1), ("c", tokens.len())]).unwrap();
    (0..tokens.len()).flat_map(|i| compiled::step(&mut session, &tokens[i..=i], i).unwrap()).collect()
}

#[test]
fn scores_are_near_those_of_caches_of_f32() {
    for fixture in fixtures() {
        let tokens = &fixture.generations[0].greedy;
        let exact = scores(&fixture.path, CacheFormat::F32, tokens);
        let size = (exact.iter().map(|x| x * x).sum::<f32>() / exact.len() as f32).sqrt();
        let errors = NARROW.map(|format| {
            let found = scores(&fixture.path, format, tokens);
            let squares = found.iter().zip(&exact).map(|(x, y)| (x - y) * (x - y)).sum::<f32>();
            (squares / exact.len() as f32).sqrt() / size
        });
        assert!(errors[0] > 0.0 && errors[0] < 2e-3, "{}, f16: {}", fixture.name, errors[0]);
        assert!(errors[1] > errors[0] && errors[1] < 2e-2, "{}, q8: {}", fixture.name, errors[1]);
    }
}

#[test]
fn rows_of_different_lengths_share_a_batch() {
    NARROW.into_iter().for_each(share_a_batch);
}

fn share_a_batch(format: CacheFormat) {
    let path = fixtures().find(|fixture| fixture.name == "llama-gqa").unwrap().path;
    let pipeline = open(&path, format, cpu(Isa::detect()));
    let prompts: [&[u32]; 3] = [&[5, 34, 60, 17, 56], &[9], &[3, 8, 1]];
    let alone = prompts.map(|prompt| {
        let mut session = pipeline.model().session(&[("b", 1), ("c", 8)]).unwrap();
        compiled::step(&mut session, prompt, 0).unwrap();
        compiled::step(&mut session, &[7], prompt.len()).unwrap()
    });
    let mut session = pipeline.model().session(&[("b", 3), ("c", 6)]).unwrap();
    let mut run = |ids: Vec<i32>, past: [i32; 3], last: [i32; 3]| -> Vec<f32> {
        let shape = [3, ids.len() / 3];
        let inputs = [
            ("input_ids", TensorRef::i32(&shape, &ids).unwrap()),
            ("past", TensorRef::i32(&[3], &past).unwrap()),
            ("last", TensorRef::i32(&[3], &last).unwrap()),
        ];
        session.run("step", &inputs).unwrap().get("logits").unwrap().as_f32().unwrap().to_vec()
    };
    let padded = prompts.iter().flat_map(|p| (0..5).map(|i| *p.get(i).unwrap_or(&0) as i32)).collect();
    run(padded, [0; 3], [4, 0, 2]);
    let together = run(vec![7; 3], [5, 1, 3], [0; 3]);
    for (together, alone) in together.chunks(together.len() / 3).zip(&alone) {
        together.iter().zip(alone).for_each(|(x, y)| assert!((x - y).abs() < 1e-4, "{x}, not {y}"));
    }
}

#[test]
fn no_kernel_but_attention_reads_a_cache() {
    use DType::{F16, F32, I8};
    let path = fixtures().find(|fixture| fixture.name == "llama-gqa").unwrap().path;
    let kernels = |caches: CacheFormat, dtypes: &[DType]| {
        let checkpoint = Checkpoint::open(&path).unwrap();
        let options = compiler::Options { caches, ..compiler::Options::default() };
        let program = compiler::compile(&checkpoint, &options).unwrap().compiled.program;
        assert_eq!(program.states.iter().map(|state| state.ty.dtype).collect::<Vec<_>>(), dtypes);
        let kernels: Vec<_> = program.entries.into_iter().flat_map(|entry| entry.kernels).collect();
        let is_state = |view: &View| matches!(view.place, Place::State(_));
        for kernel in &kernels {
            match &kernel.body {
                KernelBody::Attention(attention) if is_state(&attention.k) => {
                    assert_eq!([attention.k.dtype, attention.v.dtype], [dtypes[0]; 2]);
                    let scales = attention.scales.iter().flatten().filter(|view| is_state(view));
                    assert_eq!(scales.count(), dtypes.len() - 2);
                }
                body => assert!(!body.views().0.into_iter().any(is_state), "{}", kernel.label),
            }
        }
        kernels.into_iter().map(|kernel| kernel.label).collect::<Vec<_>>()
    };
    let wide = kernels(CacheFormat::F32, &[F32; 2]);
    assert_eq!(kernels(CacheFormat::F16, &[F16; 2]), wide);
    // Keys are turned before the kernel that rounds them.
    assert_eq!(kernels(CacheFormat::Q8, &[I8, I8, F32, F32]).len(), wide.len() + 1);
}
