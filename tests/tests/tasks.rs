//! What encoders answer to texts, against transformers, on every reference folder that holds such answers.

use castiron_backends::weights::WeightFormat;
use castiron_runtime::cpu::isa::Isa;
use castiron_runtime::tasks::Pipeline;
use castiron_tests::{compiled, fixture};
use serde_json::Value;

const TOLERANCE: f64 = 1e-4;

#[test]
fn encoders_answer_texts_as_transformers_does() {
    let mut counts = [0; 5];
    for folder in fixture::folders() {
        let Ok(text) = std::fs::read(folder.join("text.json")) else { continue };
        let answers: Value = serde_json::from_slice(&text).expect("text.json is valid");
        if answers.get("prompts").is_some() {
            continue; // of a decoder
        }
        let mut pipeline = compiled::open(&folder, WeightFormat::Keep, compiled::cpu(Isa::detect()))
            .unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let checks = [embeddings, classes, token_classes, fillings, spans];
        for ((check, key), count) in checks.into_iter().zip(KEYS).zip(&mut counts) {
            for case in answers[key].as_array().into_iter().flatten() {
                check(&mut pipeline, case).unwrap_or_else(|e| panic!("{}: {e} for {case}", folder.display()));
                *count += 1;
            }
        }
    }
    assert!(counts.iter().all(|&n| n > 0), "{counts:?}");
}

const KEYS: [&str; 5] = ["embeddings", "classes", "token_classes", "fillings", "answers"];

fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().expect("a text")
}

fn equal(what: &str, actual: &str, expected: &Value) -> Result<(), String> {
    if expected == actual { Ok(()) } else { Err(format!("{what} is {actual:?}, not {expected}")) }
}

fn near(what: &str, actual: f32, expected: &Value) -> Result<(), String> {
    let expected = expected.as_f64().expect("a number");
    let is_near = (f64::from(actual) - expected).abs() <= TOLERANCE;
    if is_near { Ok(()) } else { Err(format!("{what} is {actual}, not {expected}")) }
}

fn embeddings(pipeline: &mut Pipeline, case: &Value) -> Result<(), String> {
    let embedded = pipeline.embed(&[text(case, "text")], &mut |_| {}).map_err(|e| e.to_string())?;
    let expected = case["embedding"].as_array().expect("a vector");
    assert_eq!(embedded[0].len(), expected.len());
    embedded[0].iter().zip(expected).try_for_each(|(&a, b)| near("an element", a, b))
}

fn classes(pipeline: &mut Pipeline, case: &Value) -> Result<(), String> {
    let labels = pipeline.classify(text(case, "text")).map_err(|e| e.to_string())?;
    let expected = case["labels"].as_array().expect("labels");
    assert_eq!(labels.len(), expected.len());
    labels.iter().zip(expected).try_for_each(|(a, b)| {
        equal("a label", &a.label, &b["label"])?;
        near("its score", a.score, &b["score"])
    })
}

fn token_classes(pipeline: &mut Pipeline, case: &Value) -> Result<(), String> {
    let tokens = pipeline.classify_tokens(text(case, "text")).map_err(|e| e.to_string())?;
    let expected = case["tokens"].as_array().expect("tokens");
    assert_eq!(tokens.len(), expected.len());
    tokens.iter().zip(expected).try_for_each(|(a, b)| {
        equal("a label", &a.best.label, &b["label"])?;
        near("its score", a.best.score, &b["score"])
    })
}

fn fillings(pipeline: &mut Pipeline, case: &Value) -> Result<(), String> {
    let best = case["best"].as_array().expect("tokens");
    let fillings = pipeline.fill_mask(text(case, "text"), best.len()).map_err(|e| e.to_string())?;
    assert_eq!(fillings.len(), 1);
    fillings[0].iter().zip(best).try_for_each(|(a, b)| {
        equal("a token", &a.token.to_string(), &Value::from(b["id"].to_string()))?;
        near("its score", a.score, &b["score"])
    })
}

fn spans(pipeline: &mut Pipeline, case: &Value) -> Result<(), String> {
    let answer = pipeline.answer(text(case, "question"), text(case, "context")).map_err(|e| e.to_string())?;
    let answer = answer.ok_or("there is no answer")?;
    equal("the answer", &answer.text, &case["answer"])?;
    near("its score", answer.score, &case["score"])
}
