//! Batches of texts of unequal lengths on the CPU: rows of padding are left out, and what is computed for a text
//! does not depend on the others.

use castiron_backends::weights::WeightFormat;
use castiron_runtime::cpu::isa::Isa;
use castiron_runtime::session::Session;
use castiron_runtime::tasks::Pipeline;
use castiron_runtime::tensor::TensorRef;
use castiron_tests::compiled::{self, cpu};
use castiron_tests::fixture;

/// A text's tokens, and where they stand in a row of the batch.
struct Text {
    tokens: Vec<i32>,
    start: usize,
}

const LENGTH: usize = 13;

/// The first and the last token touch an end, or neither, or all are there; one text has a hole.
fn batch() -> Vec<Text> {
    let text = |length: usize, start| Text {
        tokens: (0..length as i32).map(|i| 3 + (7 * i + start as i32) % 50).collect(),
        start,
    };
    vec![text(LENGTH, 0), text(3, 0), text(1, 0), text(5, LENGTH - 5), text(7, 2), text(9, 0)]
}

const HOLE: (usize, usize) = (5, 4);

/// Outputs of an entry for some texts in rows of a length, by name, each with its values.
fn run(session: &mut Session, entry: &str, texts: &[Text], mask: &[i32]) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let length = mask.len() / texts.len();
    let mut ids = vec![0; mask.len()];
    for (row, text) in ids.chunks_mut(length).zip(texts) {
        row[text.start..text.start + text.tokens.len()].copy_from_slice(&text.tokens);
    }
    let shape = [texts.len(), length];
    let types: Vec<i32> = ids.iter().map(|id| id % 2).collect();
    let inputs = [("input_ids", &ids[..]), ("attention_mask", mask), ("token_type_ids", &types)];
    let inputs = inputs.map(|(name, values)| (name, TensorRef::i32(&shape, values).unwrap()));
    let model = session.model().clone();
    let entry_inputs = &model.entry(entry).unwrap().inputs;
    let taken: Vec<_> = inputs.into_iter().filter(|(name, _)| entry_inputs.iter().any(|(n, _)| n == name)).collect();
    let outputs = session.run(entry, &taken).unwrap();
    let names = model.entry(entry).unwrap().outputs.iter().map(|(name, _)| name);
    let all = names.map(|name| {
        let tensor = outputs.get(name).unwrap();
        (name.clone(), tensor.shape().to_vec(), tensor.as_f32().unwrap().to_vec())
    });
    all.collect()
}

/// Checks an entry; gives whether rows of padding were left out.
fn check(pipeline: &mut Pipeline, entry: &str, about: &str) -> bool {
    let mut session = pipeline.model().smallest_session().unwrap();
    let texts = batch();
    let mut mask = vec![0; texts.len() * LENGTH];
    for (row, text) in mask.chunks_mut(LENGTH).zip(&texts) {
        row[text.start..text.start + text.tokens.len()].fill(1);
    }
    mask[HOLE.0 * LENGTH + HOLE.1] = 0;
    let together = run(&mut session, entry, &texts, &mask);
    let mut left_out = true;
    for (number, text) in texts.into_iter().enumerate() {
        // Alone, with as many positions as it needs: padding behind it is cut off, which changes nothing.
        let length = text.start + text.tokens.len();
        let mask = &mask[number * LENGTH..][..length];
        // A text that does not begin a row has padding also when it is alone: it is compared with a batch without any
        // other, whose hidden tokens are computed if one of them is no padding by its place.
        let alone = run(&mut session, entry, &[text], mask);
        for ((name, shape, together), (_, _, alone)) in together.iter().zip(&alone) {
            let each = together.len() / shape[0];
            let rows = &together[number * each..][..each];
            let is_by_token = shape.get(1) == Some(&LENGTH);
            let width = if is_by_token { each / LENGTH } else { each };
            for (i, (row, expected)) in rows.chunks(width).zip(alone.chunks(width)).enumerate() {
                if is_by_token && mask[i] == 0 {
                    continue;
                }
                for (x, y) in row.iter().zip(expected) {
                    assert!(
                        (x - y).abs() <= 1e-5 * y.abs().max(1.0),
                        "{about}, {entry}, `{name}`, text {number}, {i}: {x}, {y}"
                    );
                }
            }
            if is_by_token {
                left_out &= rows[length * width..].iter().all(|&x| x == 0.0);
            }
        }
    }
    left_out
}

#[test]
fn texts_of_a_batch_give_what_they_give_alone() {
    let mut checked = 0;
    for fixture in fixture::all().into_iter().filter(|fixture| fixture.name.starts_with("bert")) {
        for isa in Isa::available() {
            let mut pipeline = compiled::open(&fixture.path, WeightFormat::Keep, cpu(isa)).unwrap();
            let entries: Vec<String> =
                pipeline.model().program().entries.iter().map(|entry| entry.name.clone()).collect();
            for entry in entries {
                let about = format!("{} on {isa:?}", fixture.name);
                assert!(check(&mut pipeline, &entry, &about), "{about}, {entry}: padding was computed");
                checked += 1;
            }
        }
    }
    assert!(checked > 20);
}

/// Weights of integers go by the same list of rows.
#[test]
fn quantised_weights_too() {
    let path = fixture::all().into_iter().find(|fixture| fixture.name == "bert-base").unwrap().path;
    for isa in Isa::available() {
        let mut pipeline = compiled::open(&path, WeightFormat::Q8, cpu(isa)).unwrap();
        assert!(check(&mut pipeline, "forward", "bert-base in 8 bits"));
    }
}
