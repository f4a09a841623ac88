//! KV caches of 16 and of 8 bits: an IR file under `caches/` shows one thing; its snapshots are the results.

use castiron_ir::text::parse_module;
use castiron_ir::verify::verify;
use castiron_passes::caches::{CacheFormat, narrow};

fn snapshots(to: CacheFormat, name: &str) {
    insta::glob!("caches/*.ir", |path| {
        let mut module = parse_module(&std::fs::read_to_string(path).unwrap()).unwrap();
        verify(&module).unwrap();
        narrow(&mut module, to).unwrap();
        verify(&module).unwrap();
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(name, module.to_string());
        });
    });
}

#[test]
fn half_caches() {
    snapshots(CacheFormat::F16, "half_caches");
}

#[test]
fn byte_caches() {
    snapshots(CacheFormat::Q8, "byte_caches");
}
