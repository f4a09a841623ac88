//! Read-only memory maps of checkpoint files.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::Path;

use memmap2::Mmap;

/// Maps a whole file.
pub(super) fn map(path: &Path) -> io::Result<Mmap> {
    let file = File::open(path)?;
    // SAFETY: the map is private and read-only. Its bytes are only ever parsed as plain numbers and
    // checked text, so a file that another process changes meanwhile gives wrong values, and a
    // truncated one a signal, as with every memory-mapped reader.
    unsafe { Mmap::map(&file) }
}
