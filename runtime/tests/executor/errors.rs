//! What is refused, and how it is said.

use castiron_ir::{DType, Type};
use castiron_runtime::artifact::{Artifact, ArtifactError, format};
use castiron_runtime::bind::{BindError, BindFault};
use castiron_runtime::program::view::{Place, View};
use castiron_runtime::program::{EntryProgram, Fault, KernelBody, ProgramError, Step};
use castiron_runtime::session::{Options, RunError};
use castiron_runtime::tensor::TensorRef;

use crate::support::*;

/// y[s, 3] = table[ids[s]]
fn embedding() -> Fixture {
    let mut fixture = Fixture::default();
    let table = fixture.dense(&[5, 3], &[values(0, 15)]);
    let ids = of(DType::I32, view(Place::Input(0), [1, 0]));
    let from = at(ids, 3, 5, view(table, [0, 1]));
    fixture.entries.push(entry(
        &[("ids", Type::i32(["s"])), ("more", Type::f32([dim("s", 1) + 1.into(), 3.into()]))],
        &[("y", Type::f32([dim("s", 1), 3.into()]))],
        vec![buffer(4, 0, 0)],
        vec![rows([dim("s", 1), 3.into()], operands(copy(), vec![from], vec![view(Place::Output(0), [3, 1])]))],
    ));
    fixture
}

#[test]
fn indices_out_of_range_name_their_input() {
    with_options(|options| {
        let mut session = embedding().model(options).session(&[]).unwrap();
        let more = values(1, 9);
        let mut run = |ids: [i32; 2]| {
            let more = TensorRef::f32(&[3, 3], &more).unwrap();
            session.run("main", &[("more", more), ("ids", TensorRef::i32(&[2], &ids).unwrap())]).map(drop)
        };
        run([0, 4]).unwrap();
        let error = run([70000, 4]).unwrap_err();
        assert_eq!(error.to_string(), "index 70000 from input `ids` is outside the range of 5 in kernel `k0`");
        assert!(matches!(run([1, -1]), Err(RunError::Index { index: -1, .. })));
        run([1, 1]).unwrap();
    });
}

