//! Kernel programs and the shaders that they become.

use castiron_backends::artifact::Compiled;
use castiron_backends::lower::lower;
use castiron_backends::weights::WeightFormat;
use castiron_backends::wgsl;
use castiron_ir::op::{Op, OpDef};
use castiron_ir::{DType, Module, Region, Storage, StoredTensor, TensorSource};

/// Zeros for all parameters of a module.
struct Zeros {
    params: Vec<(String, Vec<usize>)>,
    bytes: Vec<u8>,
}

impl Zeros {
    fn new(module: &Module) -> Zeros {
        let mut params = Vec::new();
        module.entries.iter().for_each(|entry| collect(&entry.body, &mut params));
        let largest = params.iter().map(|(_, shape)| shape.iter().product::<usize>()).max().unwrap_or(0);
        Zeros { params, bytes: vec![0; 4 * largest] }
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        // Parameters of loops are named by templates.
        let digits = |c: char| c.is_ascii_digit();
        let is_it = |template: &str| match template.split_once("{i}") {
            Some((start, end)) => name.starts_with(start) && name[start.len()..].trim_start_matches(digits) == end,
            None => template == name,
        };
        self.params.iter().find(|(template, _)| is_it(template)).map(|(_, shape)| shape.as_slice())
    }
}

fn collect(region: &Region, params: &mut Vec<(String, Vec<usize>)>) {
    for node in &region.nodes {
        if let Op::Param(param) = &node.op {
            let extent = |dim: &castiron_ir::Dim| dim.as_constant().unwrap() as usize;
            params.push((param.name.clone(), param.ty.shape.iter().map(extent).collect()));
        }
        node.op.region().into_iter().for_each(|inner| collect(inner, params));
    }
}

impl TensorSource for Zeros {
    fn layout(&self, name: &str) -> Option<(Storage, &[usize])> {
        Some((Storage::Dense(DType::F32), self.shape(name)?))
    }

    fn tensor(&self, name: &str) -> Option<StoredTensor<'_>> {
        let (storage, shape) = self.layout(name)?;
        let bytes = &self.bytes[..4 * shape.iter().product::<usize>()];
        Some(StoredTensor { shape: shape.to_vec(), storage, bytes: bytes.into() })
    }
}

/// The launches of a case with weights of a format, and the first shader of each name that is wanted.
fn shaders(text: &str, format: WeightFormat, wanted: &[&str]) -> String {
    let module = castiron_ir::text::parse_module(text).unwrap();
    let source = Zeros::new(&module);
    let compiled = Compiled::new(lower(&module).unwrap(), &source, format).unwrap();
    let gpu = wgsl::generate(&compiled.program).unwrap();
    let mut out = String::new();
    for launch in gpu.entries.iter().flat_map(|entry| &entry.stages).flat_map(|stage| &stage.launches) {
        out.push_str(&format!("kernels {} to {}\n", launch.first, launch.last));
        for choice in &launch.choices {
            let condition = &choice.condition;
            out.push_str(&format!("  if {condition:?}\n"));
            for dispatch in &choice.dispatches {
                let name = &gpu.shaders[dispatch.shader as usize].name;
                out.push_str(&format!("    {name} over {:?}\n", dispatch.grids));
            }
        }
    }
    for name in wanted {
        let shader = gpu.shaders.iter().find(|shader| shader.name == *name).unwrap();
        out.push_str(&format!("\n// {} {:?}\n{}", shader.name, shader.features, shader.source));
    }
    out
}

fn check(name: &str, case: &str, format: WeightFormat, wanted: &[&str]) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(case);
    let text = std::fs::read_to_string(path).unwrap();
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!(name, shaders(&text, format, wanted));
    });
}

#[test]
fn every_archetype_of_a_decoder() {
    let wanted = [
        "map_gather",
        "map_rope",
        "row_norm",
        "norm_matvec_wide_dot",
        "matmul_shared_dot",
        "norm_matvec_split_gated_mlp",
        "attention_keys_attention",
        "attention_merge_attention",
        "attention_queries_attention",
    ];
    check("decoder", "llama.ir", WeightFormat::F32, &wanted);
}

#[test]
fn quantised_products() {
    check("quantised", "llama.ir", WeightFormat::Q4, &["matvec_wide_dot_add"]);
}

#[test]
fn scans_of_lanes_and_of_elements() {
    let label = "reshape_mul_add_reshape_mul_dot_add_dot_dot_reshape_div";
    let names = [format!("scan_lanes_{label}"), format!("scan_elements_{label}")];
    check("scan", "scan.ir", WeightFormat::F32, &names.each_ref().map(String::as_str));
    check("linear_recurrence", "linear_recurrence.ir", WeightFormat::F32, &["scan_elements_linear_recurrence"]);
}

#[test]
fn scans_of_long_rows() {
    let names = ["scan_rows_mul_reduce_sub_exp_reduce_div"];
    check("scan_of_long_rows", "scan_of_long_rows.ir", WeightFormat::F32, &names);
}

#[test]
fn largest_elements() {
    check("top_k", "top_k.ir", WeightFormat::F32, &["top_k_top_k"]);
}
