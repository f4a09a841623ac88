//! Compiled models whose GPU is lost, or that are asked for tokens that there are not.

use std::path::Path;

use castiron::compiler::{self, Options};
use castiron_frontends::checkpoint::Checkpoint;
use castiron_runtime::cpu::isa::Isa;
use castiron_runtime::gpu::{GpuError, Mask};
use castiron_runtime::session::{self, RunError};
use castiron_runtime::tasks::generate::Request;
use castiron_runtime::tasks::{Pipeline, TaskError};
use castiron_tests::compiled;
use tempfile::TempPath;

/// A decoder, compiled for GPUs, too.
fn artifact() -> TempPath {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/llama-gqa");
    let checkpoint = Checkpoint::open(&path).unwrap();
    let compilation = compiler::compile(&checkpoint, &Options { wgsl: true, ..Options::default() }).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    compilation.write(&file, &|_| {}).unwrap();
    file
}

fn open(artifact: &TempPath, options: session::Options) -> Pipeline {
    Pipeline::open(artifact, options).unwrap()
}

fn request() -> Request {
    Request::plain(12)
}

#[test]
fn a_device_that_is_lost_ends_the_text_and_can_be_opened_again() {
    let artifact = artifact();
    let gpu = || compiled::gpu(Mask::default());
    let prompts = [vec![5, 3, 8]];
    let whole = open(&artifact, gpu()).generate(&prompts, &request(), &mut |_| true).unwrap();
    let expected = &whole.rows[0].tokens;
    assert_eq!(expected.len(), 12);

    let mut pipeline = open(&artifact, gpu());
    let (model, mut tokens) = (pipeline.model().clone(), Vec::new());
    let outcome = pipeline.generate(&prompts, &request(), &mut |new| {
        tokens.push(new.token);
        if tokens.len() == 5 {
            model.destroy_device();
        }
        true
    });
    let is_lost = |error: &TaskError| matches!(error, TaskError::Run(RunError::Gpu(GpuError::Lost(_))));
    assert!(is_lost(&outcome.unwrap_err()));
    assert_eq!(tokens, expected[..5]);
    // The pipeline stays without device, another one has its own.
    assert!(is_lost(&pipeline.generate(&prompts, &request(), &mut |_| true).unwrap_err()));
    let again = open(&artifact, gpu()).generate(&prompts, &request(), &mut |_| true).unwrap();
    assert_eq!(&again.rows, &whole.rows);
}

#[test]
fn tokens_that_there_are_not_are_named_as_on_the_cpu() {
    let artifact = artifact();
    let message = |options, token| {
        let mut pipeline = open(&artifact, options);
        let outcome = pipeline.generate(&[vec![5, token, 8]], &request(), &mut |_| true);
        let error = outcome.unwrap_err();
        assert!(matches!(error, TaskError::Run(RunError::Index { .. })), "{error:?}");
        pipeline.generate(&[vec![5, 3, 8]], &request(), &mut |_| true).unwrap();
        error.to_string()
    };
    for token in [67, u32::MAX] {
        let found = message(compiled::gpu(Mask::default()), token);
        assert_eq!(found, message(compiled::cpu(Isa::detect()), token));
        let index = token.cast_signed();
        let expected = format!("index {index} from input `input_ids` is outside the range of 67 in kernel");
        assert!(found.starts_with(&expected), "{found}");
    }
}
