//! Downloads of the files that a checkpoint needs.

use std::path::PathBuf;

use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

use super::{Hub, Progress, Repository, SourceError, is_commit};
use crate::checkpoint::open::FORMATS;
use crate::checkpoint::shards::Shards;

const RETRIES: usize = 3;

/// Files beside the weights that say something of the model.
const COMPANIONS: [&str; 16] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
];

/// Downloads into the cache; gives the snapshot's folder.
pub(super) fn download(
    hub: &Hub,
    repository: &Repository,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<PathBuf, SourceError> {
    let cache = Cache::new(hub.cache.clone());
    let builder = ApiBuilder::from_cache(cache).with_endpoint(hub.endpoint.clone()).with_token(hub.token.clone());
    let api = builder.with_progress(false).with_retries(RETRIES).build();
    let refused = |message: String| {
        let Repository { name, revision } = repository.clone();
        SourceError::Repository { repository: name, revision, message }
    };
    let api = api.map_err(|e| refused(e.to_string()))?;
    let at =
        |revision: &str| api.repo(Repo::with_revision(repository.name.clone(), RepoType::Model, revision.to_owned()));
    let info = at(&repository.revision).info().map_err(|e| refused(explained(&e)))?;
    if !is_commit(&info.sha) {
        return Err(refused(format!("the hub names no commit but {:?}", info.sha)));
    }
    let files: Vec<&str> = info.siblings.iter().map(|file| file.rfilename.as_str()).collect();
    let mut job = Job { remote: at(&info.sha), snapshot: snapshot(hub, repository, &info.sha), repository, progress };
    for file in files.iter().filter(|file| is_companion(file)) {
        job.fetch(file)?;
    }
    for file in job.weights(&files)? {
        job.fetch(&file)?;
    }
    // What a later look-up by branch or tag goes by; huggingface_hub writes the same.
    if repository.revision != info.sha {
        let named = Repo::with_revision(repository.name.clone(), RepoType::Model, repository.revision.clone());
        let written = Cache::new(hub.cache.clone()).repo(named).create_ref(&info.sha);
        written.map_err(|e| refused(format!("the cache cannot be written: {e}")))?;
    }
    Ok(job.snapshot)
}

fn snapshot(hub: &Hub, repository: &Repository, commit: &str) -> PathBuf {
    hub.folder(repository).join("snapshots").join(commit)
}

fn is_companion(file: &str) -> bool {
    let is_module = |(folder, name): (&str, &str)| {
        name == "config.json" && folder.split_once('_').is_some_and(|(n, _)| n.bytes().all(|b| b.is_ascii_digit()))
    };
    COMPANIONS.contains(&file) || file.split_once('/').is_some_and(is_module)
}

struct Job<'a> {
    remote: ApiRepo,
    snapshot: PathBuf,
    repository: &'a Repository,
    progress: &'a mut dyn FnMut(Progress<'_>),
}

impl Job<'_> {
    /// Weights to download: one file of safetensors or of PyTorch's, all shards of an index, or the one GGUF file.
    fn weights(&mut self, files: &[&str]) -> Result<Vec<String>, SourceError> {
        for (single, index, _) in FORMATS {
            if files.contains(&single) {
                return Ok(vec![single.to_owned()]);
            }
            if files.contains(&index) {
                self.fetch(index)?;
                let shards = Shards::read(&self.snapshot.join(index)).map_err(|e| self.failed(index, e.to_string()))?;
                return Ok(shards.files().into_iter().collect());
            }
        }
        let gguf: Vec<&&str> =
            files.iter().filter(|file| file.ends_with(".gguf") && !file.contains(['/', '\\'])).collect();
        if let [only] = gguf[..] {
            return Ok(vec![(*only).to_string()]);
        }
        let is_weights =
            |file: &&&str| [".gguf", ".bin", ".pt", ".pth", ".safetensors"].iter().any(|e| file.ends_with(e));
        let found = files.iter().filter(is_weights).map(|file| (*file).to_string()).collect();
        let Repository { name, revision } = self.repository.clone();
        Err(SourceError::NoWeights { repository: name, revision, found })
    }

    fn fetch(&mut self, file: &str) -> Result<(), SourceError> {
        if self.snapshot.join(file).is_file() {
            return Ok(());
        }
        let meter = Meter { file, done: 0, total: 0, progress: self.progress };
        let fetched = self.remote.download_with_progress(file, meter);
        fetched.map(|_| ()).map_err(|e| self.failed(file, explained(&e)))
    }

    fn failed(&self, file: &str, message: String) -> SourceError {
        let Repository { name, revision } = self.repository.clone();
        SourceError::Download { repository: name, revision, file: file.to_owned(), message }
    }
}

/// Adds up what hf-hub reports.
struct Meter<'a> {
    file: &'a str,
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(Progress<'_>),
}

impl Meter<'_> {
    fn report(&mut self) {
        (self.progress)(Progress { file: self.file, done: self.done, total: self.total });
    }
}

impl hf_hub::api::Progress for Meter<'_> {
    fn init(&mut self, size: usize, _: &str) {
        (self.done, self.total) = (0, size as u64);
        self.report();
    }

    fn update(&mut self, size: usize) {
        self.done += size as u64;
        self.report();
    }

    fn finish(&mut self) {}
}

/// The hub's answer, with what mends it.
fn explained(error: &ApiError) -> String {
    let text = error.to_string();
    match ["401", "403", "404"].into_iter().find(|status| text.ends_with(status)) {
        Some("404") => format!("{text} (no such repository, revision or file)"),
        Some(_) => format!("{text} (no such repository, or a private or gated one: HF_TOKEN must allow it)"),
        None => text,
    }
}
