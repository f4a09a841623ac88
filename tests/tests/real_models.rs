//! Published models against transformers on the same files; they are fetched once into castiron's cache
//! folder, and a test fails where that is not possible.

use std::path::Path;

use castiron::published::{MINILM, SMOLLM2};
use castiron_backends::weights::WeightFormat;
use castiron_runtime::cpu::isa::Isa;
use castiron_runtime::gpu::Mask;
use castiron_runtime::session::Options;
use castiron_runtime::tasks::Pipeline;
use castiron_runtime::tasks::generate::Request;
use castiron_runtime::text::{EncodeOptions, Sampling};
use castiron_tests::compiled;
use serde::Deserialize;
use serde::de::DeserializeOwned;

#[derive(Deserialize)]
struct Golden<T> {
    entries: Vec<T>,
}

#[derive(Deserialize)]
struct Generated {
    text: String,
    ids: Vec<u32>,
    new_ids: Vec<u32>,
    new_text: String,
    best_logits: Vec<f32>,
    second_logits: Vec<f32>,
}

#[derive(Deserialize)]
struct Embedded {
    text: String,
    ids: Vec<u32>,
    embedding: Vec<f32>,
}

fn golden<T: DeserializeOwned>(name: &str) -> Vec<T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name);
    serde_json::from_slice::<Golden<T>>(&std::fs::read(path).unwrap()).unwrap().entries
}

fn smollm2(weights: WeightFormat) -> Pipeline {
    compiled::open(&SMOLLM2.fetch().unwrap(), weights, compiled::cpu(Isa::detect())).unwrap()
}

fn minilm(executed: Options) -> Pipeline {
    compiled::open(&MINILM.fetch().unwrap(), WeightFormat::Keep, executed).unwrap()
}

/// The reference goes on beyond ends of text.
fn greedy(pipeline: &mut Pipeline, prompt: &[u32], count: usize) -> Vec<u32> {
    let sampling = Sampling::GREEDY;
    let request = Request { sampling, ..Request::plain(count) };
    let generated = pipeline.generate(&[prompt.to_vec()], &request, &mut |_| true).unwrap();
    generated.rows[0].tokens.clone()
}

#[test]
fn smollm2_in_f32_writes_what_transformers_writes() {
    let mut pipeline = smollm2(WeightFormat::F32);
    for entry in golden::<Generated>("smollm2.json") {
        let tokens = greedy(&mut pipeline, &entry.ids, entry.new_ids.len());
        assert_eq!(tokens, entry.new_ids, "after {:?}", entry.text);
        let text = pipeline.text().tokenizer().unwrap().decode(&tokens, false).unwrap();
        assert_eq!(text, entry.new_text);
    }
}

#[test]
fn smollm2_tokenizer_agrees() {
    let pipeline = smollm2(WeightFormat::Keep);
    let text = pipeline.text();
    for entry in golden::<Generated>("smollm2.json") {
        let ids = text.tokenizer().unwrap().encode(&entry.text, EncodeOptions::plain()).unwrap().ids;
        assert_eq!(ids, entry.ids, "{:?}", entry.text);
        assert_eq!(text.tokenizer().unwrap().decode(&ids, false).unwrap(), entry.text);
    }
}

/// With 4-bit weights left as they are, activations are rounded to 8 bits for the integer products. Of 16
/// tokens, one may differ only where the reference's lead is smaller than what that rounding changes.
#[test]
fn smollm2_in_four_bits_differs_only_by_rounding() {
    const TOKENS: usize = 16;
    let (mut kept, exact) = (smollm2(WeightFormat::Keep), smollm2(WeightFormat::F32));
    for entry in golden::<Generated>("smollm2.json") {
        let tokens = greedy(&mut kept, &entry.ids, TOKENS);
        let Some(at) = (0..TOKENS).find(|&i| tokens[i] != entry.new_ids[i]) else { continue };
        let context = [entry.ids.as_slice(), &entry.new_ids[..at]].concat();
        let (rounded, full) = (logits(&kept, &context), logits(&exact, &context));
        let change = rounded.iter().zip(&full).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let lead = entry.best_logits[at] - entry.second_logits[at];
        assert!(lead <= 2.0 * change, "token {at} after {:?}: lead {lead}, rounding {change}", entry.text);
    }
}

fn logits(pipeline: &Pipeline, context: &[u32]) -> Vec<f32> {
    let mut session = pipeline.model().session(&[("b", 1), ("c", context.len())]).unwrap();
    compiled::step(&mut session, context, 0).unwrap()
}

/// Shaders expand 4-bit weights exactly and round nothing.
#[test]
fn smollm2_in_four_bits_on_a_gpu_writes_what_transformers_writes() {
    const TOKENS: usize = 32;
    let path = SMOLLM2.fetch().unwrap();
    let mut pipeline = compiled::open(&path, WeightFormat::Keep, compiled::gpu(Mask::default())).unwrap();
    for entry in golden::<Generated>("smollm2.json").iter().take(3) {
        let tokens = greedy(&mut pipeline, &entry.ids, TOKENS);
        assert_eq!(tokens, entry.new_ids[..TOKENS], "after {:?}", entry.text);
    }
}

#[test]
fn minilm_embeds_what_transformers_embeds() {
    check_embeddings(minilm(compiled::cpu(Isa::detect())));
}

#[test]
fn minilm_on_a_gpu_embeds_what_transformers_embeds() {
    check_embeddings(minilm(compiled::gpu(Mask::default())));
}

fn check_embeddings(mut pipeline: Pipeline) {
    let entries = golden::<Embedded>("minilm.json");
    assert_eq!(entries.len(), 10);
    let texts: Vec<&str> = entries.iter().map(|e| e.text.as_str()).collect();
    let embeddings = pipeline.embed(&texts, &mut |_| ()).unwrap();
    for (entry, embedding) in entries.iter().zip(&embeddings) {
        let ids = pipeline.text().tokenizer().unwrap().encode(&entry.text, EncodeOptions::at_most(256)).unwrap().ids;
        assert_eq!(ids, entry.ids, "{:?}", entry.text);
        let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(x * y)).sum::<f64>();
        let (a, b) = (embedding.as_slice(), entry.embedding.as_slice());
        let cosine = product(a, b) / (product(a, a) * product(b, b)).sqrt();
        assert!(cosine > 0.999_99, "{:?}: cosine {cosine}", entry.text);
    }
}
