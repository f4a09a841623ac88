//! Speed of scans on the CPU: `cargo run --release -p castiron-tests --example scan_peak`.
//!
//! `THREADS` is 2 unless set. Times are medians of a whole call.

use std::time::Instant;

use castiron_ir::{Task, text};
use castiron_runtime::session::{self, Model};
use castiron_runtime::tensor::Tensor;
use castiron_tests::compiled;

/// Name, elements that are carried times steps, text.
const CASES: [(&str, f64, &str); 6] = [
    ("h <- a·h + b, 1536 channels x 16 states, 512 steps", 1536.0 * 16.0 * 512.0, LINEAR),
    ("a scan that is selective, 1536 channels x 16 states, 512 steps", 1536.0 * 16.0 * 512.0, SELECTIVE),
    ("a scan that is a gated delta rule, 8 heads of 128 x 128, 128 steps", 8.0 * 128.0 * 128.0 * 128.0, DELTA),
    ("selective_scan, 1536 channels x 16 states, 512 steps", 1536.0 * 16.0 * 512.0, FUSED_SELECTIVE),
    ("linear_attention with decay, 12 heads of 64 x 64, 512 steps", 12.0 * 64.0 * 64.0 * 512.0, RETENTION),
    ("linear_attention with delta, 8 heads of 128 x 128, 128 steps", 8.0 * 128.0 * 128.0 * 128.0, FUSED_DELTA),
];

const LINEAR: &str = "
entry main(%a: f32[1,512,1536,16], %b: f32[1,512,1536,16], %h: f32[1,1,1536,16]) -> (y) {
  %0 = linear_recurrence %a, %b, %h axis=1 : f32[1,512,1536,16]
  return %0
}
";

const SELECTIVE: &str = "
entry main(%h: f32[1536,16], %delta: f32[512,1536], %u: f32[512,1536], %B: f32[512,16], %C: f32[512,16], %A: f32[1536,16]) -> (y, h) {
  %0, %1 = scan axis=0 carried=1 sequences=4 (%h = %h, %delta = %delta, %u = %u, %B = %B, %C = %C, %A = %A) {
    %0 = reshape %delta to=[1536,1] : f32[1536,1]
    %1 = mul %0, %A : f32[1536,16]
    %2 = exp %1 : f32[1536,16]
    %3 = mul %h, %2 : f32[1536,16]
    %4 = mul %delta, %u : f32[1536]
    %5 = dot %4, %B : f32[1536,16]
    %6 = add %3, %5 : f32[1536,16]
    %7 = dot %6, %C contract=[(1,0)] : f32[1536]
    yield %6, %7
  } : f32[1536,16], f32[512,1536]
  return %1, %0
}
";

const FUSED_SELECTIVE: &str = "
entry main(%h: f32[1,1536,16], %u: f32[1,512,1536], %delta: f32[1,512,1536], %B: f32[1,512,16], %C: f32[1,512,16], %A: f32[1536,16]) -> (y, h) {
  %0, %1 = selective_scan %h, %u, %delta, %B, %C, %A : f32[1,1536,16], f32[1,512,1536]
  return %1, %0
}
";

const RETENTION: &str = "
entry main(%S: f32[1,12,1,64,64], %q: f32[1,512,12,1,64], %k: f32[1,512,12,1,64], %v: f32[1,512,12,1,64], %w: f32[1,512,12,1,1]) -> (o, S) {
  %0, %1 = linear_attention %S, %q, %k, %v, %w decay=true delta=false before=false : f32[1,12,1,64,64], f32[1,512,12,1,64]
  return %1, %0
}
";

const FUSED_DELTA: &str = "
entry main(%S: f32[1,8,1,128,128], %q: f32[1,128,8,1,128], %k: f32[1,128,8,1,128], %v: f32[1,128,8,1,128], %w: f32[1,128,8,1,1], %a: f32[1,128,8,1,128]) -> (o, S) {
  %0, %1 = linear_attention %S, %q, %k, %v, %w, %a, %k decay=true delta=true before=false : f32[1,8,1,128,128], f32[1,128,8,1,128]
  return %1, %0
}
";

const DELTA: &str = "
entry main(%S: f32[8,128,128], %q: f32[128,8,128], %k: f32[128,8,128], %v: f32[128,8,128], %decay: f32[128,8], %beta: f32[128,8]) -> (o, S) {
  %0, %1 = scan axis=0 carried=1 sequences=5 (%S = %S, %q = %q, %k = %k, %v = %v, %decay = %decay, %beta = %beta) {
    %0 = reshape %decay to=[8,1,1] : f32[8,1,1]
    %1 = mul %S, %0 : f32[8,128,128]
    %2 = dot %1, %k batch=[(0,0)] contract=[(1,1)] : f32[8,128]
    %3 = sub %v, %2 : f32[8,128]
    %4 = reshape %beta to=[8,1] : f32[8,1]
    %5 = mul %3, %4 : f32[8,128]
    %6 = dot %k, %5 batch=[(0,0)] : f32[8,128,128]
    %7 = add %1, %6 : f32[8,128,128]
    %8 = dot %7, %q batch=[(0,0)] contract=[(1,1)] : f32[8,128]
    yield %7, %8
  } : f32[8,128,128], f32[128,8,128]
  return %1, %0
}
";

fn main() {
    let folder = tempfile::tempdir().expect("a folder for artifacts");
    let threads = std::env::var("THREADS").ok().and_then(|n| n.parse().ok()).unwrap_or(2);
    for (name, elements, text) in CASES {
        let module = text::parse_module(text).expect("the text is IR");
        let artifact = folder.path().join("scan.iron");
        compiled::write(&module, &compiled::Nothing, Task::FeatureExtraction, false, &artifact);
        let model = Model::open(&artifact, session::Options { threads, ..session::Options::default() });
        let model = model.expect("the artifact opens");
        let mut session = model.smallest_session().expect("there is memory");
        let shape = |ty: &castiron_ir::Type| ty.shape.iter().map(|d| d.as_constant().unwrap_or(1) as usize).collect();
        let inputs: Vec<(String, Tensor)> = model.program().entries[0]
            .inputs
            .iter()
            .map(|(name, ty)| {
                let shape: Vec<usize> = shape(ty);
                (name.clone(), Tensor::zeros(ty.dtype, &shape).expect("there is memory"))
            })
            .collect();
        let named: Vec<_> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor.view())).collect();
        let mut times: Vec<f64> = (0..21)
            .map(|_| {
                let start = Instant::now();
                session.run("main", &named).expect("the entry runs");
                start.elapsed().as_secs_f64()
            })
            .collect();
        times.sort_by(f64::total_cmp);
        let time = times[times.len() / 2];
        println!("{name}: {:.2} ms, {:.2} elements per ns", time * 1e3, elements / time * 1e-9);
    }
}
