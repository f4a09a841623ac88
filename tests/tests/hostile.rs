//! Damaged checkpoints and artifacts give typed errors: no panic, no hang, no file left behind.

use std::path::{Path, PathBuf};

use castiron::compiler::{self, Options};
use castiron_frontends::checkpoint::Checkpoint;
use castiron_runtime::session;
use castiron_runtime::tasks::generate::Request;
use castiron_runtime::tasks::{Pipeline, TaskError};
use castiron_runtime::text::EncodeOptions;
use castiron_tests::mutation::Mutation;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tempfile::TempDir;

/// Damages per file; there are more than 2,000 in all.
const CASES: u32 = 300;

/// Calls a function with many kinds of damage, the same in every run.
fn for_each_mutation(check: impl Fn(&Mutation)) {
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let outcome = runner.run(&Mutation::any(), |mutation| {
        check(&mutation);
        Ok(())
    });
    outcome.unwrap();
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// A copy of a fixture's checkpoint in a folder of its own.
fn copy_of(name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && !path.ends_with("reference.safetensors") {
            std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    folder
}

/// Compiles a folder. On failure nothing may be left; on success the artifact is used.
fn compile(folder: &Path) {
    let out = tempfile::tempdir().unwrap();
    let artifact = out.path().join("out.iron");
    let outcome = Checkpoint::open(folder)
        .map_err(Into::into)
        .and_then(|checkpoint| compiler::compile(&checkpoint, &Options::default())?.write(&artifact, &|_| {}));
    match outcome {
        Ok(_) => drop(run(&artifact)),
        Err(_) => assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0, "a failure leaves no file"),
    }
}

/// Opens an artifact, continues a prompt, reads a text.
fn run(artifact: &Path) -> Result<(), TaskError> {
    let options = session::Options { threads: 1, ..session::Options::default() };
    let mut pipeline = Pipeline::open(artifact, options)?;
    let request = Request::of_model(pipeline.description(), 3);
    // Encoders and damaged models do not generate; their texts are read all the same.
    let generated = pipeline.generate(&[vec![5, 3, 8]], &request, &mut |_| true).map(drop);
    let ids = pipeline.text().tokenizer()?.encode("Iron, 42 ☃ naïve", EncodeOptions::default())?.ids;
    pipeline.text().tokenizer()?.decode(&ids, false)?;
    generated
}

fn damage(fixture: &str, file: &str) {
    let folder = copy_of(fixture);
    let path = folder.path().join(file);
    let intact = std::fs::read(&path).unwrap();
    for_each_mutation(|mutation| {
        std::fs::write(&path, mutation.apply(&intact)).unwrap();
        compile(folder.path());
    });
}

#[test]
fn damaged_configs() {
    damage("llama-rope-yarn", "config.json");
    damage("bert-sequence-classification", "config.json");
}

#[test]
fn damaged_safetensors() {
    damage("gpt2", "model.safetensors");
    damage("llama-sharded", "model.safetensors.index.json");
}

#[test]
fn damaged_gguf_files() {
    damage("llama-gguf-mixed", "model.gguf");
    damage("llama-gguf-k-quants", "model.gguf");
}

#[test]
fn damaged_pytorch_files() {
    damage("torch-zip", "pytorch_model.bin");
    damage("torch-legacy", "pytorch_model.bin");
    damage("torch-sharded", "pytorch_model.bin.index.json");
}

#[test]
fn damaged_quantised_checkpoints() {
    damage("gptq-permuted", "model.safetensors");
    damage("gptq-symmetric", "config.json");
    damage("fp8", "model.safetensors");
    damage("gguf-llama-split", "model-00001-of-00003.gguf");
    damage("gguf-stablelm", "model.gguf");
}

#[test]
fn damaged_tokenizers() {
    damage("llama-chat", "tokenizer.json");
    damage("llama-chat", "tokenizer_config.json");
}

#[test]
fn damaged_artifacts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.iron");
    let checkpoint = Checkpoint::open(&fixture("llama-chat")).unwrap();
    compiler::compile(&checkpoint, &Options::default()).unwrap().write(&path, &|_| {}).unwrap();
    let intact = std::fs::read(&path).unwrap();
    for_each_mutation(|mutation| {
        std::fs::write(&path, mutation.apply(&intact)).unwrap();
        let _ = run(&path);
    });
}
