//! AVX2, FMA and F16C: 16 registers of eight f32.

use core::arch::x86_64::*;

use super::intrinsics::{arithmetic, memory};
use super::{Isa, Kernel, Simd};

/// Proof that the processor has AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx2(());

impl Avx2 {
    /// The proof, where it can be had.
    pub fn detect() -> Option<Avx2> {
        Isa::Avx2.is_available().then_some(Avx2(()))
    }

    /// Executes a kernel compiled with these features.
    #[inline(always)]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn with_features<K: Kernel>(s: Avx2, kernel: K) -> K::Output {
            kernel.call(s)
        }
        // SAFETY: `self` exists only where the processor has the features.
        unsafe { with_features(self, kernel) }
    }
}

impl Simd for Avx2 {
    const LANES: usize = 8;
    /// 6 × 16 sums take 12 of the 16 registers, a row of weights 2, a broadcast 1.
    const TILE_ROWS: usize = 6;
    const DOT_ROWS: usize = 4;
    const WIDE: bool = false;

    type Floats = __m256;
    type Ints = __m256i;
    type Bytes = __m256i;
    type Pairs = __m256i;

    arithmetic! {
        splat(x: f32) -> __m256 = _mm256_set1_ps(x);
        iota() -> __m256 = _mm256_setr_ps(0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0);
        add(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
        sub(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
        mul(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
        div(a: __m256, b: __m256) -> __m256 = _mm256_div_ps(a, b);
        mul_add(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
        max(a: __m256, b: __m256) -> __m256 = _mm256_max_ps(a, b);
        min(a: __m256, b: __m256) -> __m256 = _mm256_min_ps(a, b);
        abs(a: __m256) -> __m256 = _mm256_andnot_ps(_mm256_set1_ps(-0.0), a);
        round(a: __m256) -> __m256 = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
        if_less(a: __m256, b: __m256, x: __m256, y: __m256) -> __m256 =
            _mm256_blendv_ps(y, x, _mm256_cmp_ps::<_CMP_LT_OQ>(a, b));
        power_of_two(n: __m256) -> __m256 = {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
        };
        sum4(a: [__m256; 4]) -> [f32; 4] = {
            let quarters = _mm256_hadd_ps(_mm256_hadd_ps(a[0], a[1]), _mm256_hadd_ps(a[2], a[3]));
            let sums = _mm_add_ps(_mm256_castps256_ps128(quarters), _mm256_extractf128_ps::<1>(quarters));
            core::mem::transmute::<__m128, [f32; 4]>(sums)
        };
        sum(a: __m256) -> f32 = {
            let half = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)))
        };
        largest(a: __m256) -> f32 = {
            let half = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let pair = _mm_max_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_max_ss(pair, _mm_movehdup_ps(pair)))
        };
        // Prefetch instructions never fault.
        prefetch(p: *const u8) -> () = _mm_prefetch::<_MM_HINT_T0>(p.cast());
        prefetch_later(p: *const u8) -> () = _mm_prefetch::<_MM_HINT_T1>(p.cast());
        int_splat(x: i32) -> __m256i = _mm256_set1_epi32(x);
        to_floats(a: __m256i) -> __m256 = _mm256_cvtepi32_ps(a);
        shift_bytes(a: __m256i, bits: i32, mask: u8) -> __m256i = {
            let count = _mm_cvtsi32_si128(bits.abs());
            let shifted = if bits > 0 { _mm256_srl_epi16(a, count) } else { _mm256_sll_epi16(a, count) };
            _mm256_and_si256(shifted, _mm256_set1_epi8(mask as i8))
        };
        or_bytes(a: __m256i, b: __m256i) -> __m256i = _mm256_or_si256(a, b);
        sub_bytes(a: __m256i, b: u8) -> __m256i = _mm256_sub_epi8(a, _mm256_set1_epi8(b as i8));
        pairs(x: i32) -> __m256i = {
            debug_assert_eq!(x, 0, "16 bits hold no other start");
            _mm256_setzero_si256()
        };
        add_pairs(total: __m256i, sum: __m256i, factor: Option<__m256i>) -> __m256i =
            _mm256_add_epi32(total, _mm256_madd_epi16(sum, factor.unwrap_or(_mm256_set1_epi16(1))));
    }

    memory! {
        load(p: *const f32) -> __m256 = _mm256_loadu_ps(p);
        load_first(p: *const f32, n: usize) -> __m256 = {
            let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            _mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), lane))
        };
        load_f16(p: *const u16) -> __m256 = _mm256_cvtph_ps(_mm_loadu_si128(p.cast()));
        load_bf16(p: *const u16) -> __m256 = {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        };
        store(p: *mut f32, a: __m256) = _mm256_storeu_ps(p, a);
        store_i8(p: *mut i8, a: __m256) = {
            let ints = _mm256_cvtps_epi32(a);
            let shorts = _mm_packs_epi32(_mm256_castsi256_si128(ints), _mm256_extracti128_si256::<1>(ints));
            _mm_storel_epi64(p.cast(), _mm_packs_epi16(shorts, shorts));
        };
        load_bytes(p: *const u8) -> __m256i = _mm256_loadu_si256(p.cast());
        // |w| as unsigned times x with the sign of w.
        dot_signed(sum: __m256i, w: __m256i, x: *const i8) -> __m256i = {
            let x = _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
            _mm256_add_epi16(sum, _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w)))
        };
        dot_unsigned(sum: __m256i, w: __m256i, x: *const i8) -> __m256i = {
            let x = _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
            _mm256_add_epi16(sum, _mm256_maddubs_epi16(w, x))
        };
        load_factors(p: *const i8) -> __m256i = {
            let bytes = _mm_loadl_epi64(p.cast());
            _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(bytes, bytes))
        };
        load_i8(p: *const i8) -> __m256 = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast())));
        load_u8(p: *const u8) -> __m256 = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast())));
    }
}
