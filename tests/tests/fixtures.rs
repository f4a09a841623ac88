//! Every reference folder is complete: a checkpoint, and named inputs and finite outputs.

use std::path::Path;

use castiron_tests::fixture::folders;
use safetensors::{Dtype, SafeTensors};

#[test]
fn every_folder_holds_a_checkpoint_and_its_reference() {
    let folders = folders();
    assert!(folders.len() >= 50, "only {} fixtures", folders.len());
    for folder in folders {
        let is_weights = |path: &Path| {
            let extension = path.extension().unwrap_or_default().to_string_lossy();
            ["safetensors", "gguf", "bin", "pth", "pt"].contains(&&*extension)
                && !path.ends_with("reference.safetensors")
        };
        let mut files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        assert!(files.any(|path| is_weights(&path)), "{} holds no checkpoint", folder.display());
        let bytes = std::fs::read(folder.join("reference.safetensors"))
            .unwrap_or_else(|e| panic!("{}: reference.safetensors: {e}", folder.display()));
        let tensors = SafeTensors::deserialize(&bytes).expect("reference.safetensors is valid");
        let names = tensors.names();
        assert!(names.iter().any(|n| n.starts_with("in.")), "{}: no inputs", folder.display());
        let outputs: Vec<_> = names.iter().filter(|n| n.starts_with("out.")).collect();
        assert!(!outputs.is_empty(), "{}: no outputs", folder.display());
        for name in outputs {
            let tensor = tensors.tensor(name).expect("listed tensor");
            assert_eq!(tensor.dtype(), Dtype::F32, "{}: {name}", folder.display());
            let finite =
                tensor.data().chunks_exact(4).all(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).is_finite());
            assert!(finite, "{}: {name} is not finite", folder.display());
        }
    }
}

#[test]
fn greedy_and_beam_tokens_continue_their_prompts() {
    let ids = |v: &serde_json::Value| -> Vec<u64> {
        v.as_array().expect("a list").iter().map(|t| t.as_u64().expect("a token id")).collect()
    };
    for folder in folders() {
        let Ok(text) = std::fs::read_to_string(folder.join("generate.json")) else { continue };
        let cases: serde_json::Value = serde_json::from_str(&text).expect("generate.json is valid");
        for case in cases.as_array().expect("a list of cases") {
            // An encoder–decoder's text begins with its start token.
            let prompt =
                if case.get("defaults").is_some() { vec![ids(&case["greedy"])[0]] } else { ids(&case["prompt"]) };
            for method in ["greedy", "beam4"] {
                let Some(tokens) = case.get(method).map(ids) else { continue };
                let place = folder.display();
                assert!(tokens.starts_with(&prompt) && tokens.len() > prompt.len(), "{place}: {method}");
            }
        }
    }
}
