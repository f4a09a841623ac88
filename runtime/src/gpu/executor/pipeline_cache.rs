//! What the driver has compiled, kept from one process to the next where it can tell: a file for each
//! adapter in castiron's [cache folder](crate::cache).
//!
//! ```text
//!  8 bytes  SIGNATURE  |  32 bytes  SHA-256 of the rest  |  what the driver told
//! ```
//! The file only saves time. One that cannot be read, is damaged, or has grown too large is as good as
//! none, and one that cannot be written is not.
#![allow(unsafe_code)] // Drivers believe what they are told of their caches.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::device::{Gpu, lock};

const SIGNATURE: &[u8; 8] = b"ironpipe";
/// Caches only grow, model by model; beyond this they are begun anew.
const MOST_BYTES: u64 = 64 << 20;

/// The driver's cache of a device, with its file.
pub(super) struct PipelineCache {
    cache: wgpu::PipelineCache,
    file: PathBuf,
    /// What the file holds, as far as this process knows.
    kept: Mutex<Option<Vec<u8>>>,
}

impl PipelineCache {
    /// The cache of an adapter, if it has one and there is a folder to keep it in.
    pub fn open(gpu: &Gpu, adapter: &wgpu::AdapterInfo) -> Option<PipelineCache> {
        if !gpu.device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let file = crate::cache::folder()?.join(wgpu::util::pipeline_cache_key(adapter)?);
        let data = read(&file);
        let descriptor = wgpu::PipelineCacheDescriptor { label: None, data: data.as_deref(), fallback: true };
        // SAFETY: data is what `get_data` gave a process with this adapter: the name of the file has the
        // adapter, its checksum the bytes. wgpu refuses what another version of the driver has told.
        let create = || unsafe { gpu.device.create_pipeline_cache(&descriptor) };
        let cache = gpu.scoped("the pipeline cache", create).ok()?;
        Some(PipelineCache { cache, file, kept: Mutex::new(data) })
    }

    /// What pipelines are made with.
    pub fn get(&self) -> &wgpu::PipelineCache {
        &self.cache
    }

    /// Writes the file anew if the driver knows other things than it holds.
    pub fn keep(&self) {
        let mut kept = lock(&self.kept);
        let data = self.cache.get_data();
        if data.is_some() && data != *kept {
            // Without the file, the next process compiles once more.
            let _ = data.as_deref().map(|data| write(&self.file, data));
            *kept = data;
        }
    }
}

/// What an undamaged file holds.
fn read(path: &Path) -> Option<Vec<u8>> {
    let file = File::open(path).ok().filter(|file| file.metadata().is_ok_and(|about| about.len() <= MOST_BYTES))?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    let (sum, data) = bytes.strip_prefix(SIGNATURE)?.split_first_chunk::<32>()?;
    (sum[..] == Sha256::digest(data)[..]).then(|| data.to_vec())
}

/// Puts a file into its place whole.
fn write(path: &Path, data: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(SIGNATURE)?;
    file.write_all(&Sha256::digest(data))?;
    file.write_all(data)?;
    file.persist(path).map(drop).map_err(|e| e.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/cache");
        assert_eq!(read(&path), None);
        for data in [&b"a driver's data"[..], b""] {
            write(&path, data).unwrap();
            assert_eq!(read(&path).as_deref(), Some(data));
        }
        write(&path, b"a driver's data").unwrap();
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(read(&path), None, "{length} bytes");
        }
        for at in 0..whole.len() {
            let mut altered = whole.clone();
            altered[at] ^= 1;
            std::fs::write(&path, &altered).unwrap();
            assert_eq!(read(&path), None, "byte {at}");
        }
        File::create(&path).unwrap().set_len(MOST_BYTES + 1).unwrap();
        assert_eq!(read(&path), None);
    }
}
