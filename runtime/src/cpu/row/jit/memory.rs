//! Executable memory and the call into it.
#![allow(unsafe_code)] // Calls generated code.

use memmap2::{Mmap, MmapMut};

/// Signature of generated functions: pointers of the inputs and of the outputs, and the length.
type Entry = unsafe extern "sysv64" fn(*const *const f32, *const *mut f32, usize);

/// Generated code, never writable and executable at once.
#[derive(Debug)]
pub(super) struct CodeMemory(Mmap);

impl CodeMemory {
    /// Copies an image into fresh pages and makes them executable.
    pub(super) fn new(image: &[u8]) -> std::io::Result<CodeMemory> {
        let mut pages = MmapMut::map_anon(image.len())?;
        pages.copy_from_slice(image);
        Ok(CodeMemory(pages.make_exec()?))
    }

    /// The image.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Calls the function at offset `entry`.
    ///
    /// # Safety
    /// `entry` is the offset of a function that [`super::emit`] wrote, and the arguments satisfy
    /// [`RowFunction::call`](crate::cpu::row::RowFunction::call) for its program.
    pub(super) unsafe fn call(&self, entry: usize, inputs: &[*const f32], outputs: &[*mut f32], n: usize) {
        let address = self.bytes()[entry..].as_ptr();
        // SAFETY: the caller vouches that a function of this signature starts here; the pages are
        // executable and live as long as `self`.
        let function = unsafe { std::mem::transmute::<*const u8, Entry>(address) };
        // SAFETY: the caller vouches for the pointers; the code keeps to the System V convention
        // and touches no other memory than them, its frame and the constants of its image.
        unsafe { function(inputs.as_ptr(), outputs.as_ptr(), n) }
    }
}
