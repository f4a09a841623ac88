//! Linear attention: `S ← diag(w)·S + b·(Sᵀa)ᵀ + k·vᵀ`, `o = Sᵀq`, a block of value columns at a time.
//!
//! A row of the block is a few vectors. For each row of keys these are loaded once for `T` tokens, decayed,
//! added to and multiplied with `T` queries, whose sums stay in registers. With the delta rule a token needs
//! what the whole state answers for it, so that tokens come one by one; the answer for the next token is summed
//! up while the present one is applied.

use std::ops::Range;

use crate::cpu::isa::Isa;
use crate::cpu::pool::{Worker, share};
use crate::cpu::scratch::Scratch;
use crate::cpu::simd::{Kernel, MOST_LANES, Simd};
use crate::cpu::strided::Strided;

/// Most vectors of a block.
const MOST_VECTORS: usize = 4;
/// A decay that leaves everything.
static ONE: f32 = 1.0;

/// The fused op [`castiron_ir::op::LinearAttention`] on numbers in memory. Vectors of keys and of values have
/// neighbouring elements, but decays may be one number for each head.
#[derive(Clone, Copy, Debug)]
pub struct LinearAttention {
    /// Instruction set.
    pub isa: Isa,
    /// `[b, s, g, r, k, e]`
    pub extents: [usize; 6],
    /// Over `[b, g, r, k, e]`; holds the first state, then the last.
    pub state: Strided<*mut f32, 5>,
    /// Over `[b, s, g, r, k]`.
    pub query: Strided<*const f32, 5>,
    /// Over `[b, s, g, r, k]`.
    pub key: Strided<*const f32, 5>,
    /// Over `[b, s, g, r, e]`.
    pub value: Strided<*const f32, 5>,
    /// Over `[b, s, g, r, k]`.
    pub decay: Option<Strided<*const f32, 5>>,
    /// `a` and `b`, over `[b, s, g, r, k]`.
    pub delta: Option<[Strided<*const f32, 5>; 2]>,
    /// Whether queries read the state as it was before their own token.
    pub before: bool,
    /// Over `[b, s, g, r, e]`.
    pub out: Strided<*mut f32, 5>,
}

impl LinearAttention {
    /// Columns of a block: two vectors for tiles of time, four for the delta rule where registers are many.
    fn columns(&self) -> usize {
        let lanes = self.isa.tiles().lanes;
        let vectors = if self.delta.is_some() && lanes == 16 { 4 } else { 2 };
        vectors * lanes
    }

    /// Bytes of scratch memory of a thread.
    pub fn scratch_bytes(keys: usize) -> usize {
        Scratch::bytes_of::<f32>(keys * MOST_VECTORS * MOST_LANES)
    }

    /// Does a worker's share.
    ///
    /// # Safety
    /// Operands can be read, and state and result written, over the extents by all workers together, which
    /// call this with the same arguments; elements of state and result are apart.
    pub unsafe fn run(&self, worker: Worker<'_>, scratch: &mut Scratch) {
        let [b, _, g, r, k, e] = self.extents;
        let width = self.columns();
        let blocks = e.div_ceil(width);
        let mut carver = scratch.carve();
        let tile = carver.take::<f32>(k * width);
        for unit in share(b * g * r * blocks, 1, worker.index, worker.count) {
            let (head, block) = (unit / blocks, unit % blocks);
            let (b, g, r) =
                (head / (self.extents[2] * self.extents[3]), head / self.extents[3] % g, head % self.extents[3]);
            let columns = block * width..e.min((block + 1) * width);
            // SAFETY: the caller's contract; blocks of columns belong to one worker.
            unsafe { self.head([b, g, r], columns, tile) };
        }
    }

    /// Some columns of one head, through all of time.
    unsafe fn head(&self, [b, g, r]: [usize; 3], columns: Range<usize>, tile: &mut [f32]) {
        let at = |operand: &Strided<*const f32, 5>| Sequence {
            at: operand.element([b, 0, g, r, 0]),
            time: operand.strides[1],
            step: operand.strides[4],
        };
        let ones = Sequence { at: &raw const ONE, time: 0, step: 0 };
        let mut value = at(&self.value);
        value.at = value.at.wrapping_add(columns.start);
        let delta = self.delta.as_ref().map(|delta| delta.each_ref().map(at));
        let state = self.state.element([b, g, r, 0, columns.start]);
        let out = self.out.element([b, 0, g, r, columns.start]);
        let block = Block {
            steps: self.extents[1],
            keys: self.extents[4],
            columns: columns.len(),
            state: (state, [self.state.strides[3], self.state.strides[4]]),
            query: at(&self.query),
            key: at(&self.key),
            value,
            decay: self.decay.as_ref().map_or(ones, at),
            delta,
            // A key that corrects as it adds is multiplied with the sum of both.
            is_joint: self.delta.is_some_and(|[_, b]| b.at == self.key.at && b.strides == self.key.strides),
            before: self.before,
            out: (out, self.out.strides[1]),
            tile: tile.as_mut_ptr(),
        };
        self.isa.run(block);
    }
}

