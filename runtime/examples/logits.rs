//! Writes the logits of a text to standard output, f32 in this machine's order of bytes.
//!
//! ```text
//! cargo run --release -p castiron-runtime --example logits -- model.iron 1,2,3 > logits.f32
//! ```
//!
//! One row for each token, one column for each token of the vocabulary.

use std::error::Error;
use std::io::Write;

use castiron_runtime::session::{Model, Options};
use castiron_runtime::tensor::TensorRef;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [artifact, ids] = arguments.as_slice() else { return Err("an artifact and token numbers are needed".into()) };
    let ids: Vec<i32> = ids.split(',').map(str::parse).collect::<Result<_, _>>()?;
    let shape = [1, ids.len()];
    let ones = vec![1; ids.len()];
    let positions: Vec<i32> = (0..ids.len() as i32).collect();
    let model = Model::open(artifact, Options::default())?;
    let entry = model.entry("forward").ok_or("the artifact has no entry `forward`")?;
    let mut inputs = Vec::new();
    for (name, _) in &entry.inputs {
        let values = match name.as_str() {
            "input_ids" => &ids,
            "attention_mask" => &ones,
            "position_ids" => &positions,
            other => return Err(format!("`forward` asks for {other}").into()),
        };
        inputs.push((name.as_str(), TensorRef::i32(&shape, values)?));
    }
    let mut session = model.smallest_session()?;
    let outputs = session.run("forward", &inputs)?;
    let logits = outputs.get("logits").ok_or("`forward` gives no logits")?;
    std::io::stdout().lock().write_all(logits.bytes())?;
    Ok(())
}
