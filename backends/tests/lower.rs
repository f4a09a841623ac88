//! Clustered IR text and the kernel programs that it is lowered to.

use castiron_backends::lower::lower;

#[test]
fn cases() {
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::glob!("cases/*.ir", |path| {
            let text = std::fs::read_to_string(path).unwrap();
            let module = castiron_ir::text::parse_module(&text).unwrap();
            castiron_ir::verify::verify(&module).unwrap();
            let program: String = match lower(&module) {
                Ok(lowered) => lowered.entries.iter().map(ToString::to_string).collect(),
                Err(error) => format!("error: {error}\n"),
            };
            insta::assert_snapshot!(program);
        });
    });
}
