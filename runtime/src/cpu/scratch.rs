//! Working memory of kernels: reserved before execution, carved into typed slices inside.
#![allow(unsafe_code)]

/// A cache line of memory.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; Scratch::ALIGNMENT]);

/// Memory of one thread for the insides of a kernel.
#[derive(Default)]
pub struct Scratch {
    lines: Vec<Line>,
}

/// Numbers of which any bit pattern is one.
pub trait Plain: Copy + sealed::Sealed {}

mod sealed {
    pub trait Sealed {}
}

macro_rules! plain {
    ($($ty:ty)*) => { $(impl sealed::Sealed for $ty {} impl Plain for $ty {})* };
}
plain!(f32 i32 i8 u64 rustfft::num_complex::Complex<f32>);

impl Scratch {
    /// Alignment of each carved slice.
    pub const ALIGNMENT: usize = 64;

    /// Makes sure that there are at least `bytes`.
    pub fn reserve(&mut self, bytes: usize) {
        let lines = bytes.div_ceil(Scratch::ALIGNMENT);
        if self.lines.len() < lines {
            self.lines.resize(lines, Line([0; Scratch::ALIGNMENT]));
        }
    }

    /// Bytes that a slice of `count` numbers takes.
    pub const fn bytes_of<T: Plain>(count: usize) -> usize {
        (count * size_of::<T>()).next_multiple_of(Scratch::ALIGNMENT)
    }

    /// The memory, to be handed out from its start.
    pub fn carve(&mut self) -> Carver<'_> {
        Carver { rest: &mut self.lines }
    }
}

/// What remains of a [`Scratch`].
pub struct Carver<'a> {
    rest: &'a mut [Line],
}

impl<'a> Carver<'a> {
    /// What remains, for a while.
    pub fn lend(&mut self) -> Carver<'_> {
        Carver { rest: self.rest }
    }

    /// The next `count` numbers, of any value.
    ///
    /// # Panics
    /// When less was reserved.
    pub fn take<T: Plain>(&mut self, count: usize) -> &'a mut [T] {
        let lines = Scratch::bytes_of::<T>(count) / Scratch::ALIGNMENT;
        let rest = std::mem::take(&mut self.rest);
        assert!(lines <= rest.len(), "a kernel needs {lines} lines of scratch where {} are left", rest.len());
        let (taken, rest) = rest.split_at_mut(lines);
        self.rest = rest;
        // SAFETY: the lines are initialised, exclusively borrowed for 'a, aligned to 64, hold
        // `count` values of T, and any bits are a value of a plain type and of a line.
        unsafe { std::slice::from_raw_parts_mut(taken.as_mut_ptr().cast::<T>(), count) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_aligned_and_apart() {
        let mut scratch = Scratch::default();
        scratch.reserve(Scratch::bytes_of::<f32>(17) + Scratch::bytes_of::<i8>(3));
        let mut carver = scratch.carve();
        let floats = carver.take::<f32>(17);
        let bytes = carver.take::<i8>(3);
        floats.fill(1.0);
        bytes.fill(7);
        assert!(floats.iter().all(|&x| x == 1.0));
        assert_eq!(bytes.as_ptr() as usize - floats.as_ptr() as usize, 128);
    }

    #[test]
    #[should_panic(expected = "scratch")]
    fn more_than_reserved_panics() {
        Scratch::default().carve().take::<f32>(1);
    }
}
