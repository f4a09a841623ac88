//! What is refused or goes wrong, and how it is said.

use castiron_runtime::artifact::Artifact;
use castiron_runtime::gpu::{GpuError, GpuOptions, adapters};
use castiron_runtime::session::{Model, RunError, Session};
use castiron_runtime::tensor::TensorRef;

use crate::fixtures::{embedding, looped, scale};
use crate::shaders::*;
use crate::support::*;

#[test]
fn adapters_are_listed_and_chosen() {
    let known = adapters();
    assert!(!known.is_empty(), "no GPU adapter: install Mesa's lavapipe (mesa-vulkan-drivers)");
    let name = |adapter: &str| {
        let gpu = GpuOptions { adapter: Some(adapter.to_owned()), ..GpuOptions::default() };
        scale_on(gpu).map(|model| model.adapter().unwrap().0.name.clone())
    };
    let first = &known[0];
    assert_eq!(first.number, 0);
    assert_eq!(name("0").unwrap(), first.name);
    assert_eq!(name(&first.name.to_uppercase()[1..]).unwrap(), first.name);
    let Err(RunError::Gpu(error @ GpuError::UnknownAdapter { .. })) = name("no such card") else {
        panic!("an adapter")
    };
    assert!(error.to_string().contains(&format!("0 `{}`", first.name)), "{error}");
}

fn scale_on(gpu: GpuOptions) -> Result<Model, RunError> {
    Model::new(Artifact::from_bytes(&scale().bytes()).unwrap(), on(gpu))
}

#[test]
fn artifacts_for_the_cpu_say_how_to_compile_them() {
    let fixture = Fixture { launches: None, ..scale() };
    let error = Model::new(Artifact::from_bytes(&fixture.bytes()).unwrap(), options()).err().unwrap();
    assert_eq!(error.to_string(), "the artifact holds no GPU code; compile it with `--target wgsl`");
}

#[test]
fn indices_out_of_range_name_their_input() {
    let fixture = embedding();
    let mut session = model(&fixture).session(&[]).unwrap();
    let mut cpu = fixture.model(castiron_runtime::session::Options::default()).session(&[]).unwrap();
    let run = |session: &mut Session, ids: [i32; 2]| {
        session.run("main", &[("ids", TensorRef::i32(&[2], &ids).unwrap())]).map(drop).map_err(|e| e.to_string())
    };
    run(&mut session, [0, 4]).unwrap();
    for ids in [[70000, 4], [1, -1]] {
        let error = run(&mut session, ids).unwrap_err();
        assert_eq!(error, run(&mut cpu, ids).unwrap_err());
        assert!(error.contains("from input `ids` is outside the range of 5 in kernel `k0`"), "{error}");
    }
    // A report does not outlive its run, and is read even where no output is.
    run(&mut session, [1, 1]).unwrap();
    let bad = [("ids", TensorRef::i32(&[1], &[5]).unwrap())];
    assert!(matches!(session.run_for("main", &bad, &[]), Err(RunError::Index { index: 5, extent: 5, .. })));
    run(&mut session, [2, 3]).unwrap();
}

#[test]
fn shaders_that_are_wrong_are_named() {
    let x = [0.0; 4];
    let message = |change: &dyn Fn(&str) -> String| {
        let mut fixture = scale();
        let shader = &mut fixture.launches.as_mut().unwrap().shaders[0];
        shader.source = change(&shader.source);
        let mut session = model(&fixture).session(&[]).unwrap();
        let error = session.run("main", &[("x", TensorRef::f32(&[1, 4], &x).unwrap())]).err().unwrap();
        assert!(matches!(error, RunError::Gpu(GpuError::Shader { .. })), "{error:?}");
        error.to_string()
    };
    assert!(message(&|source| source.replace("3.0 * x[i]", "3.0 * z[i]")).contains("shader `triple`"));
    assert!(message(&|_| "not a shader".to_owned()).contains("shader `triple`"));
    assert!(message(&|source| source.replace("fn main", "fn other")).contains("main"));
    assert!(message(&|source| source.replace("<storage, read>", "<storage, read_write>")).contains("triple"));
    // Brackets nested more deeply than a stack is high.
    message(&|source| source.replace("x[i]", &format!("{}x[i]{}", "(".repeat(100_000), ")".repeat(100_000))));
    message(&|source| source.replace("x[i]", &format!("{}x[i]", "-".repeat(1_000_000))));
}

