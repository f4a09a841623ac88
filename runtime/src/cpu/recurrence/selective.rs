//! Selective scan: `h ← e^(δ·A)·h + δ·u·B`, `y = C·h`, four channels at a time.
//!
//! A vector holds neighbouring numbers of a channel's state. Time goes in blocks, so that what sixteen
//! neighbouring channels read and write is in the first cache while all of them are walked.

use crate::cpu::isa::Isa;
use crate::cpu::pool::{Worker, share};
use crate::cpu::scratch::Scratch;
use crate::cpu::simd::{Kernel, MOST_LANES, Simd, exp};
use crate::cpu::strided::Strided;

/// Channels that one thread takes together: a cache line of each token.
const CHANNELS: usize = 16;
/// Channels whose sums are completed together.
const GROUP: usize = 4;
/// Tokens of a block.
const TOKENS: usize = 64;

/// The fused op [`castiron_ir::op::SelectiveScan`] on numbers in memory. Vectors have neighbouring elements.
#[derive(Clone, Copy, Debug)]
pub struct SelectiveScan {
    /// Instruction set.
    pub isa: Isa,
    /// `[b, s, d, n]`
    pub extents: [usize; 4],
    /// Over `[b, d, n]`; holds the first state, then the last.
    pub state: Strided<*mut f32, 3>,
    /// Over `[b, s, d]`.
    pub u: Strided<*const f32, 3>,
    /// Over `[b, s, d]`.
    pub delta: Strided<*const f32, 3>,
    /// Over `[b, s, n]`.
    pub b: Strided<*const f32, 3>,
    /// Over `[b, s, n]`.
    pub c: Strided<*const f32, 3>,
    /// Over `[d, n]`.
    pub a: Strided<*const f32, 2>,
    /// Over `[b, s, d]`.
    pub out: Strided<*mut f32, 3>,
}

impl SelectiveScan {
    /// Bytes of scratch memory of a thread.
    pub fn scratch_bytes(numbers: usize) -> usize {
        2 * Scratch::bytes_of::<f32>(CHANNELS * numbers.next_multiple_of(MOST_LANES))
    }

    /// Does a worker's share.
    ///
    /// # Safety
    /// Operands can be read, and state and result written, over the extents by all workers together, which
    /// call this with the same arguments; elements of state and result are apart.
    pub unsafe fn run(&self, worker: Worker<'_>, scratch: &mut Scratch) {
        let [rows, steps, d, n] = self.extents;
        let pitch = n.next_multiple_of(self.isa.tiles().lanes);
        let mut carver = scratch.carve();
        let [state, a] = [carver.take::<f32>(CHANNELS * pitch), carver.take::<f32>(CHANNELS * pitch)];
        let blocks = d.div_ceil(CHANNELS);
        for unit in share(rows * blocks, 1, worker.index, worker.count) {
            let (row, first) = (unit / blocks, unit % blocks * CHANNELS);
            let count = CHANNELS.min(d - first);
            state.fill(0.0);
            a.fill(0.0);
            // SAFETY: the caller's contract; channels belong to one worker.
            unsafe {
                for channel in 0..count {
                    for i in 0..n {
                        state[channel * pitch + i] = *self.state.element([row, first + channel, i]);
                        a[channel * pitch + i] = *self.a.element([first + channel, i]);
                    }
                }
                for start in (0..steps).step_by(TOKENS) {
                    let tokens = (start, TOKENS.min(steps - start));
                    for group in (0..count).step_by(GROUP) {
                        let channels = (first + group, GROUP.min(count - group));
                        let own = [state.as_mut_ptr().add(group * pitch), a.as_mut_ptr().add(group * pitch)];
                        self.isa.run(Group { scan: self, row, tokens, channels, state: own[0], a: own[1], pitch });
                    }
                }
                for channel in 0..count {
                    for i in 0..n {
                        *self.state.element([row, first + channel, i]) = state[channel * pitch + i];
                    }
                }
            }
        }
    }
}

/// Some channels through some tokens.
struct Group<'a> {
    scan: &'a SelectiveScan,
    row: usize,
    /// The first one, and how many.
    tokens: (usize, usize),
    /// The first one, and how many, at most [`GROUP`].
    channels: (usize, usize),
    /// Of [`GROUP`] channels, a vector's multiple apart and zero beyond `n`.
    state: *mut f32,
    /// As the state.
    a: *const f32,
    /// Elements from channel to channel.
    pitch: usize,
}

impl Kernel for Group<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        // SAFETY: whoever makes a group has checked its operands.
        unsafe {
            match self.pitch / S::LANES {
                1 => self.walk::<S, 1>(s),
                2 => self.walk::<S, 2>(s),
                _ => self.walk_any(s),
            }
        }
    }
}

