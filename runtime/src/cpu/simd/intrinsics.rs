//! Methods that are one intrinsic each, for the tokens of x86 instruction sets.

/// Arithmetic intrinsics as methods.
macro_rules! arithmetic {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $out:ty = $body:expr;)*) => {
        $(#[inline(always)]
        fn $name(self, $($arg: $ty),*) -> $out {
            // SAFETY: `self` exists only where the processor has the instructions; no memory is touched.
            unsafe { $body }
        })*
    };
}

/// Intrinsics that touch memory, as methods whose contract is the caller's.
macro_rules! memory {
    ($($name:ident($($arg:ident: $ty:ty),*) $(-> $out:ty)? = $body:expr;)*) => {
        $(#[inline(always)]
        unsafe fn $name(self, $($arg: $ty),*) $(-> $out)? {
            // SAFETY: `self` proves the instructions, and the caller that the memory is valid.
            unsafe { $body }
        })*
    };
}

pub(super) use {arithmetic, memory};
