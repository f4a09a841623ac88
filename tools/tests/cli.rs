//! The command line as scripts see it: JSON on standard output, errors on standard error, exit codes.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn fixture(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name);
    folder.to_string_lossy().into_owned()
}

fn castiron(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_castiron")).args(arguments).output().unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let output = castiron(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn failure(arguments: &[&str], code: i32) -> String {
    let output = castiron(arguments);
    assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_checkpoint_is_compiled_once_and_run() {
    let folder = tempfile::tempdir().unwrap();
    let artifact = folder.path().join("model.iron").to_string_lossy().into_owned();
    let compiled = json(&["compile", &fixture("llama-gqa"), "-o", &artifact, "--json"]);
    assert_eq!(compiled["task"], "text-generation");
    assert!(compiled["kernels"].as_u64().unwrap() > 10 && compiled["compile_ms"].as_f64().unwrap() > 0.0);
    let run = json(&["run", &artifact, "--tokens", "5,34,60,17,56", "--max-new-tokens", "4", "--json"]);
    assert_eq!(run["tokens"], serde_json::json!([5, 34, 60, 17, 56, 57, 10, 9, 40]));
    let bench = ["bench", &artifact, "--prompt-tokens", "8", "--new-tokens", "4", "--runs", "1", "--json"];
    let bench = json(&bench);
    assert!(bench["generate_tokens_per_s"].as_f64().unwrap() > 0.0 && bench["ms_per_batch"].is_null());
}

#[test]
fn time_on_a_gpu_is_told_kernel_by_kernel() {
    let llama = fixture("llama-gqa");
    let bench = ["bench", &llama, "--target", "wgsl", "--prompt-tokens", "1", "--new-tokens", "2", "--runs", "1"];
    let measured = json(&[&bench[..], &["--profile", "--json"]].concat());
    for part in ["prompt", "token"] {
        let part = &measured["profile"][part];
        let number = |of: &Value, key: &str| of[key].as_f64().unwrap();
        let kernels = part["kernels"].as_array().unwrap();
        assert_eq!(number(part, "submissions"), 1.0);
        assert!(number(part, "dispatches") >= kernels.len() as f64 && number(part, "dispatches_per_iteration") > 1.0);
        assert!(number(part, "bytes") > 0.0 && number(part, "kernel_ms") < number(part, "wall_ms"));
        assert!((kernels.iter().map(|kernel| number(kernel, "share")).sum::<f64>() - 1.0).abs() < 1e-6);
    }
    assert!(json(&[&bench[..], &["--json"]].concat())["profile"].is_null());
}

#[test]
fn time_on_the_cpu_is_told_kernel_by_kernel() {
    let (folder, llama) = (tempfile::tempdir().unwrap(), fixture("llama-gqa"));
    let trace = folder.path().join("trace.json");
    let bench = ["bench", &llama, "--prompt-tokens", "3", "--new-tokens", "2", "--runs", "1", "--threads", "2"];
    let measured = json(&[&bench[..], &["--profile", "--json", "--trace", trace.to_str().unwrap()]].concat());
    let profile = &measured["profile"];
    assert!(profile["peak_gflops"].as_f64().unwrap() > 0.0 && profile["peak_gb_per_s"].as_f64().unwrap() > 0.0);
    let mut executions = 0.0;
    for part in ["prompt", "token"] {
        let number = |of: &Value, key: &str| of[key].as_f64().unwrap();
        let kernels = profile[part]["kernels"].as_array().unwrap();
        let matmul = kernels.iter().find(|k| k["code"] == "matmul F32").unwrap();
        assert!(number(matmul, "bytes") > 0.0 && number(matmul, "operations") > 0.0);
        assert!(number(&profile[part], "kernel_ms") <= number(&profile[part], "wall_ms"));
        executions += number(&profile[part], "dispatches");
    }
    let events: Value = serde_json::from_slice(&std::fs::read(trace).unwrap()).unwrap();
    let executed = events["traceEvents"].as_array().unwrap().iter().filter(|event| event["ph"] == "X");
    assert_eq!(executed.count() as f64, 2.0 * executions, "one event for each of two threads");
}

#[test]
fn a_damaged_pipeline_cache_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let verify = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_castiron"));
        command.args(["verify", &fixture("bert-base"), "--target", "wgsl"]).env("CASTIRON_CACHE", folder.path());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    verify();
    // Adapters that have no cache leave no file.
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap().path();
        let mut bytes = std::fs::read(&file).unwrap();
        bytes.iter_mut().skip(40).for_each(|byte| *byte ^= 0xff);
        std::fs::write(&file, &bytes).unwrap();
        verify();
        assert_ne!(std::fs::read(&file).unwrap(), bytes);
    }
}

