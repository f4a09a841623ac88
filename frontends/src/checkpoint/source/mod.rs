//! Where a checkpoint is: a path, or `hf:org/name[@revision]`, looked up in the hub's cache on this
//! machine and else downloaded into it.
//!
//! The cache and its variables are huggingface_hub's: `HF_HUB_CACHE`, `HF_HOME`, `HF_ENDPOINT`,
//! `HF_TOKEN`, `HF_HUB_OFFLINE`.

mod download;

use std::path::{Path, PathBuf};

use super::open::{FORMATS, only_file};
use super::shards::Shards;

const PREFIX: &str = "hf:";
const ENDPOINT: &str = "https://huggingface.co";

/// A source that leads to no checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A name on the hub that cannot be one.
    #[error("`{0}`: expected hf:org/name or hf:org/name@revision")]
    Name(String),
    /// Neither `HF_HOME` nor a home folder.
    #[error("no cache folder: set HF_HOME")]
    NoHome,
    /// A checkpoint that would have to be downloaded.
    #[error("hf:{repository}@{revision} is not in {cache}, and HF_HUB_OFFLINE forbids a download")]
    Offline {
        /// `org/name`.
        repository: String,
        /// Branch, tag or commit.
        revision: String,
        /// The cache folder.
        cache: PathBuf,
    },
    /// A hub that does not give a list of files.
    #[error("hf:{repository}@{revision}: {message}")]
    Repository {
        /// `org/name`.
        repository: String,
        /// Branch, tag or commit.
        revision: String,
        /// What the hub says.
        message: String,
    },
    /// A repository without weights in a format that can be read.
    #[error("hf:{repository}@{revision} holds neither safetensors nor one GGUF file; its weights: {found:?}")]
    NoWeights {
        /// `org/name`.
        repository: String,
        /// Branch, tag or commit.
        revision: String,
        /// Files that look like weights.
        found: Vec<String>,
    },
    /// A file that cannot be downloaded.
    #[error("hf:{repository}@{revision}: {file}: {message}")]
    Download {
        /// `org/name`.
        repository: String,
        /// Branch, tag or commit.
        revision: String,
        /// The file.
        file: String,
        /// Why.
        message: String,
    },
}

/// How far the download of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The file.
    pub file: &'a str,
    /// Bytes that are here.
    pub done: u64,
    /// Bytes of the file.
    pub total: u64,
}

/// The path of a checkpoint: a local path is its own, `hf:org/name[@revision]` is found in the cache or
/// downloaded, of which `progress` is told.
///
/// # Errors
/// A name that is none, or a repository that cannot be had.
pub fn resolve(source: &str, progress: &mut dyn FnMut(Progress<'_>)) -> Result<PathBuf, SourceError> {
    match source.strip_prefix(PREFIX) {
        Some(name) => Hub::from_environment()?.find(&Repository::parse(name)?, progress),
        None => Ok(PathBuf::from(source)),
    }
}

/// A repository at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Repository {
    name: String,
    revision: String,
}

impl Repository {
    fn parse(text: &str) -> Result<Repository, SourceError> {
        let (name, revision) = text.split_once('@').unwrap_or((text, "main"));
        let is_part = |part: &str| {
            let plain = part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
            plain && !part.is_empty() && !part.starts_with('.') && !part.contains("..")
        };
        let ok = name.split('/').count() <= 2 && name.split('/').chain(revision.split('/')).all(is_part);
        if ok {
            Ok(Repository { name: name.to_owned(), revision: revision.to_owned() })
        } else {
            Err(SourceError::Name(format!("{PREFIX}{text}")))
        }
    }
}

/// The hub and its cache on this machine.
#[derive(Debug)]
struct Hub {
    cache: PathBuf,
    endpoint: String,
    token: Option<String>,
    offline: bool,
}

impl Hub {
    fn from_environment() -> Result<Hub, SourceError> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Hub::new(&variable, std::env::home_dir())
    }

    fn new(variable: &dyn Fn(&str) -> Option<String>, user: Option<PathBuf>) -> Result<Hub, SourceError> {
        let caches = || variable("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(user?.join(".cache")));
        let home = variable("HF_HOME").map(PathBuf::from).or_else(|| Some(caches()?.join("huggingface")));
        let cache = variable("HF_HUB_CACHE").or_else(|| variable("HUGGINGFACE_HUB_CACHE")).map(PathBuf::from);
        let cache = cache.or_else(|| Some(home.as_ref()?.join("hub"))).ok_or(SourceError::NoHome)?;
        let token_file = variable("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| Some(home?.join("token")));
        let stored = || std::fs::read_to_string(token_file?).ok();
        let token = variable("HF_TOKEN").or_else(|| variable("HUGGING_FACE_HUB_TOKEN")).or_else(stored);
        let is_set = |value: String| matches!(value.to_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE");
        Ok(Hub {
            cache,
            endpoint: variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into()).trim_end_matches('/').to_owned(),
            token: token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()),
            offline: variable("HF_HUB_OFFLINE").is_some_and(is_set),
        })
    }

    fn find(&self, repository: &Repository, progress: &mut dyn FnMut(Progress<'_>)) -> Result<PathBuf, SourceError> {
        if let Some(snapshot) = self.cached(repository) {
            return Ok(snapshot);
        }
        if self.offline {
            let Repository { name, revision } = repository.clone();
            return Err(SourceError::Offline { repository: name, revision, cache: self.cache.clone() });
        }
        download::download(self, repository, progress)
    }

    /// The folder of a snapshot with all its weights.
    fn cached(&self, repository: &Repository) -> Option<PathBuf> {
        let folder = self.folder(repository);
        let commit = std::fs::read_to_string(folder.join("refs").join(&repository.revision)).ok();
        let commit = commit.as_deref().map(str::trim).filter(|c| is_commit(c)).unwrap_or(&repository.revision);
        let snapshot = folder.join("snapshots").join(commit);
        is_complete(&snapshot).then_some(snapshot)
    }

    fn folder(&self, repository: &Repository) -> PathBuf {
        self.cache.join(format!("models--{}", repository.name.replace('/', "--")))
    }
}

fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether a folder holds a checkpoint with all its weights.
fn is_complete(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).is_file();
    for (single, index, _) in FORMATS {
        if has("config.json") && has(single) {
            return true;
        }
        if has("config.json") && has(index) {
            let shards = Shards::read(&folder.join(index));
            return shards.is_ok_and(|shards| shards.files().iter().all(|shard| has(shard)));
        }
    }
    only_file(folder).is_ok()
}

#[cfg(test)]
mod tests;
