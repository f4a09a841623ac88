//! Zeroed memory on cache line boundaries, refused with an error when there is not enough.
#![allow(unsafe_code)] // Owns an allocation of a chosen alignment.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use memmap2::MmapMut;

/// Alignment of [`AlignedBytes`], of weights in artifacts and of buffers in arenas.
pub const ALIGNMENT: usize = 64;

/// The system has not so much memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no memory for {0} bytes")]
pub struct OutOfMemory(pub usize);

/// Bytes from which on memory is a mapping of its own, in large pages where the system has them.
const LARGE: usize = 2 << 20;

/// Bytes aligned to [`ALIGNMENT`].
pub struct AlignedBytes {
    at: NonNull<u8>,
    len: usize,
    /// What they lie in, if that is a mapping.
    mapping: Option<MmapMut>,
}

// SAFETY: it owns its bytes like a `Vec`.
unsafe impl Send for AlignedBytes {}
// SAFETY: as above; shared references only read.
unsafe impl Sync for AlignedBytes {}

impl AlignedBytes {
    /// So many zeros.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn zeroed(len: usize) -> Result<AlignedBytes, OutOfMemory> {
        if len == 0 {
            return Ok(AlignedBytes::default());
        }
        if len >= LARGE {
            return AlignedBytes::mapped(len);
        }
        let layout = Layout::from_size_align(len, ALIGNMENT).map_err(|_| OutOfMemory(len))?;
        // SAFETY: the layout's size is not 0.
        let at = unsafe { alloc_zeroed(layout) };
        NonNull::new(at).map(|at| AlignedBytes { at, len, mapping: None }).ok_or(OutOfMemory(len))
    }

    /// So many zeros in a mapping.
    fn mapped(len: usize) -> Result<AlignedBytes, OutOfMemory> {
        let mut mapping = MmapMut::map_anon(len).map_err(|_| OutOfMemory(len))?;
        // Without large pages it is slower, and as good.
        #[cfg(target_os = "linux")]
        let _ = mapping.advise(memmap2::Advice::HugePage);
        let at = NonNull::new(mapping.as_mut_ptr()).ok_or(OutOfMemory(len))?;
        Ok(AlignedBytes { at, len, mapping: Some(mapping) })
    }

    /// A copy of bytes.
    ///
    /// # Errors
    /// When the system refuses memory.
    pub fn copy_of(bytes: &[u8]) -> Result<AlignedBytes, OutOfMemory> {
        let mut copy = AlignedBytes::zeroed(bytes.len())?;
        copy.copy_from_slice(bytes);
        Ok(copy)
    }

    /// The first byte, to read and write all of them.
    pub(crate) fn pointer(&mut self) -> *mut u8 {
        self.at.as_ptr()
    }
}

impl Default for AlignedBytes {
    fn default() -> AlignedBytes {
        AlignedBytes { at: NonNull::<Line>::dangling().cast(), len: 0, mapping: None }
    }
}

/// Something of the wanted alignment.
#[repr(align(64))]
struct Line;
const _: () = assert!(align_of::<Line>() == ALIGNMENT);

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        if self.len > 0 && self.mapping.is_none() {
            // SAFETY: allocated in `zeroed` with this layout, which was valid there.
            unsafe { dealloc(self.at.as_ptr(), Layout::from_size_align_unchecked(self.len, ALIGNMENT)) }
        }
    }
}

impl Deref for AlignedBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes that are owned.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, exclusively borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr(), self.len) }
    }
}

impl fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBytes({})", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_zero_aligned_and_refused_when_too_many() {
        let bytes = AlignedBytes::zeroed(100).unwrap();
        assert!(bytes.as_ptr().addr().is_multiple_of(ALIGNMENT) && bytes.iter().all(|&b| b == 0) && bytes.len() == 100);
        assert_eq!(AlignedBytes::zeroed(usize::MAX).unwrap_err(), OutOfMemory(usize::MAX));
        let large = AlignedBytes::zeroed(LARGE + 1).unwrap();
        assert!(large.as_ptr().addr().is_multiple_of(ALIGNMENT) && large.iter().all(|&b| b == 0));
        assert!(AlignedBytes::default().is_empty());
        assert_eq!(*AlignedBytes::copy_of(&[1, 2]).unwrap(), [1, 2]);
    }
}
