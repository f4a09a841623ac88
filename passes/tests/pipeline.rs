//! The pipeline on whole models, and its options.

mod contract;
mod models;

use castiron_ir::Module;
use castiron_passes::caches::{self, CacheFormat};
use castiron_passes::{Options, PassError, Stage, run, run_named};

fn checked() -> Options {
    Options { verify_each: true, ..Options::default() }
}

fn assert_stages(name: &str, module: &Module) {
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        for (stage, suffix) in [(Stage::Optimized, "optimized"), (Stage::Kernels, "kernels")] {
            let (after, _) = run(module, stage, &checked()).unwrap();
            insta::assert_snapshot!(format!("{name}_{suffix}"), after.to_string());
        }
    });
}

#[test]
fn llama_is_ten_kernels_a_layer() {
    let module = models::llama();
    assert_stages("llama", &module);
    let (after, _) = run(&module, Stage::Kernels, &checked()).unwrap();
    contract::check(&after.entries[0].body);
}

#[test]
fn half_caches_change_no_kernel_but_the_type_it_writes_or_reads() {
    let kernels = |module: &Module| run(module, Stage::Kernels, &checked()).unwrap().0.to_string();
    let mut module = models::llama();
    caches::narrow(&mut module, CacheFormat::F16).unwrap();
    let text = kernels(&module);
    assert!(text.contains("f16"), "{text}");
    assert_eq!(text.replace("f16", "f32"), kernels(&models::llama()));
}

#[test]
fn caches_of_bytes_take_one_more_kernel_a_layer() {
    let clusters = |module: &Module| {
        let (after, _) = run(module, Stage::Kernels, &checked()).unwrap();
        contract::check(&after.entries[0].body);
        (after.to_string().matches("cluster kind=").count(), after.to_string())
    };
    let mut module = models::llama();
    caches::narrow(&mut module, CacheFormat::Q8).unwrap();
    let (count, text) = clusters(&module);
    assert!(text.contains("scales=true"), "{text}");
    // Keys are turned before they are rounded.
    assert_eq!(count, clusters(&models::llama()).0 + 1, "{text}");
}

#[test]
fn bert_is_seven_kernels_a_layer() {
    let module = models::bert();
    assert_stages("bert", &module);
    let (after, _) = run(&module, Stage::Kernels, &checked()).unwrap();
    contract::check(&after.entries[0].body);
}

#[test]
fn disabled_passes_do_not_run() {
    let options = Options { disable: vec!["fuse-attention".to_owned(), "cse".to_owned()], ..checked() };
    let (after, reports) = run(&models::bert(), Stage::Optimized, &options).unwrap();
    assert!(reports.iter().all(|r| r.pass != "fuse-attention" && r.pass != "cse"));
    assert!(!after.to_string().contains("attention %"));
}

#[test]
fn unknown_names_are_errors_that_list_the_known() {
    let unknown = |error: PassError| {
        let text = error.to_string();
        assert!(text.starts_with("there is no pass `fuse-nrom`") && text.contains("fuse-norm"), "{text}");
    };
    unknown(run_named(&["cse", "fuse-nrom"], &models::bert()).unwrap_err());
    let options = Options { disable: vec!["fuse-nrom".to_owned()], ..Options::default() };
    unknown(run(&models::bert(), Stage::Kernels, &options).unwrap_err());
}

#[test]
fn reports_count_ops() {
    let (_, reports) = run(&models::llama(), Stage::Kernels, &Options::default()).unwrap();
    for (a, b) in reports.iter().zip(&reports[1..]) {
        assert_eq!(a.ops_after, b.ops_before, "{} and {}", a.pass, b.pass);
    }
}
