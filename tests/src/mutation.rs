//! Damage to files: what a broken disk, a cut download or an attacker makes of them.

use proptest::prelude::*;

/// One way to damage a file. Places are fractions of its length in 2⁻³².
#[derive(Clone, Debug)]
pub enum Mutation {
    /// Everything after a place is lost.
    Truncate(u32),
    /// One bit is another.
    Flip(u32, u8),
    /// Some bytes are others.
    Overwrite(u32, Vec<u8>),
    /// Two runs of bytes change places.
    Swap(u32, u32, u8),
    /// A run of bytes occurs twice.
    Repeat(u32, u8),
    /// A decimal number becomes another.
    Number(u32, i64),
}

impl Mutation {
    /// Any damage; most of it near the beginning, where headers are.
    pub fn any() -> impl Strategy<Value = Mutation> {
        let place =
            || prop_oneof![any::<u32>(), any::<u32>().prop_map(|p| p / 64), any::<u32>().prop_map(|p| p / 1024)];
        let number = prop_oneof![Just(-1), Just(0), Just(i64::MAX), Just(1 << 40), 0..100_000_i64];
        prop_oneof![
            place().prop_map(Mutation::Truncate),
            (place(), 0..8_u8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
            (place(), prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Mutation::Overwrite(at, bytes)),
            (place(), place(), 1..64_u8).prop_map(|(a, b, n)| Mutation::Swap(a, b, n)),
            (place(), 1..64_u8).prop_map(|(at, n)| Mutation::Repeat(at, n)),
            (place(), number).prop_map(|(at, n)| Mutation::Number(at, n)),
        ]
    }

    /// The damaged file.
    pub fn apply(&self, file: &[u8]) -> Vec<u8> {
        let mut out = file.to_vec();
        let place = |fraction: u32| (fraction as usize * file.len()) >> 32;
        match *self {
            Mutation::Truncate(at) => out.truncate(place(at)),
            Mutation::Flip(at, bit) => out.iter_mut().skip(place(at)).take(1).for_each(|b| *b ^= 1 << bit),
            Mutation::Overwrite(at, ref bytes) => {
                out.iter_mut().skip(place(at)).zip(bytes).for_each(|(old, &new)| *old = new);
            }
            Mutation::Swap(a, b, n) => {
                let (a, b) = (place(a), place(b));
                (0..usize::from(n)).filter(|i| a.max(b) + i < file.len()).for_each(|i| out.swap(a + i, b + i));
            }
            Mutation::Repeat(at, n) => {
                let run = place(at)..(place(at) + usize::from(n)).min(file.len());
                let copy = file[run.clone()].to_vec();
                out.splice(run.start..run.start, copy);
            }
            Mutation::Number(at, n) => {
                let is_digit = |i: &usize| file[*i].is_ascii_digit();
                if let Some(start) = (place(at)..file.len()).find(is_digit) {
                    let end = (start..file.len()).find(|i| !is_digit(i)).unwrap_or(file.len());
                    out.splice(start..end, n.to_string().into_bytes());
                }
            }
        }
        out
    }
}
