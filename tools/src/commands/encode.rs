//! `castiron embed`, `classify`, `fill-mask` and `qa`: models that read whole texts.

use std::process::ExitCode;

use castiron_ir::Task;
use castiron_runtime::tasks::classify::{Labelled, LabelledToken};
use castiron_runtime::tasks::fill_mask::Filling;
use serde_json::{Value, json};

use super::arguments::{FillMask, Qa, Texts};
use super::{Outcome, load, output};

pub(super) fn embed(arguments: &Texts) -> Outcome {
    let mut pipeline = load::pipeline(&arguments.executed)?;
    let texts: Vec<&str> = arguments.texts.iter().map(String::as_str).collect();
    let bar = output::count_bar("embedding", texts.len());
    let embeddings = pipeline.embed(&texts, &mut |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    if arguments.executed.json {
        println!("{}", json!({ "embeddings": embeddings }));
    } else {
        for embedding in embeddings {
            println!("{}", embedding.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn classify(arguments: &Texts) -> Outcome {
    let mut pipeline = load::pipeline(&arguments.executed)?;
    let mut results = Vec::new();
    for text in &arguments.texts {
        if pipeline.description().task == Task::TokenClassification {
            let tokens = pipeline.classify_tokens(text)?;
            if arguments.executed.json {
                let at = |byte: usize| characters(text, byte);
                let token = |t: &LabelledToken| {
                    let (start, end) = (at(t.range.0), at(t.range.1));
                    json!({ "text": t.text, "start": start, "end": end, "label": t.best.label, "score": t.best.score })
                };
                results.push(json!({ "text": text, "tokens": tokens.iter().map(token).collect::<Vec<_>>() }));
            } else {
                tokens.iter().for_each(|t| println!("{}\t{}\t{:.4}", t.text, t.best.label, t.best.score));
            }
        } else {
            let labels = pipeline.classify(text)?;
            if arguments.executed.json {
                results.push(json!({ "text": text, "labels": labels.iter().map(label).collect::<Vec<_>>() }));
            } else {
                let shown: Vec<String> = labels.iter().map(|l| format!("{} {:.4}", l.label, l.score)).collect();
                println!("{}", shown.join("  "));
            }
        }
    }
    if arguments.executed.json {
        println!("{}", json!({ "results": results }));
    }
    Ok(ExitCode::SUCCESS)
}

fn label(l: &Labelled) -> Value {
    json!({ "label": l.label, "score": l.score })
}

pub(super) fn fill_mask(arguments: &FillMask) -> Outcome {
    let mut pipeline = load::pipeline(&arguments.executed)?;
    let masks = pipeline.fill_mask(&arguments.text, arguments.top)?;
    if arguments.executed.json {
        let row = |row: &Vec<Filling>| {
            row.iter().map(|f| json!({ "token": f.token, "text": f.text, "score": f.score })).collect::<Vec<_>>()
        };
        println!("{}", json!({ "masks": masks.iter().map(row).collect::<Vec<_>>() }));
    } else {
        for row in masks {
            println!("{}", row.iter().map(|f| format!("{} {:.4}", f.text, f.score)).collect::<Vec<_>>().join("  "));
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn answer(arguments: &Qa) -> Outcome {
    let mut pipeline = load::pipeline(&arguments.executed)?;
    let answer = pipeline.answer(&arguments.question, &arguments.context)?;
    if arguments.executed.json {
        let at = |byte: usize| characters(&arguments.context, byte);
        let object =
            answer.map(|a| json!({ "text": a.text, "start": at(a.range.0), "end": at(a.range.1), "score": a.score }));
        println!("{}", json!({ "answer": object }));
    } else if let Some(answer) = answer {
        println!("{} ({:.4})", answer.text, answer.score);
    } else {
        println!("the text holds no answer");
    }
    Ok(ExitCode::SUCCESS)
}

/// How many characters stand before a byte: offsets in JSON count characters, as transformers' do.
fn characters(text: &str, byte: usize) -> usize {
    text.get(..byte).map_or(byte, |before| before.chars().count())
}
