//! Fields of a pickle.

use super::TorchError;

/// A place in a pickle.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Reader<'a> {
        Reader { bytes, at }
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], TorchError> {
        let end = self.at.checked_add(length).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or(TorchError::Truncated(self.at))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// An unsigned little-endian number of `N` bytes.
    pub(super) fn number<const N: usize>(&mut self) -> Result<u64, TorchError> {
        let bytes = self.take(N)?;
        Ok(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// As many bytes as a number of `N` bytes before them says.
    pub(super) fn counted<const N: usize>(&mut self) -> Result<&'a [u8], TorchError> {
        let length = self.number::<N>()?;
        self.take(usize::try_from(length).map_err(|_| TorchError::Truncated(self.at))?)
    }

    /// Up to the end of the line, without it.
    pub(super) fn line(&mut self) -> Result<&'a [u8], TorchError> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or(TorchError::Truncated(self.at))?;
        self.at += length + 1;
        Ok(&rest[..length])
    }
}
