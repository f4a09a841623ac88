//! Pass tests: an IR file under `cases/` names passes and shows one thing; its snapshot is the result.

use castiron_ir::text::parse_module;
use castiron_ir::verify::verify;
use castiron_passes::run_named;

#[test]
fn cases() {
    insta::glob!("cases/*/*.ir", |path| {
        let text = std::fs::read_to_string(path).unwrap();
        let mut lines = text.lines();
        let names = lines.next().and_then(|l| l.strip_prefix("; pass: ")).expect("the first line names passes");
        assert!(lines.next().is_some_and(|l| l.starts_with("; ")), "the second line says what is shown");
        let module = parse_module(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        verify(&module).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let names: Vec<&str> = names.split(", ").collect();
        let after = run_named(&names, &module).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(after.to_string());
        });
    });
}