/// Vectors along time.
#[derive(Clone, Copy)]
struct Sequence {
    at: *const f32,
    /// Elements from token to token.
    time: usize,
    /// Elements from one channel to the next.
    step: usize,
}

impl Sequence {
    fn token(&self, t: usize) -> *const f32 {
        self.at.wrapping_add(t * self.time)
    }
}

/// Some columns of a head.
struct Block {
    steps: usize,
    keys: usize,
    columns: usize,
    /// Its first element, and the elements from key to key and from column to column.
    state: (*mut f32, [usize; 2]),
    query: Sequence,
    key: Sequence,
    value: Sequence,
    decay: Sequence,
    delta: Option<[Sequence; 2]>,
    is_joint: bool,
    before: bool,
    /// Its first element, and the elements from token to token.
    out: (*mut f32, usize),
    /// The columns while they are worked on, row by row.
    tile: *mut f32,
}

impl Kernel for Block {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        // SAFETY: whoever makes a block has checked its operands; the tile has room for it.
        unsafe {
            match (S::LANES, self.delta.is_some()) {
                (16, false) => self.walk::<S, 4, 2>(s),
                (16, true) => self.correct::<S, 4>(s),
                (_, false) => self.walk::<S, 2, 2>(s),
                (_, true) => self.correct::<S, 2>(s),
            }
        }
    }
}

impl Block {
    /// Without the delta rule: `T` tokens at a time.
    #[inline(always)]
    unsafe fn walk<S: Simd, const T: usize, const V: usize>(&self, s: S) {
        // SAFETY: the caller's contract.
        unsafe {
            self.take(V * S::LANES);
            let mut t = 0;
            while t + T <= self.steps {
                if self.before {
                    self.tokens::<S, T, V, true>(s, t)
                } else {
                    self.tokens::<S, T, V, false>(s, t)
                }
                t += T;
            }
            while t < self.steps {
                if self.before {
                    self.tokens::<S, 1, V, true>(s, t)
                } else {
                    self.tokens::<S, 1, V, false>(s, t)
                }
                t += 1;
            }
            self.leave(V * S::LANES);
        }
    }

    /// Applies `T` tokens from `t` on.
    #[inline(always)]
    unsafe fn tokens<S: Simd, const T: usize, const V: usize, const BEFORE: bool>(&self, s: S, t: usize) {
        // SAFETY: the caller's contract.
        unsafe {
            let mut values = [[s.splat(0.0); V]; T];
            let mut sums = values;
            let (mut queries, mut keys, mut decays) = ([self.query.at; T], [self.query.at; T], [self.query.at; T]);
            for i in 0..T {
                values[i] = self.values(s, t + i);
                (queries[i], keys[i], decays[i]) =
                    (self.query.token(t + i), self.key.token(t + i), self.decay.token(t + i));
            }
            for channel in 0..self.keys {
                let row = self.tile.add(channel * V * S::LANES);
                let mut state = [s.splat(0.0); V];
                for v in 0..V {
                    state[v] = s.load(row.add(v * S::LANES));
                }
                for i in 0..T {
                    let query = s.splat(*queries[i].add(channel * self.query.step));
                    let key = s.splat(*keys[i].add(channel * self.key.step));
                    let decay = s.splat(*decays[i].add(channel * self.decay.step));
                    for v in 0..V {
                        if BEFORE {
                            sums[i][v] = s.mul_add(query, state[v], sums[i][v]);
                        }
                        state[v] = s.mul_add(decay, state[v], s.mul(key, values[i][v]));
                        if !BEFORE {
                            sums[i][v] = s.mul_add(query, state[v], sums[i][v]);
                        }
                    }
                }
                for v in 0..V {
                    s.store(row.add(v * S::LANES), state[v]);
                }
            }
            for i in 0..T {
                self.write(s, t + i, sums[i]);
            }
        }
    }

    /// With the delta rule: token by token.
    #[inline(always)]
    unsafe fn correct<S: Simd, const V: usize>(&self, s: S) {
        let Some(delta) = self.delta else { return };
        // SAFETY: the caller's contract.
        unsafe {
            self.take(V * S::LANES);
            let mut answer = self.answer::<S, V>(s, delta[0].token(0));
            for t in 0..self.steps {
                let next = delta[0].token((t + 1).min(self.steps - 1));
                let token = (t, next, delta[1]);
                answer = match (self.is_joint, self.before) {
                    (true, false) => self.token::<S, V, true, false>(s, token, delta[0].step, answer),
                    (true, true) => self.token::<S, V, true, true>(s, token, delta[0].step, answer),
                    (false, false) => self.token::<S, V, false, false>(s, token, delta[0].step, answer),
                    (false, true) => self.token::<S, V, false, true>(s, token, delta[0].step, answer),
                };
            }
            self.leave(V * S::LANES);
        }
    }