#[test]
fn inputs_are_checked() {
    let model = embedding().model(Options::default());
    let mut session = model.session(&[]).unwrap();
    let (ids, more) = ([1, 2], values(1, 9));
    let (ids, more) = (TensorRef::i32(&[2], &ids).unwrap(), TensorRef::f32(&[3, 3], &more).unwrap());
    let mut message = |inputs: &[(&str, TensorRef<'_>)]| session.run("main", inputs).err().unwrap().to_string();
    assert_eq!(message(&[("ids", ids)]), "entry `main` needs input `more`");
    assert!(message(&[("ids", ids), ("ids", ids)]).contains("given twice"));
    assert!(message(&[("id", ids)]).contains("its inputs are `ids`, `more`"));
    assert_eq!(message(&[("ids", more), ("more", more)]), "input `ids` is f32, the entry takes i32");
    let short = TensorRef::f32(&[2, 3], &more.as_f32().unwrap()[..6]).unwrap();
    let expected = "input `more` has shape [2, 3], the entry takes f32[s+1,3]: axis 0, s+1, should be 3";
    assert_eq!(message(&[("ids", ids), ("more", short)]), expected);
    let wide = TensorRef::i32(&[1, 2], ids.as_i32().unwrap()).unwrap();
    assert!(message(&[("ids", wide), ("more", more)]).contains("it should have 1 axes"));
    let empty = TensorRef::i32(&[0], &[]).unwrap();
    assert!(message(&[("ids", empty), ("more", more)]).contains("axis 0 is empty"));
    assert!(matches!(session.run("other", &[]), Err(RunError::UnknownEntry { .. })));
    assert!(matches!(model.session(&[("b", 1)]), Err(RunError::Symbol { .. })));
    assert!(matches!(
        crate::states::append().model(Options::default()).session(&[("b", 1)]),
        Err(RunError::Symbol { .. })
    ));
}

fn fault_of(change: impl FnOnce(&mut EntryProgram)) -> Fault {
    let mut fixture = embedding();
    change(&mut fixture.entries[0]);
    match fixture.program().validate() {
        Err(ProgramError::Kernel { fault, .. } | ProgramError::Entry { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

fn output(entry: &mut EntryProgram) -> &mut View {
    match &mut entry.kernels[0].body {
        KernelBody::Rows(rows) => &mut rows.operands.outputs[0],
        _ => panic!("rows"),
    }
}

#[test]
fn programs_that_break_rules_are_refused() {
    assert!(matches!(fault_of(|e| e.steps.push(Step::Kernel(1))), Fault::Missing { what: "kernel", .. }));
    assert!(matches!(fault_of(|e| e.steps.push(Step::Kernel(0))), Fault::Order(0)));
    let nested = Step::Repeat { count: 1, body: vec![Step::Repeat { count: 1, body: vec![] }] };
    assert!(matches!(fault_of(|e| e.steps.push(nested)), Fault::Nested));
    assert!(matches!(fault_of(|e| output(e).place = Place::Output(1)), Fault::Missing { what: "output", .. }));
    assert!(matches!(fault_of(|e| output(e).place = Place::Input(1)), Fault::Place { .. }));
    assert!(matches!(fault_of(|e| output(e).place = Place::Weight(0)), Fault::Place { .. }));
    assert!(matches!(fault_of(|e| output(e).dtype = DType::F16), Fault::DType { .. }));
    let narrow = fault_of(|e| {
        output(e).place = Place::Buffer(0);
        output(e).dtype = DType::Bool;
    });
    assert!(matches!(narrow, Fault::DType { found: DType::Bool, .. }));
    assert!(matches!(fault_of(|e| output(e).strides.truncate(1)), Fault::Rank { found: 1, expected: 2, .. }));
    assert!(matches!(fault_of(|e| output(e).offset = "t".into()), Fault::Unbound(_)));
    assert!(matches!(fault_of(|e| e.inputs[1].0 = "ids".into()), Fault::Duplicate(_)));
    let dead = fault_of(|e| {
        e.buffers[0].first = 1;
        output(e).place = Place::Buffer(0);
    });
    assert!(matches!(dead, Fault::Lifetime { buffer: 0, first: 1, last: 0, kernel: 0 }));
}

#[test]
fn addresses_are_checked_when_extents_are_known() {
    let fault = |change: fn(&mut View)| {
        let mut fixture = embedding();
        change(output(&mut fixture.entries[0]));
        match fixture.model(Options::default()).plan("main", &[("s", 4)]) {
            Err(RunError::Bind(BindError::Kernel { fault, .. })) => fault,
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(fault(|v| v.offset = 1.into()), BindFault::Bounds { needed: 52, available: 48, .. }));
    assert!(matches!(fault(|v| v.strides[0] = dim("s", 3)), BindFault::Bounds { .. }));
    assert!(matches!(fault(|v| v.strides[0] = dim("s", i64::MAX / 4)), BindFault::Bounds { .. }));
    assert!(matches!(fault(|v| v.strides[0] = dim("s", i64::MAX)), BindFault::Dim(_)));
    assert!(matches!(fault(|v| v.strides[0] = 0.into()), BindFault::WrittenTwice(_)));
    assert!(matches!(fault(|v| v.strides[0] = 2.into()), BindFault::WrittenTwice(_)));
    assert!(matches!(fault(|v| v.place = Place::Buffer(0)), BindFault::Bounds { available: 4, .. }));
}

#[test]
fn threads_do_not_contend_for_memory() {
    let fault = |change: fn(&mut EntryProgram)| {
        let mut fixture = embedding();
        change(&mut fixture.entries[0]);
        match fixture.model(Options::default()).plan("main", &[("s", 4)]) {
            Err(RunError::Bind(BindError::Kernel { fault, .. })) => fault.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let twice = fault(|entry| {
        let copy = output(entry).clone();
        let KernelBody::Rows(rows) = &mut entry.kernels[0].body else { panic!("rows") };
        rows.operands.outputs.push(copy);
        rows.operands.program.stores.push(0);
    });
    assert_eq!(twice, "output 1 shares memory with output 0, which is written at the same time");
    let shifted = fault(|entry| {
        let read = View { offset: 1.into(), ..output(entry).clone() };
        let KernelBody::Rows(rows) = &mut entry.kernels[0].body else { panic!("rows") };
        rows.space = vec![3.into(), 3.into()];
        rows.operands.inputs[0] = read;
    });
    assert_eq!(shifted, "input 0 shares memory with output 0, which is written at the same time");
}

#[test]
fn files_of_other_kinds_are_told_apart() {
    let good = embedding().bytes();
    assert!(Artifact::from_bytes(&good).is_ok());
    assert!(matches!(Artifact::from_bytes(b"GGUF"), Err(ArtifactError::Container(_))));
    let replace = |from: &str, to: &str| {
        let at = good.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
        let mut bad = good.clone();
        bad[at..at + from.len()].copy_from_slice(to.as_bytes());
        Artifact::from_bytes(&bad).unwrap_err()
    };
    assert!(matches!(replace("\"castiron\"", "\"something"), ArtifactError::Container(_)));
    assert!(matches!(replace("\"castiron\"", "\"somethin\""), ArtifactError::Kind));
    let version = format!("\"format_version\":\"{}\"", format::VERSION);
    assert!(matches!(replace(&version, "\"format_version\":\"0\""), ArtifactError::Version { .. }));
    assert!(matches!(replace("weights.0.0", "weights.0.1"), ArtifactError::Missing(name) if name == "weights.0.0"));
    let path = std::env::temp_dir().join("castiron-no-such-artifact.iron");
    assert!(matches!(Artifact::open(path), Err(ArtifactError::Io { .. })));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &good).unwrap();
    let opened = Artifact::open(file.path()).unwrap();
    assert_eq!((opened.castiron_version(), opened.source_hash(), opened.tokenizer()), ("test", "none", None));
    assert_eq!(opened.weight(0, 0).len(), 60);
}
