//! Sequence ops, mixtures of experts, convolution and attention written as IR text, against NumPy.
//!
//! `ir/NAME.ir` computes what `tools/reference/numpy_ops.py` defines as `NAME`; `data/ir/NAME.safetensors`
//! holds `in.*` for its inputs and `out.*` for its outputs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use castiron_ir::interpret::{Binding, run_entry};
use castiron_ir::text::parse_module;
use castiron_ir::verify::verify;
use castiron_ir::{Entry, Tensor};
use castiron_tests::fixture::read_safetensors;

const TOLERANCE: f64 = 1e-5;

fn names(folder: &str, extension: &str) -> BTreeSet<String> {
    let files = std::fs::read_dir(root().join(folder)).expect("the folder is committed");
    let paths = files.map(|f| f.expect("readable entry").path());
    paths
        .filter(|p| p.extension().is_some_and(|e| e == extension))
        .map(|p| p.file_stem().expect("a file has a name").to_string_lossy().into_owned())
        .collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The names that the file gives tensors of that kind.
fn tensor_names(file: &BTreeMap<String, Tensor>, kind: &str) -> BTreeSet<String> {
    file.keys().filter_map(|n| n.strip_prefix(kind)).map(str::to_owned).collect()
}

fn run(entry: &Entry, inputs: &[Tensor]) -> Vec<Tensor> {
    let results = run_entry(entry, inputs, &Binding::new(), &|_| None, &mut HashMap::new());
    results.unwrap_or_else(|e| panic!("{}: {e}", entry.name))
}

#[test]
fn each_op_has_text_and_data() {
    let texts = names("ir", "ir");
    assert_eq!(texts, names("data/ir", "safetensors"));
    assert!(texts.len() >= 8);
}

#[test]
fn text_is_canonical() {
    let recurrences = names("ir/scans", "ir").into_iter().map(|name| format!("scans/{name}"));
    for name in names("ir", "ir").into_iter().chain(recurrences) {
        let text = std::fs::read_to_string(root().join(format!("ir/{name}.ir"))).expect("readable");
        let module = parse_module(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        verify(&module).unwrap_or_else(|e| panic!("{name}: {e}"));
        let printed = module.to_string();
        let without_comment: Vec<&str> = text.lines().skip_while(|l| l.starts_with(';')).collect();
        assert_eq!(printed.lines().collect::<Vec<_>>(), without_comment, "{name}");
        assert_eq!(parse_module(&printed).as_ref(), Ok(&module), "{name}");
    }
}

#[test]
fn values_agree_with_numpy() {
    for name in names("ir", "ir") {
        let text = std::fs::read_to_string(root().join(format!("ir/{name}.ir"))).expect("readable");
        let module = parse_module(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let entry = module.entry(&name).unwrap_or_else(|| panic!("{name} has no entry of that name"));
        let file = read_safetensors(&root().join(format!("data/ir/{name}.safetensors")));
        assert_eq!(tensor_names(&file, "in."), entry.body.argument_names.iter().cloned().collect(), "{name}");
        assert_eq!(tensor_names(&file, "out."), entry.outputs.iter().cloned().collect(), "{name}");
        let inputs: Vec<Tensor> =
            entry.body.argument_names.iter().map(|input| file[&format!("in.{input}")].clone()).collect();
        for (output, found) in entry.outputs.iter().zip(run(entry, &inputs)) {
            let expected = &file[&format!("out.{output}")];
            assert_eq!(found.shape, expected.shape, "{name}: {output}");
            let largest = expected.data.iter().fold(1.0, |m: f64, x| m.max(x.abs()));
            for (i, (a, b)) in found.data.iter().zip(&expected.data).enumerate() {
                let allowed = TOLERANCE * b.abs().max(1e-2 * largest);
                assert!((a - b).abs() <= allowed, "{name}: {output}[{i}] is {a}, NumPy has {b}");
            }
        }
    }
}
