//! Reading memory of the device through a buffer that the host can see.

use wgpu::{Buffer, BufferUsages, CommandEncoder, MapMode};

use super::GpuError;
use super::device::Gpu;

/// A part of a buffer: its first byte and its number of bytes, both whole words.
pub(super) type Piece<'a> = (&'a Buffer, u64, u64);

/// A buffer that the host reads, kept from one time to the next.
#[derive(Default)]
pub(super) struct Staging {
    buffer: Option<Buffer>,
}

impl Staging {
    /// Submits what was recorded, waits for it, and hands out the bytes of pieces with their numbers.
    ///
    /// # Errors
    /// No memory, a failure of what was recorded, or the loss of the device.
    pub fn read(
        &mut self,
        gpu: &Gpu,
        mut encoder: CommandEncoder,
        pieces: &[Piece<'_>],
        mut take: impl FnMut(usize, &[u8]),
    ) -> Result<(), GpuError> {
        let total = pieces.iter().map(|(_, _, bytes)| bytes).sum();
        self.reserve(gpu, total)?;
        let staging = self.buffer.as_ref().filter(|_| total > 0);
        gpu.scoped("a run", || {
            let mut end = 0;
            for (piece, staging) in pieces.iter().zip(std::iter::repeat(staging)) {
                let (Some(staging), &(buffer, offset, bytes)) = (staging, piece) else { continue };
                encoder.copy_buffer_to_buffer(buffer, offset, staging, end, bytes);
                end += bytes;
            }
            gpu.submit(Some(encoder));
            if let Some(staging) = staging {
                // Whether it worked is seen when the bytes are asked for.
                staging.map_async(MapMode::Read, ..total, |_| {});
            }
        })?;
        let outcome = gpu.wait().and_then(|()| match staging {
            Some(staging) => hand_out(staging, total, pieces, &mut take),
            None => Ok(()),
        });
        // A buffer that may still be waiting to be mapped is of no more use.
        outcome.inspect_err(|_| self.buffer = None)
    }

    fn reserve(&mut self, gpu: &Gpu, bytes: u64) -> Result<(), GpuError> {
        if self.buffer.as_ref().is_none_or(|buffer| buffer.size() < bytes) {
            self.buffer = None;
            self.buffer =
                Some(gpu.buffer("results on their way", bytes, BufferUsages::MAP_READ | BufferUsages::COPY_DST)?);
        }
        Ok(())
    }
}

fn hand_out(
    staging: &Buffer,
    total: u64,
    pieces: &[Piece<'_>],
    take: &mut impl FnMut(usize, &[u8]),
) -> Result<(), GpuError> {
    let failure = |e: wgpu::MapRangeError| GpuError::Internal { what: "results".to_owned(), reason: e.to_string() };
    let view = staging.get_mapped_range(..total).map_err(failure)?;
    let mut rest = &view[..];
    for (number, &(_, _, bytes)) in pieces.iter().enumerate() {
        let (piece, others) = rest.split_at(bytes as usize);
        take(number, piece);
        rest = others;
    }
    drop(view);
    staging.unmap();
    Ok(())
}
