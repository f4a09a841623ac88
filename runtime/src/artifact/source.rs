//! The bytes of an artifact.
#![allow(unsafe_code)] // Maps a file.

use std::fs::File;
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

use crate::memory::AlignedBytes;

/// A mapped file or a copy; both begin at a multiple of 64.
#[derive(Debug)]
pub(super) enum Source {
    /// A file that other processes share.
    Mapped(Mmap),
    /// A copy.
    Owned(AlignedBytes),
}

impl Source {
    /// Maps a file.
    pub fn map(path: &Path) -> std::io::Result<Source> {
        let file = File::open(path)?;
        // SAFETY: as with every mapping, the file must not change; the compiler writes artifacts
        // under another name and renames them, so that it never changes one in place.
        Ok(Source::Mapped(unsafe { Mmap::map(&file)? }))
    }
}

impl Deref for Source {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Source::Mapped(map) => map,
            Source::Owned(bytes) => bytes,
        }
    }
}
