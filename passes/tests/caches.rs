//! KV caches in half precision: an IR file under `caches/` shows one thing; its snapshot is the result.

use castiron_ir::DType;
use castiron_ir::text::parse_module;
use castiron_ir::verify::verify;
use castiron_passes::caches;

#[test]
fn half_caches() {
    insta::glob!("caches/*.ir", |path| {
        let mut module = parse_module(&std::fs::read_to_string(path).unwrap()).unwrap();
        verify(&module).unwrap();
        caches::narrow(&mut module, DType::F16).unwrap();
        verify(&module).unwrap();
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(module.to_string());
        });
    });
}
