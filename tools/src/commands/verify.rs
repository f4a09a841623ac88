//! `castiron verify`: parity with a reference folder.

use std::process::ExitCode;

use castiron_frontends::checkpoint::Checkpoint;
use castiron_ir::Storage;
use castiron_runtime::session::Model;
use serde_json::json;

use super::arguments::{Verify, Weights};
use super::{Outcome, load};
use crate::verification::{Comparison, Tolerance, verify};

pub(super) fn run(arguments: &Verify) -> Outcome {
    let checkpoint = Checkpoint::open(&arguments.folder)?;
    let mut compiling = arguments.compiling.clone();
    if compiling.weights.is_none() && is_quantised(&checkpoint) {
        compiling.weights = Some(Weights::F32);
    }
    let model = Model::open(
        load::made(&checkpoint, &compiling, &arguments.machine)?,
        load::options(&compiling, &arguments.machine),
    )?;
    let tolerance = Tolerance { atol: arguments.atol, rtol: arguments.rtol };
    let comparisons = verify(&model, &arguments.folder.join("reference.safetensors"), tolerance)?;
    let passes = comparisons.iter().all(|c| c.failures == 0);
    if arguments.json {
        let output = |c: &Comparison| {
            json!({
                "output": c.name, "passed": c.failures == 0, "failures": c.failures, "compared": c.compared,
                "max_absolute_error": c.absolute.0, "at": c.absolute.1,
                "max_relative_error": c.relative.0, "relative_at": c.relative.1,
            })
        };
        println!("{}", json!({ "passed": passes, "outputs": comparisons.iter().map(output).collect::<Vec<_>>() }));
    } else {
        for c in &comparisons {
            let verdict = if c.failures == 0 { "ok  " } else { "FAIL" };
            println!(
                "{verdict} {}: largest absolute error {:.2e} at {:?}, relative {:.2e} at {:?}; {} of {} elements off",
                c.name, c.absolute.0, c.absolute.1, c.relative.0, c.relative.1, c.failures, c.compared
            );
        }
    }
    Ok(if passes { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether some weights are quantised: transformers, which made the reference, expands them to f32, while
/// products with quantised weights round activations too.
fn is_quantised(checkpoint: &Checkpoint) -> bool {
    checkpoint.names().any(|name| matches!(checkpoint.storage(name), Some(Storage::Blocks(_))))
}