    /// What the state answers for a key.
    #[inline(always)]
    unsafe fn answer<S: Simd, const V: usize>(&self, s: S, key: *const f32) -> [S::Floats; V] {
        let step = self.delta.map_or(0, |delta| delta[0].step);
        let mut sums = [s.splat(0.0); V];
        // SAFETY: the caller's contract.
        unsafe {
            for channel in 0..self.keys {
                let (row, key) = (self.tile.add(channel * V * S::LANES), s.splat(*key.add(channel * step)));
                for v in 0..V {
                    sums[v] = s.mul_add(key, s.load(row.add(v * S::LANES)), sums[v]);
                }
            }
        }
        sums
    }

    /// Applies token `t`, for which the state has given an answer; gives that for the key `next`.
    #[inline(always)]
    unsafe fn token<S: Simd, const V: usize, const JOINT: bool, const BEFORE: bool>(
        &self,
        s: S,
        (t, next, correction): (usize, *const f32, Sequence),
        next_step: usize,
        answer: [S::Floats; V],
    ) -> [S::Floats; V] {
        // SAFETY: the caller's contract.
        unsafe {
            let mut values = self.values::<S, V>(s, t);
            if JOINT {
                for v in 0..V {
                    values[v] = s.add(values[v], answer[v]);
                }
            }
            let (mut sums, mut next_answer) = ([s.splat(0.0); V], [s.splat(0.0); V]);
            let [query, key, decay, b] = [self.query, self.key, self.decay, correction].map(|x| x.token(t));
            for channel in 0..self.keys {
                let row = self.tile.add(channel * V * S::LANES);
                let query = s.splat(*query.add(channel * self.query.step));
                let key = s.splat(*key.add(channel * self.key.step));
                let decay = s.splat(*decay.add(channel * self.decay.step));
                let b = s.splat(*b.add(channel * correction.step));
                let next = s.splat(*next.add(channel * next_step));
                for v in 0..V {
                    let old = s.load(row.add(v * S::LANES));
                    let mut added = s.mul(key, values[v]);
                    if !JOINT {
                        added = s.mul_add(b, answer[v], added);
                    }
                    let state = s.mul_add(decay, old, added);
                    sums[v] = s.mul_add(query, if BEFORE { old } else { state }, sums[v]);
                    next_answer[v] = s.mul_add(next, state, next_answer[v]);
                    s.store(row.add(v * S::LANES), state);
                }
            }
            self.write(s, t, sums);
            next_answer
        }
    }

    /// The values of a token, zeros beyond the columns.
    #[inline(always)]
    unsafe fn values<S: Simd, const V: usize>(&self, s: S, t: usize) -> [S::Floats; V] {
        let at = self.value.token(t);
        let mut values = [s.splat(0.0); V];
        for (v, value) in values.iter_mut().enumerate() {
            let left = self.columns.saturating_sub(v * S::LANES);
            // SAFETY: so many columns are there.
            *value = unsafe {
                match left {
                    0 => continue,
                    _ if left >= S::LANES => s.load(at.add(v * S::LANES)),
                    _ => s.load_first(at.add(v * S::LANES), left),
                }
            };
        }
        values
    }

    /// Writes what a token has read.
    #[inline(always)]
    unsafe fn write<S: Simd, const V: usize>(&self, s: S, t: usize, sums: [S::Floats; V]) {
        let at = self.out.0.wrapping_add(t * self.out.1);
        for (v, &sum) in sums.iter().enumerate() {
            let left = self.columns.saturating_sub(v * S::LANES);
            // SAFETY: so many columns are there.
            unsafe {
                if left >= S::LANES {
                    s.store(at.add(v * S::LANES), sum);
                } else if left > 0 {
                    let mut all = [0.0; MOST_LANES];
                    s.store(all.as_mut_ptr(), sum);
                    std::ptr::copy_nonoverlapping(all.as_ptr(), at.add(v * S::LANES), left);
                }
            }
        }
    }

    /// Takes the columns of the state, each row `width` long.
    #[inline(always)]
    unsafe fn take(&self, width: usize) {
        let (state, [key, column]) = self.state;
        for channel in 0..self.keys {
            for i in 0..width {
                // SAFETY: the state has these elements, the tile the whole width.
                unsafe {
                    let there = i < self.columns;
                    *self.tile.add(channel * width + i) =
                        if there { *state.add(channel * key + i * column) } else { 0.0 };
                }
            }
        }
    }

    /// Leaves the columns where they were taken.
    #[inline(always)]
    unsafe fn leave(&self, width: usize) {
        let (state, [key, column]) = self.state;
        for channel in 0..self.keys {
            for i in 0..self.columns {
                // SAFETY: as when they were taken.
                unsafe { *state.add(channel * key + i * column) = *self.tile.add(channel * width + i) };
            }
        }
    }
}