impl Group<'_> {
    /// A state of `V` vectors, which stays in registers.
    #[inline(always)]
    unsafe fn walk<S: Simd, const V: usize>(&self, s: S) {
        // SAFETY: the caller's contract.
        unsafe {
            let mut state = [[s.splat(0.0); V]; GROUP];
            let mut a = state;
            for i in 0..GROUP {
                for v in 0..V {
                    state[i][v] = s.load(self.state.add(i * self.pitch + v * S::LANES));
                    a[i][v] = s.load(self.a.add(i * self.pitch + v * S::LANES));
                }
            }
            for t in self.tokens.0..self.tokens.0 + self.tokens.1 {
                let token = self.token(t);
                let mut sums = [s.splat(0.0); GROUP];
                for v in 0..V {
                    let [b, c] = [self.part(s, token.b, v), self.part(s, token.c, v)];
                    for i in 0..GROUP {
                        let decay = decay(s, token.delta[i], a[i][v]);
                        let added = s.mul(s.splat(token.delta[i] * token.u[i]), b);
                        state[i][v] = s.mul_add(decay, state[i][v], added);
                        sums[i] = s.mul_add(state[i][v], c, sums[i]);
                    }
                }
                self.write(s, t, sums);
            }
            for i in 0..GROUP {
                for v in 0..V {
                    s.store(self.state.add(i * self.pitch + v * S::LANES), state[i][v]);
                }
            }
        }
    }

    /// A state of any size.
    #[inline(always)]
    unsafe fn walk_any<S: Simd>(&self, s: S) {
        // SAFETY: the caller's contract.
        unsafe {
            for t in self.tokens.0..self.tokens.0 + self.tokens.1 {
                let token = self.token(t);
                let mut sums = [s.splat(0.0); GROUP];
                for v in 0..self.pitch / S::LANES {
                    let [b, c] = [self.part(s, token.b, v), self.part(s, token.c, v)];
                    for i in 0..GROUP {
                        let at = i * self.pitch + v * S::LANES;
                        let decay = decay(s, token.delta[i], s.load(self.a.add(at)));
                        let added = s.mul(s.splat(token.delta[i] * token.u[i]), b);
                        let state = s.mul_add(decay, s.load(self.state.add(at)), added);
                        s.store(self.state.add(at), state);
                        sums[i] = s.mul_add(state, c, sums[i]);
                    }
                }
                self.write(s, t, sums);
            }
        }
    }

    /// What a token brings; channels that are not there bring nothing.
    #[inline(always)]
    unsafe fn token(&self, t: usize) -> Token {
        let (scan, row) = (self.scan, self.row);
        let [u, delta] = [&scan.u, &scan.delta].map(|x| x.element([row, t, self.channels.0]));
        let [b, c] = [&scan.b, &scan.c].map(|x| x.element([row, t, 0]));
        let mut token = Token { u: [0.0; GROUP], delta: [0.0; GROUP], b, c };
        for i in 0..self.channels.1 {
            // SAFETY: these channels are there.
            unsafe { (token.u[i], token.delta[i]) = (*u.add(i), *delta.add(i)) };
        }
        token
    }

    /// Vector `v` of `B` or `C`, zeros beyond `n`.
    #[inline(always)]
    unsafe fn part<S: Simd>(&self, s: S, at: *const f32, v: usize) -> S::Floats {
        let left = self.scan.extents[3] - v * S::LANES;
        // SAFETY: so many numbers are there.
        unsafe {
            if left >= S::LANES { s.load(at.add(v * S::LANES)) } else { s.load_first(at.add(v * S::LANES), left) }
        }
    }

    #[inline(always)]
    unsafe fn write<S: Simd>(&self, s: S, t: usize, sums: [S::Floats; GROUP]) {
        let y = s.sum4(sums);
        let at = self.scan.out.element([self.row, t, self.channels.0]);
        for (i, &y) in y.iter().take(self.channels.1).enumerate() {
            // SAFETY: these channels are there.
            unsafe { *at.add(i) = y };
        }
    }
}

/// What a token brings to some channels.
struct Token {
    u: [f32; GROUP],
    delta: [f32; GROUP],
    b: *const f32,
    c: *const f32,
}

/// `e^(δ·A)`; states that grow do so by `e⁸⁸` at most.
#[inline(always)]
fn decay<S: Simd>(s: S, delta: f32, a: S::Floats) -> S::Floats {
    exp(s, s.min(s.mul(s.splat(delta), a), s.splat(88.0)))
}
