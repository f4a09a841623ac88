//! `castiron devices`, and `--device list`.

use std::process::ExitCode;

use castiron_runtime::gpu::{AdapterInfo, adapters};
use serde_json::json;

pub(super) fn list(json: bool) -> ExitCode {
    let found = adapters();
    if json {
        println!("{}", json!(found));
    } else if found.is_empty() {
        println!("no GPU; models run on the CPU");
    } else {
        found.iter().for_each(|adapter| println!("{}", line(adapter)));
    }
    ExitCode::SUCCESS
}

fn line(adapter: &AdapterInfo) -> String {
    let AdapterInfo { number, name, backend, kind, driver, .. } = adapter;
    let subgroups = match adapter.subgroup_sizes {
        Some([least, most]) => format!("subgroups of {least} to {most}"),
        None => "no subgroups".to_owned(),
    };
    let f16 = if adapter.f16 { "f16" } else { "no f16" };
    let binding = adapter.max_storage_buffer_binding_size >> 20;
    format!("{number}  {name} ({kind}, {backend}, {driver}): {f16}, {subgroups}, binds {binding} MiB")
}