#[test]
fn verify_tells_by_its_exit_code() {
    let folder = fixture("bert-base");
    assert_eq!(json(&["verify", &folder, "--json"])["passed"], true);
    let strict = castiron(&["verify", &folder, "--atol", "0", "--rtol", "0"]);
    assert_eq!(strict.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&strict.stdout).contains("FAIL last_hidden_state"));
}

#[test]
fn encoders_answer_in_json() {
    let embedded = json(&["embed", &fixture("bert-sentence"), "a", "b c", "--json"]);
    assert_eq!(embedded["embeddings"].as_array().unwrap().len(), 2);
    let labelled = json(&["classify", &fixture("bert-sequence-classification"), "good", "--json"]);
    assert_eq!(labelled["results"][0]["labels"].as_array().unwrap().len(), 3);
}

#[test]
fn stages_can_be_inspected() {
    for (stage, part) in
        [("graph", "softmax"), ("optimized", "= attention"), ("kernels", "matmul"), ("plan", "bytes at")]
    {
        let output = castiron(&["inspect", &fixture("llama-gqa"), "--stage", stage, "--entry", "step"]);
        let text = String::from_utf8(output.stdout).unwrap();
        let found = text.contains(part) || (stage == "graph" && text.contains("reduce"));
        assert!(output.status.success() && found, "{stage}: {text}");
    }
}

#[test]
fn caches_can_be_narrower() {
    let (folder, llama) = (tempfile::tempdir().unwrap(), fixture("llama-gqa"));
    let artifact = folder.path().join("model.iron").to_string_lossy().into_owned();
    for (cache, dtype) in [("f16", "f16"), ("q8", "i8")] {
        let output = castiron(&["inspect", &llama, "--stage", "graph", "--entry", "step", "--cache", cache]);
        assert!(String::from_utf8_lossy(&output.stdout).contains(r#"state("layers.{i}.key": "#));
        assert!(String::from_utf8_lossy(&output.stdout).contains(&format!(" x {dtype}[b,")));
        let tokens = ["--tokens", "5,34,60,17,56", "--max-new-tokens", "4", "--json"];
        let run = json(&[&["run", &llama, "--cache", cache][..], &tokens].concat());
        assert_eq!(run["tokens"], serde_json::json!([5, 34, 60, 17, 56, 57, 10, 9, 40]));
        for target in ["wgsl", "all"] {
            let compile = ["compile", &llama, "--cache", cache, "--target", target, "-o", &artifact];
            let error = failure(&compile, 1);
            assert!(error.contains("KV caches") && error.contains("--cache f32"), "{error}");
            assert!(!Path::new(&artifact).exists());
        }
    }
}

#[test]
fn errors_say_what_is_wrong() {
    assert!(failure(&["run", "/nowhere", "x"], 1).contains("/nowhere"));
    assert!(failure(&["run"], 2).contains("Usage"));
    let long = vec!["1"; 60].join(",");
    let error = failure(&["run", &fixture("gpt2"), "--tokens", &long, "--json"], 1);
    assert!(error.contains("60 tokens") && error.contains("at most 37"), "{error}");
    let error = failure(&["run", &fixture("gpt2"), "--tokens", "1,9999", "--json"], 1);
    assert!(error.contains("9999") && error.contains("67"), "{error}");
    assert!(failure(&["embed", &fixture("gpt2"), "x"], 1).contains("text-generation"));
    assert!(failure(&["inspect", &fixture("gpt2"), "--entry", "nothing"], 1).contains("forward, step"));
    assert!(
        failure(&["compile", &fixture("gpt2"), "--disable-pass", "magic", "-o", "/dev/null/x"], 1).contains("magic")
    );
}
