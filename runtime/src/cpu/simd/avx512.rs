//! AVX-512 with VNNI: 32 registers of sixteen f32.

use core::arch::x86_64::*;

use super::intrinsics::{arithmetic, memory};
use super::{Isa, Kernel, Simd};

/// Proof that the processor has AVX-512 F, BW, DQ, VL and VNNI, AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512(());

impl Avx512 {
    /// The proof, where it can be had.
    pub fn detect() -> Option<Avx512> {
        Isa::Avx512.is_available().then_some(Avx512(()))
    }

    /// Executes a kernel compiled with these features.
    #[inline(always)]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
        fn with_features<K: Kernel>(s: Avx512, kernel: K) -> K::Output {
            kernel.call(s)
        }
        // SAFETY: `self` exists only where the processor has the features.
        unsafe { with_features(self, kernel) }
    }
}

impl Simd for Avx512 {
    const LANES: usize = 16;
    /// 12 × 32 sums take 24 of the 32 registers, a row of weights 2, a broadcast 1.
    const TILE_ROWS: usize = 12;
    const DOT_ROWS: usize = 8;
    const WIDE: bool = true;

    type Floats = __m512;
    type Ints = __m512i;
    type Bytes = __m512i;
    type Pairs = __m512i;

    arithmetic! {
        splat(x: f32) -> __m512 = _mm512_set1_ps(x);
        iota() -> __m512 = _mm512_setr_ps(
            0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0,
        );
        add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        div(a: __m512, b: __m512) -> __m512 = _mm512_div_ps(a, b);
        mul_add(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        max(a: __m512, b: __m512) -> __m512 = _mm512_max_ps(a, b);
        min(a: __m512, b: __m512) -> __m512 = _mm512_min_ps(a, b);
        abs(a: __m512) -> __m512 = _mm512_abs_ps(a);
        round(a: __m512) -> __m512 = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
        if_less(a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 =
            _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), y, x);
        power_of_two(n: __m512) -> __m512 = {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        };
        sum4(a: [__m512; 4]) -> [f32; 4] = {
            let [a, b, c, d] = a.map(
                #[inline(always)]
                |a| _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a)),
            );
            let quarters = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
            let sums = _mm_add_ps(_mm256_castps256_ps128(quarters), _mm256_extractf128_ps::<1>(quarters));
            core::mem::transmute::<__m128, [f32; 4]>(sums)
        };
        sum(a: __m512) -> f32 = _mm512_reduce_add_ps(a);
        largest(a: __m512) -> f32 = _mm512_reduce_max_ps(a);
        // Prefetch instructions never fault.
        prefetch(p: *const u8) -> () = _mm_prefetch::<_MM_HINT_T0>(p.cast());
        prefetch_later(p: *const u8) -> () = _mm_prefetch::<_MM_HINT_T1>(p.cast());
        int_splat(x: i32) -> __m512i = _mm512_set1_epi32(x);
        to_floats(a: __m512i) -> __m512 = _mm512_cvtepi32_ps(a);
        shift_bytes(a: __m512i, bits: i32, mask: u8) -> __m512i = {
            let count = _mm_cvtsi32_si128(bits.abs());
            let shifted = if bits > 0 { _mm512_srl_epi16(a, count) } else { _mm512_sll_epi16(a, count) };
            _mm512_and_si512(shifted, _mm512_set1_epi8(mask as i8))
        };
        or_bytes(a: __m512i, b: __m512i) -> __m512i = _mm512_or_si512(a, b);
        sub_bytes(a: __m512i, b: u8) -> __m512i = _mm512_sub_epi8(a, _mm512_set1_epi8(b as i8));
        pairs(x: i32) -> __m512i = _mm512_set1_epi32(x);
        add_pairs(total: __m512i, sum: __m512i, factor: Option<__m512i>) -> __m512i = match factor {
            Some(factor) => _mm512_add_epi32(total, _mm512_mullo_epi32(sum, factor)),
            None => _mm512_add_epi32(total, sum),
        };
    }

    memory! {
        load(p: *const f32) -> __m512 = _mm512_loadu_ps(p);
        load_first(p: *const f32, n: usize) -> __m512 = _mm512_maskz_loadu_ps((1 << n) - 1, p);
        load_f16(p: *const u16) -> __m512 = _mm512_cvtph_ps(_mm256_loadu_si256(p.cast()));
        load_bf16(p: *const u16) -> __m512 = {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        };
        store(p: *mut f32, a: __m512) = _mm512_storeu_ps(p, a);
        store_i8(p: *mut i8, a: __m512) =
            _mm_storeu_si128(p.cast(), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a)));
        load_bytes(p: *const u8) -> __m512i = _mm512_loadu_si512(p.cast());
        // |w| as unsigned times x with the sign of w.
        dot_signed(sum: __m512i, w: __m512i, x: *const i8) -> __m512i = {
            let x = _mm512_set1_epi32(x.cast::<i32>().read_unaligned());
            let signed = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(w), _mm512_setzero_si512(), x);
            _mm512_dpbusd_epi32(sum, _mm512_abs_epi8(w), signed)
        };
        dot_unsigned(sum: __m512i, w: __m512i, x: *const i8) -> __m512i =
            _mm512_dpbusd_epi32(sum, w, _mm512_set1_epi32(x.cast::<i32>().read_unaligned()));
        load_factors(p: *const i8) -> __m512i = _mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()));
        load_i8(p: *const i8) -> __m512 = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast())));
        load_u8(p: *const u8) -> __m512 = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast())));
    }
}
