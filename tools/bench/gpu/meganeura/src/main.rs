//! Times meganeura's SmolLM2-135M: random weights, Q4 projections, f32 tied embedding.
//!
//! Arguments: prompt tokens, new tokens, warm-up runs, runs. Prints for each run the milliseconds of the
//! prompt and those of one decoded token. Tokens are not fed back, and the decoder's cache holds random
//! numbers instead of the prompt's: neither changes the work.

use std::time::Instant;

use meganeura::models::smollm2::{ProjectionWeights, SmolLM2Config, build_decode_graph_with, build_prefill_graph_with};
use meganeura::{Graph, NodeId, Session, SessionConfig, build};

fn main() {
    let numbers: Vec<usize> =
        std::env::args().skip(1).map(|word| word.parse().expect("arguments are numbers")).collect();
    let &[prompt, new, warm_up, runs] = numbers.as_slice() else { panic!("four numbers are needed") };
    let config = SmolLM2Config::smollm2_135m();
    let q4 = ProjectionWeights::Q4;
    let mut prefill = session(|graph| {
        let (logits, keys, values) = build_prefill_graph_with(graph, &config, prompt, q4);
        [vec![logits], keys, values].concat()
    });
    let mut decode = session(|graph| vec![build_decode_graph_with(graph, &config, prompt + new, q4).0]);
    let ids: Vec<u32> = (0..prompt as u32).map(|i| i % 29 + 3).collect();
    for run in 0..warm_up + runs {
        let start = Instant::now();
        prefill.set_input_u32("token_ids", &ids);
        evaluate(&mut prefill, prompt * config.vocab_size);
        let prompt_ms = start.elapsed().as_secs_f64() * 1e3;
        let start = Instant::now();
        for position in prompt..prompt + new {
            decode.set_input_u32("token_ids", &[3]);
            decode.set_input_u32("kv_pos", &[position as u32]);
            evaluate(&mut decode, config.vocab_size);
        }
        let token_ms = start.elapsed().as_secs_f64() * 1e3 / new as f64;
        if run >= warm_up {
            println!("{prompt_ms} {token_ms}");
        }
    }
}

/// A session with every parameter filled; `outputs` builds the graph.
fn session(outputs: impl FnOnce(&mut Graph) -> Vec<NodeId>) -> Session {
    let mut graph = Graph::new();
    let outputs = outputs(&mut graph);
    graph.set_outputs(outputs);
    let mut session = build(&graph, SessionConfig::inference_from_env()).0;
    let plan = session.plan();
    let sizes: Vec<(String, usize)> = plan
        .param_buffers
        .iter()
        .map(|(name, buffer)| {
            let packed = plan.weight_buffers.get(buffer).map(|&(_, rows, columns)| rows * columns);
            (name.clone(), packed.unwrap_or(plan.buffers[buffer.0 as usize] / 4))
        })
        .collect();
    for (name, size) in sizes {
        let random = |i: usize| (i as u32).wrapping_mul(2_654_435_761) as i32 as f32 / (1u64 << 36) as f32;
        session.set_parameter(&name, &(0..size).map(random).collect::<Vec<_>>());
    }
    session
}

/// One step, its logits read.
fn evaluate(session: &mut Session, logits: usize) {
    session.step();
    session.wait();
    assert_eq!(session.read_output(logits).len(), logits);
}