#[test]
fn shaders_for_features_that_are_withheld_are_not_used() {
    let mut fixture = scale();
    fixture.launches.as_mut().unwrap().shaders[0].features.f16 = true;
    let mask = castiron_runtime::gpu::Mask { no_f16: true, ..Default::default() };
    let gpu = GpuOptions { mask, ..GpuOptions::default() };
    let mut session = fixture.model(on(gpu)).session(&[]).unwrap();
    let x = [0.0; 4];
    let error = session.run("main", &[("x", TensorRef::f32(&[1, 4], &x).unwrap())]).err().unwrap();
    assert!(matches!(error, RunError::Gpu(GpuError::NoChoice { first: 0, last: 0, .. })), "{error:?}");
}

#[test]
fn limits_say_what_exceeds_them() {
    let most = model(&scale()).adapter().unwrap().0.max_storage_buffer_binding_size as usize;
    let rows = most / 16 + 1;
    let x = vec![0.0; 4 * rows];
    let mut session = model(&scale()).session(&[]).unwrap();
    let error = session.run("main", &[("x", TensorRef::f32(&[rows, 4], &x).unwrap())]).err().unwrap();
    let expected = "input `x` of entry `main` takes";
    assert!(error.to_string().starts_with(expected), "{error}");
    assert!(error.to_string().contains("16 more than the max_storage_buffer_binding_size"), "{error}");
}

#[test]
fn a_device_may_be_lost_at_any_time() {
    let fixture = looped();
    let x = values(1, 10);
    let inputs = [("x", TensorRef::f32(&[2, 5], &x).unwrap())];
    let lost = |outcome: Result<(), RunError>| {
        assert!(matches!(outcome, Err(RunError::Gpu(GpuError::Lost(_)))), "{outcome:?}")
    };
    let first = model(&fixture);
    let mut session = first.session(&[("b", 2)]).unwrap();
    session.run("main", &inputs).unwrap();
    first.destroy_device();
    for _ in 0..2 {
        lost(session.run("main", &inputs).map(drop));
        lost(session.state("sum.{i}", 0).map(drop));
        lost(session.resize("b", 3));
        lost(session.select("b", &[1, 0]));
        lost(first.session(&[("b", 2)]).map(drop));
        session.reset();
    }
    let mut session = model(&fixture).session(&[("b", 2)]).unwrap();
    session.run("main", &inputs).unwrap();
}

/// A device that ends while another thread is in a run gives its results or the loss, nothing else.
#[test]
fn a_device_may_be_lost_in_the_middle_of_a_run() {
    let rows = 1 << 20;
    let x = values(1, 4 * rows);
    let shape = [rows, 4];
    let inputs = [("x", TensorRef::f32(&shape, &x).unwrap())];
    for delay in [0, 3, 10, 30] {
        let model = model(&scale());
        let mut session = model.session(&[]).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(std::time::Duration::from_millis(delay));
                model.destroy_device();
            });
            loop {
                match session.run("main", &inputs) {
                    Ok(outputs) => {
                        let y = outputs.get("y").unwrap().as_f32().unwrap();
                        assert!(y.iter().zip(&x).all(|(y, x)| *y == 3.0 * x));
                    }
                    Err(error) => {
                        assert!(matches!(error, RunError::Gpu(GpuError::Lost(_))), "{error:?}");
                        break;
                    }
                }
            }
        });
    }
}
