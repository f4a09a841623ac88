//! Attention against sums in f64, over sizes, layouts, options, instruction sets and threads.
//!
//! Keys and values that no query sees are NaN, or have scales that are, and so are the gaps between rows.

use super::*;
use crate::cpu::pool::Pool;

/// A case; the layouts follow from `layout`.
#[derive(Clone, Debug)]
struct Case {
    /// b, g, r, s, t, d, e
    extents: [usize; 7],
    layout: Layout,
    /// Of keys, and of values.
    stored: [Stored; 2],
    /// Whether keys and values have scales.
    scales: bool,
    past: Option<Vec<i32>>,
    mask: bool,
    bias: Bias,
    sinks: bool,
    soft_cap: Option<f32>,
    causal: bool,
    window: Option<usize>,
}

/// How operands lie in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    /// In the order of the axes.
    Plain,
    /// Queries and result `[b, s, g, r, d]`, keys and values `[b, t, g, d]`.
    Tokens,
    /// Rows of a cache with room for more keys than there are.
    Cache,
    /// The last axis is not adjacent: keys `[b, g, d, t]`, the others two elements apart.
    Apart,
}

/// Elements of keys or values.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stored {
    F32,
    F16,
    I8,
}

impl Stored {
    /// What becomes of a number within ±2.
    fn of(self, x: f32) -> f32 {
        match self {
            Stored::F32 => x,
            Stored::F16 => f16::from_f32(x).to_f32(),
            Stored::I8 => (x * 63.5).round(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bias {
    None,
    /// All axes.
    Full,
    /// `[g, r, s, t]`, the same for each batch entry.
    Shared,
    /// `[t]`, with -∞ for every third key.
    Keys,
}

impl Case {
    fn new(extents: [usize; 7]) -> Case {
        Case {
            extents,
            layout: Layout::Plain,
            stored: [Stored::F32; 2],
            scales: false,
            past: None,
            mask: false,
            bias: Bias::None,
            sinks: false,
            soft_cap: None,
            causal: false,
            window: None,
        }
    }

    fn causal(extents: [usize; 7], past: &[i32]) -> Case {
        Case { causal: true, past: Some(past.to_vec()), ..Case::new(extents) }
    }

    fn is_visible(&self, batch: usize, query: usize, key: usize) -> bool {
        let past = self.past.as_ref().map_or(0, |past| past[batch]);
        let (at, key) = (i128::from(past) + query as i128, key as i128);
        let window = self.window.map_or(i128::MAX / 2, |window| window as i128);
        key > at - window && if self.causal { key <= at } else { key < at + window }
    }

    fn is_unmasked(&self, batch: usize, key: usize) -> bool {
        // Batch entry 1 is hidden altogether.
        !self.mask || batch != 1 && !(key * 7 + batch).is_multiple_of(5)
    }

    /// What a key (0) or a value (1) is multiplied with.
    fn scale(&self, of: usize, [b, g, t]: [usize; 3]) -> f32 {
        let scale = 1.2 + noise(7 + of, (b * 101 + g) * 1009 + t);
        let size = if self.stored[of] == Stored::I8 { 1.0 / 63.5 } else { 1.0 };
        if self.scales { scale * size } else { 1.0 }
    }

    fn bias(&self, index: [usize; 5]) -> f32 {
        let [_, g, r, s, t] = index;
        let key = |seed, place: &[usize]| 3.0 * noise(seed, place.iter().fold(0, |n, i| n * 101 + i));
        match self.bias {
            Bias::None => 0.0,
            Bias::Full => key(4, &index),
            Bias::Shared => key(5, &[g, r, s, t]),
            Bias::Keys if t % 3 == 1 => f32::NEG_INFINITY,
            Bias::Keys => key(6, &[t]),
        }
    }
}

/// Numbers in -1 ..= 1 that follow from a seed and an index.
fn noise(seed: usize, i: usize) -> f32 {
    let hash = (i as u64 ^ (seed as u64) << 32).wrapping_add(0x9e37_79b9).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (((hash ^ hash >> 29).wrapping_mul(0x94d0_49bb_1331_11eb) >> 40) as f32 / (1 << 23) as f32) - 1.0
}

/// A tensor with strides.
struct Tensor<const N: usize> {
    data: Vec<f32>,
    strides: [usize; N],
}

impl<const N: usize> Tensor<N> {
    /// Extents in axis order, the order of the axes in memory, and the factor by which axes are padded.
    fn new(extents: [usize; N], order: [usize; N], padding: [usize; N]) -> Tensor<N> {
        let (mut strides, mut size) = ([0; N], 1);
        for axis in order.into_iter().rev() {
            strides[axis] = size * padding[axis];
            size = strides[axis] * extents[axis];
        }
        Tensor { data: vec![f32::NAN; size.max(1)], strides }
    }

    fn place(&self, index: [usize; N]) -> usize {
        self.strides.iter().zip(index).map(|(stride, i)| stride * i).sum()
    }

    fn get(&self, index: [usize; N]) -> f32 {
        self.data[self.place(index)]
    }

    fn fill(&mut self, extents: [usize; N], value: impl Fn(usize, [usize; N]) -> f32) {
        let mut indices = vec![[0; N]];
        for axis in 0..N {
            indices = indices.iter().flat_map(|index| (0..extents[axis]).map(move |i| with(*index, axis, i))).collect();
        }
        for (i, index) in indices.into_iter().enumerate() {
            let place = self.place(index);
            self.data[place] = value(i, index);
        }
    }
}

fn with<const N: usize>(mut index: [usize; N], axis: usize, i: usize) -> [usize; N] {
    index[axis] = i;
    index
}

struct Operands {
    q: Tensor<5>,
    k: Tensor<4>,
    v: Tensor<4>,
    scales: [Tensor<3>; 2],
    bias: Tensor<5>,
    mask: Vec<i32>,
    out: Tensor<5>,
}

fn operands(case: &Case) -> Operands {
    let [b, g, r, s, t, d, e] = case.extents;
    let (order5, order4, pad5, mut pad4) = match case.layout {
        Layout::Plain | Layout::Cache => ([0, 1, 2, 3, 4], [0, 1, 2, 3], [1; 5], [1; 4]),
        Layout::Tokens => ([0, 3, 1, 2, 4], [0, 2, 1, 3], [1; 5], [1; 4]),
        Layout::Apart => ([0, 1, 2, 3, 4], [0, 1, 3, 2], [1, 1, 1, 1, 2], [1; 4]),
    };
    let order_v = if case.layout == Layout::Apart { [0, 1, 2, 3] } else { order4 };
    if case.layout == Layout::Cache {
        pad4[1] = 2;
    }
    let seen = |batch: usize, key: usize| (0..s).any(|query| case.is_visible(batch, query, key));
    let mut q = Tensor::new([b, g, r, s, d], order5, pad5);
    q.fill([b, g, r, s, d], |i, _| 2.0 * noise(1, i));
    let mut k = Tensor::new([b, g, t, d], order4, pad4);
    let [stored_k, stored_v] = case.stored;
    k.fill([b, g, t, d], |i, [n, _, key, _]| if seen(n, key) { stored_k.of(2.0 * noise(2, i)) } else { f32::NAN });
    let pad_v = if case.layout == Layout::Apart { [1, 1, 1, 2] } else { pad4 };
    let mut v = Tensor::new([b, g, t, e], order_v, pad_v);
    v.fill([b, g, t, e], |i, [n, _, key, _]| if seen(n, key) { stored_v.of(noise(3, i)) } else { f32::NAN });
    let scales = [0, 1].map(|of| {
        let mut scales = Tensor::new([b, g, t], if of == 0 { [0, 1, 2] } else { [0, 2, 1] }, [1, 1, 1 + of]);
        scales.fill([b, g, t], |_, [n, g, key]| if seen(n, key) { case.scale(of, [n, g, key]) } else { f32::NAN });
        scales
    });
    let extents = match case.bias {
        Bias::None => [0; 5],
        Bias::Full => [b, g, r, s, t],
        Bias::Shared => [1, g, r, s, t],
        Bias::Keys => [1, 1, 1, 1, t],
    };
    let mut bias = Tensor::new(extents, [0, 1, 2, 3, 4], [1; 5]);
    bias.fill(extents, |_, index| case.bias(index));
    for axis in 0..5 {
        if extents[axis] == 1 {
            bias.strides[axis] = 0;
        }
    }
    let mask = (0..b).flat_map(|n| (0..t).map(move |key| (n, key)));
    let mask = mask.map(|(n, key)| i32::from(case.is_unmasked(n, key))).collect();
    let out = Tensor::new([b, g, r, s, e], order5, pad5);
    Operands { q, k, v, scales, bias, mask, out }
}

const SCALE: f32 = 0.37;

/// The result of one query, in f64.
fn exact(case: &Case, x: &Operands, [b, g, r, s]: [usize; 4]) -> Vec<f64> {
    let [.., t, d, e] = case.extents;
    let sees = |key: &usize| case.is_visible(b, s, *key) && case.is_unmasked(b, *key);
    let keys: Vec<usize> = (0..t).filter(sees).collect();
    let score = |&key: &usize| {
        let dot: f64 = (0..d).map(|i| f64::from(x.q.get([b, g, r, s, i])) * f64::from(x.k.get([b, g, key, i]))).sum();
        let score = dot * f64::from(SCALE) * f64::from(case.scale(0, [b, g, key]));
        let score = case.soft_cap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh());
        score + f64::from(case.bias([b, g, r, s, key]))
    };
    let scores: Vec<f64> = keys.iter().map(score).collect();
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
    let sink = if case.sinks { (f64::from(sink(g, r)) - largest).exp() } else { 0.0 };
    let total: f64 = weights.iter().sum::<f64>() + sink;
    let value = |key: usize, i: usize| f64::from(x.v.get([b, g, key, i])) * f64::from(case.scale(1, [b, g, key]));
    let mix = |i: usize| keys.iter().zip(&weights).map(|(&key, w)| w * value(key, i)).sum::<f64>();
    (0..e).map(|i| if largest == f64::NEG_INFINITY { 0.0 } else { mix(i) / total }).collect()
}

/// The sink of a head: below its scores, among them, or far above.
fn sink(g: usize, r: usize) -> f32 {
    [0.7, -9.0, 3.0, 200.0, -1.3][(3 * g + r) % 5]
}

/// Runs a case on a pool.
fn run(case: &Case, x: &mut Operands, pool: &mut Pool, isa: Isa) {
    let [q, k, v, bias] = [&x.q.data, &x.k.data, &x.v.data, &x.bias.data].map(|data| data.as_ptr() as usize);
    let halves = [&x.k.data, &x.v.data].map(|data| data.iter().map(|&x| f16::from_f32(x)).collect::<Vec<f16>>());
    let bytes = [&x.k.data, &x.v.data].map(|data| data.iter().map(|&x| x as i8).collect::<Vec<i8>>());
    let [half_k, half_v] = halves.each_ref().map(|half| half.as_ptr() as usize);
    let [bytes_k, bytes_v] = bytes.each_ref().map(|bytes| bytes.as_ptr() as usize);
    let rows = |stored: Stored, bytes: usize, half: usize, at: usize| match stored {
        Stored::F32 => Elements::F32(at as *const f32),
        Stored::F16 => Elements::F16(half as *const f16),
        Stored::I8 => Elements::I8(bytes as *const i8),
    };
    let scales_at = x.scales.each_ref().map(|scales| scales.data.as_ptr() as usize);
    let [_, g, r, ..] = case.extents;
    let sinks: Vec<f32> = (0..g * r).map(|i| sink(i / r, i % r)).collect();
    let sinks_at = sinks.as_ptr() as usize;
    let (out, mask) = (x.out.data.as_mut_ptr() as usize, x.mask.as_ptr() as usize);
    let mut shared = vec![f32::NAN; Attention::shared_floats(&case.extents, pool.threads())];
    let (shared_at, shared_len) = (shared.as_mut_ptr() as usize, shared.len());
    pool.run(&|worker| {
        let attention = Attention {
            isa,
            extents: case.extents,
            q: Strided { at: q as *const f32, strides: x.q.strides },
            k: Strided { at: rows(case.stored[0], bytes_k, half_k, k), strides: x.k.strides },
            v: Strided { at: rows(case.stored[1], bytes_v, half_v, v), strides: x.v.strides },
            scales: case
                .scales
                .then(|| [0, 1].map(|i| Strided { at: scales_at[i] as *const f32, strides: x.scales[i].strides })),
            out: Strided { at: out as *mut f32, strides: x.out.strides },
            past: case.past.as_ref().map(|past| Strided { at: past.as_ptr(), strides: [1] }),
            mask: case.mask.then_some(Strided { at: mask as *const i32, strides: [case.extents[4], 1] }),
            bias: (case.bias != Bias::None).then_some(Strided { at: bias as *const f32, strides: x.bias.strides }),
            sinks: case.sinks.then_some(Strided { at: sinks_at as *const f32, strides: [0, r, 1, 0] }),
            scale: SCALE,
            soft_cap: case.soft_cap,
            causal: case.causal,
            window: case.window,
            live: None,
        };
        let mut scratch = Scratch::default();
        scratch.reserve(Attention::scratch_bytes(&case.extents));
        let bytes = Attention::scratch_bytes(&case.extents);
        scratch.carve().take::<f32>(bytes / size_of::<f32>()).fill(f32::NAN);
        let shared = std::ptr::slice_from_raw_parts_mut(shared_at as *mut f32, shared_len);
        // SAFETY: the operands hold every element that the strides reach.
        unsafe { attention.run(worker, &mut scratch, shared) };
    });
}

fn check(case: &Case) {
    let [b, g, r, s, ..] = case.extents;
    let mut x = operands(case);
    let indices: Vec<[usize; 4]> =
        (0..b * g * r * s).map(|i| [i / s / r / g, i / s / r % g, i / s % r, i % s]).collect();
    let expected: Vec<Vec<f64>> = indices.iter().map(|&index| exact(case, &x, index)).collect();
    for threads in 1..=3 {
        let mut pool = Pool::new(threads).unwrap();
        for isa in Isa::available() {
            x.out.data.fill(f32::NAN);
            run(case, &mut x, &mut pool, isa);
            for (&[b, g, r, s], expected) in indices.iter().zip(&expected) {
                for (i, &y) in expected.iter().enumerate() {
                    let found = f64::from(x.out.get([b, g, r, s, i]));
                    let close = (found - y).abs() < 3e-6;
                    assert!(close, "{isa:?}, {threads} threads, [{b},{g},{r},{s},{i}] is {found}, not {y}: {case:?}");
                }
            }
        }
    }
}

/// Sizes for tiles of few and of many queries, whole and ragged.
const SIZES: [[usize; 7]; 10] = [
    [1, 1, 1, 1, 1, 1, 1],
    [2, 3, 1, 1, 37, 16, 16],
    [2, 1, 3, 1, 300, 64, 64],
    [1, 3, 3, 1, 200, 64, 64],
    [1, 1, 5, 1, 65, 9, 23],
    [3, 2, 2, 4, 70, 40, 24],
    [1, 1, 12, 1, 150, 32, 32],
    [2, 2, 4, 19, 83, 17, 33],
    [2, 1, 1, 130, 131, 8, 16],
    [1, 2, 5, 7, 1, 12, 80],
];

#[test]
fn every_size_and_layout() {
    for extents in SIZES {
        for layout in [Layout::Plain, Layout::Tokens, Layout::Cache, Layout::Apart] {
            check(&Case { layout, ..Case::new(extents) });
            check(&Case { layout, causal: true, ..Case::new(extents) });
        }
    }
}

#[test]
fn every_option_alone_and_together() {
    for extents in SIZES {
        let [b, _, _, s, t, ..] = extents;
        let past: Vec<i32> = (0..b).map(|n| (t.saturating_sub(s + 5 * n)) as i32).collect();
        let causal = Case::causal(extents, &past);
        check(&causal);
        check(&Case { mask: true, ..Case::new(extents) });
        check(&Case { window: Some(9), ..causal.clone() });
        check(&Case { window: Some(3), ..Case::new(extents) });
        check(&Case { window: Some(70), mask: true, ..Case::new(extents) });
        check(&Case { window: Some(40), past: causal.past.clone(), ..Case::new(extents) });
        check(&Case { soft_cap: Some(1.5), ..causal.clone() });
        check(&Case { sinks: true, ..Case::new(extents) });
        check(&Case { sinks: true, mask: true, soft_cap: Some(2.5), window: Some(9), ..causal.clone() });
        for bias in [Bias::Full, Bias::Shared, Bias::Keys] {
            check(&Case { bias, ..Case::new(extents) });
            check(&Case {
                bias,
                soft_cap: Some(2.0),
                mask: true,
                window: Some(20),
                layout: Layout::Cache,
                ..causal.clone()
            });
        }
    }
}

#[test]
fn keys_and_values_of_other_types() {
    use Stored::{F16, F32, I8};
    for extents in SIZES {
        let [b, _, _, s, t, ..] = extents;
        let past: Vec<i32> = (0..b).map(|n| (t.saturating_sub(s + 5 * n)) as i32).collect();
        for layout in [Layout::Plain, Layout::Tokens, Layout::Cache, Layout::Apart] {
            for stored in [[F16, F16], [F16, F32], [F32, F16], [I8, I8], [I8, F16], [F32, F32]] {
                let case =
                    Case { layout, stored, scales: stored.contains(&I8) || stored == [F32; 2], ..Case::new(extents) };
                check(&case);
                let causal = Case::causal(extents, &past);
                check(&Case { layout, stored, scales: stored.contains(&I8), window: Some(70), ..causal });
            }
        }
    }
}

#[test]
fn scales_with_everything_else() {
    for extents in SIZES {
        let [b, _, _, s, t, ..] = extents;
        let past: Vec<i32> = (0..b).map(|n| (t.saturating_sub(s + 5 * n)) as i32).collect();
        let bytes = Case { stored: [Stored::I8; 2], scales: true, ..Case::causal(extents, &past) };
        check(&Case { soft_cap: Some(1.5), sinks: true, ..bytes.clone() });
        check(&Case { mask: true, bias: Bias::Full, layout: Layout::Cache, window: Some(20), ..bytes.clone() });
    }
}

#[test]
fn positions_beyond_the_keys_or_before_them() {
    // More queries than keys, rows of different lengths, a row that sees no key, one before it all.
    check(&Case::causal([4, 2, 3, 9, 5, 8, 8], &[0, 4, 100, -3]));
    check(&Case::causal([3, 1, 3, 1, 400, 64, 64], &[0, 399, -1]));
    check(&Case::causal([3, 1, 2, 2, 400, 16, 16], &[17, 300, 129]));
    check(&Case { window: Some(0), ..Case::causal([2, 1, 2, 20, 40, 8, 8], &[0, 5]) });
    check(&Case { window: Some(0), ..Case::new([2, 1, 2, 20, 40, 8, 8]) });
    check(&Case { window: Some(usize::MAX), ..Case::new([2, 1, 2, 20, 40, 8, 8]) });
    check(&Case { window: Some(4), ..Case::causal([2, 1, 2, 20, 40, 8, 8], &[50, 30]) });
    check(&Case { window: Some(usize::MAX), ..Case::causal([2, 1, 2, 20, 40, 8, 8], &[0, 5]) });
}

#[test]
fn empty_extents_give_zeros_or_nothing() {
    for axis in 0..7 {
        check(&Case::new(with([2, 2, 3, 4, 5, 6, 7], axis, 0)));
    }
}

#[test]
fn the_lowest_bias_for_all_keys_is_a_bias() {
    let extents = [1, 1, 1, 1, 3, 1, 1];
    let (x, v, bias) = ([1.0_f32; 3], [1.0_f32, 2.0, 6.0], [f32::MIN; 3]);
    for isa in Isa::available() {
        let mut y = f32::NAN;
        let attention = Attention {
            isa,
            extents,
            q: Strided { at: x.as_ptr(), strides: [0; 5] },
            k: Strided { at: Elements::F32(x.as_ptr()), strides: [0, 0, 1, 1] },
            v: Strided { at: Elements::F32(v.as_ptr()), strides: [0, 0, 1, 1] },
            scales: None,
            out: Strided { at: &mut y, strides: [0; 5] },
            past: None,
            mask: None,
            bias: Some(Strided { at: bias.as_ptr(), strides: [0, 0, 0, 0, 1] }),
            sinks: None,
            scale: 1.0,
            soft_cap: None,
            causal: false,
            window: None,
            live: None,
        };
        let mut scratch = Scratch::default();
        scratch.reserve(Attention::scratch_bytes(&extents));
        // SAFETY: the operands hold every element that the strides reach.
        unsafe { attention.run(Worker::ALONE, &mut scratch, &mut []) };
        assert!((y - 3.0).abs() < 1e-6, "{isa:?}: {y}");
    }
}

#[test]
fn jobs_are_done_once_and_parts_cover_the_keys() {
    for workers in 1..=8 {
        for extents in SIZES {
            let plan = Plan::of_queries(&extents, workers);
            let mut done = vec![0; plan.jobs];
            (0..workers).flat_map(|index| plan.jobs([index, workers])).for_each(|job| done[job] += 1);
            assert!(done.iter().all(|&times| times == 1));
            let parts = (0..plan.parts).flat_map(|part| plan.part(5..200, part));
            assert_eq!(parts.collect::<Vec<_>>(), (5..200).collect::<Vec<_>>());
        }
    }
}
