// The vector operations of vector_avx512.h, under the same names, on 8 floats of AVX2 and FMA. The same rules hold.
#ifndef DMAE_VECTOR_H
#define DMAE_VECTOR_H

#include <immintrin.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)

#define VECTOR_INLINE static inline __attribute__((always_inline, unused))
/// On Zen 3 a masked store takes 4 to 5 ns, a plain one 0.3.
enum { LANES = 8, MASKED_STORES_ARE_CHEAP = 0, FMA_READS_ELEMENTS = 0 };
typedef __m256 V;
typedef __m256i M;

VECTOR_INLINE V v_zero(void) { return _mm256_setzero_ps(); }
VECTOR_INLINE V v_set(float x) { return _mm256_set1_ps(x); }
VECTOR_INLINE V v_load(const float *p) { return _mm256_loadu_ps(p); }
VECTOR_INLINE void v_store(float *p, V x) { _mm256_storeu_ps(p, x); }
/// Non-temporal store; p is aligned to the vector's bytes.
VECTOR_INLINE void v_stream(float *p, V x) { _mm256_stream_ps(p, x); }
VECTOR_INLINE void v_prefetch_l1(const void *p) { _mm_prefetch((const char *)p, _MM_HINT_T0); }
VECTOR_INLINE void v_prefetch_l2(const void *p) { _mm_prefetch((const char *)p, _MM_HINT_T1); }
VECTOR_INLINE M v_mask(size_t count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count >= LANES ? LANES : (int)count),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
VECTOR_INLINE V v_load_masked(M mask, const float *p) { return _mm256_maskload_ps(p, mask); }
VECTOR_INLINE void v_store_masked(M mask, float *p, V x) { _mm256_maskstore_ps(p, mask, x); }
VECTOR_INLINE V v_keep(M mask, V x) { return _mm256_and_ps(_mm256_castsi256_ps(mask), x); }

VECTOR_INLINE V v_add(V a, V b) { return _mm256_add_ps(a, b); }
VECTOR_INLINE V v_subtract(V a, V b) { return _mm256_sub_ps(a, b); }
VECTOR_INLINE V v_multiply(V a, V b) { return _mm256_mul_ps(a, b); }
VECTOR_INLINE V v_divide(V a, V b) { return _mm256_div_ps(a, b); }
VECTOR_INLINE V v_square_root(V a) { return _mm256_sqrt_ps(a); }
VECTOR_INLINE V v_fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
VECTOR_INLINE V v_fms(V a, V b, V c) { return _mm256_fmsub_ps(a, b, c); }
VECTOR_INLINE V v_fnma(V a, V b, V c) { return _mm256_fnmadd_ps(a, b, c); }
VECTOR_INLINE V v_fma_element(const float *a, V b, V c) { return v_fma(v_set(*a), b, c); }
VECTOR_INLINE V v_max(V a, V b) { return _mm256_max_ps(a, b); }
VECTOR_INLINE V v_min(V a, V b) { return _mm256_min_ps(a, b); }
VECTOR_INLINE V v_absolute(V a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
VECTOR_INLINE V v_by_sign(V x, V if_negative, V otherwise) { return _mm256_blendv_ps(otherwise, if_negative, x); }

VECTOR_INLINE V v_lookup(const float table[16], V index) {
    const __m256i bits = _mm256_castps_si256(index);
    const V low = _mm256_permutevar8x32_ps(v_load(table), bits),
            high = _mm256_permutevar8x32_ps(v_load(table + LANES), bits);
    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(bits, 28)));
}

VECTOR_INLINE V v_round(V x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
/// In two steps, so that n may be as low as -252, where the result is zero or subnormal.
VECTOR_INLINE V v_scale(V x, V n) {
    const __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1),
                  rest = _mm256_sub_epi32(whole, half);
    const __m256i bias = _mm256_set1_epi32(127);
    x = _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23)));
    return _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23)));
}

/// To the nearest bf16, ties to even; infinities stay, and a NaN stays one.
VECTOR_INLINE V v_round_to_bf16(V x) {
    const __m256i bits = _mm256_castps_si256(x),
                  odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    const V quiet = _mm256_castsi256_ps(_mm256_or_si256(bits, _mm256_set1_epi32(0x00400000)));
    const V kept = _mm256_blendv_ps(_mm256_castsi256_ps(up), quiet, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    return _mm256_and_ps(kept, _mm256_castsi256_ps(_mm256_set1_epi32((int)0xffff0000)));
}

// bf16 in memory: the upper half of a float. AVX2 has no masks for 16-bit elements, so tails are copied one by one.
VECTOR_INLINE V v_from_bf16(__m128i halves) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}
VECTOR_INLINE V v_load_bf16(const uint16_t *p) { return v_from_bf16(_mm_loadu_si128((const __m128i *)p)); }
VECTOR_INLINE V v_load_bf16_masked(M mask, const uint16_t *p) {
    uint16_t halves[LANES] = {0};
    const int lanes = _mm256_movemask_ps(_mm256_castsi256_ps(mask));
    for (int lane = 0; lane < LANES; ++lane)
        if (lanes >> lane & 1) halves[lane] = p[lane];
    return v_load_bf16(halves);
}
VECTOR_INLINE void v_store_bf16(uint16_t *p, V x) {
    const __m256i high = _mm256_srli_epi32(_mm256_castps_si256(v_round_to_bf16(x)), 16);
    _mm_storeu_si128((__m128i *)p, _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1)));
}
VECTOR_INLINE void v_store_bf16_masked(M mask, uint16_t *p, V x) {
    uint16_t halves[LANES];
    v_store_bf16(halves, x);
    const int lanes = _mm256_movemask_ps(_mm256_castsi256_ps(mask));
    for (int lane = 0; lane < LANES; ++lane)
        if (lanes >> lane & 1) p[lane] = halves[lane];
}

VECTOR_INLINE float v_sum4(__m128 x) {
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps(x, x, 1)));
}
VECTOR_INLINE float v_sum(V x) { return v_sum4(_mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1))); }
VECTOR_INLINE float v_reduce_max(V x) {
    __m128 y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_max_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_max_ss(y, _mm_shuffle_ps(y, y, 1)));
}
typedef __m256d D;
VECTOR_INLINE void v_add_squares(V x, __m256d sum[2]) {
    const __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(x)), high = _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1));
    sum[0] = _mm256_fmadd_pd(low, low, sum[0]);
    sum[1] = _mm256_fmadd_pd(high, high, sum[1]);
}
VECTOR_INLINE D d_zero(void) { return _mm256_setzero_pd(); }
VECTOR_INLINE D d_add(D a, D b) { return _mm256_add_pd(a, b); }
VECTOR_INLINE void d_store(double *p, D x) { _mm256_storeu_pd(p, x); }

VECTOR_INLINE void v_transpose(V r[LANES]) {
    V t[8];
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    for (int i = 0; i < 4; ++i) t[i] = r[i], t[4 + i] = r[4 + i];
    for (int i = 0; i < 4; ++i) {
        r[i] = _mm256_permute2f128_ps(t[i], t[4 + i], 0x20);
        r[4 + i] = _mm256_permute2f128_ps(t[i], t[4 + i], 0x31);
    }
}

#endif
