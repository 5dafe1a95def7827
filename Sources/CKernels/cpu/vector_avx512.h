// The vector operations that kernels are written in, on 16 floats of AVX-512. vector_avx2.h defines the same names
// on 8.
//
// Including this header opens a region in which every function is compiled for the instruction set. The including file
// closes it with `#pragma clang attribute pop`. System headers must be included before.
#ifndef DMAE_VECTOR_H
#define DMAE_VECTOR_H

#include <immintrin.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The including file may define a larger target. If that has avx512bf16, it also defines VECTOR_ROUNDS_TO_BF16.
#ifndef VECTOR_TARGET
#define VECTOR_TARGET "avx512f,avx512bw,avx512dq,avx512vl,fma"
#endif
#pragma clang attribute push(__attribute__((target(VECTOR_TARGET))), apply_to = function)

#define VECTOR_INLINE static inline __attribute__((always_inline, unused))
enum { LANES = 16, MASKED_STORES_ARE_CHEAP = 1, FMA_READS_ELEMENTS = 1 };
typedef __m512 V;
typedef __mmask16 M;

VECTOR_INLINE V v_zero(void) { return _mm512_setzero_ps(); }
VECTOR_INLINE V v_set(float x) { return _mm512_set1_ps(x); }
VECTOR_INLINE V v_load(const float *p) { return _mm512_loadu_ps(p); }
VECTOR_INLINE void v_store(float *p, V x) { _mm512_storeu_ps(p, x); }
/// Non-temporal store; p is aligned to the vector's bytes.
VECTOR_INLINE void v_stream(float *p, V x) { _mm512_stream_ps(p, x); }
/// Fetches the cache line at p into the first-level or the second-level cache.
VECTOR_INLINE void v_prefetch_l1(const void *p) { _mm_prefetch((const char *)p, _MM_HINT_T0); }
VECTOR_INLINE void v_prefetch_l2(const void *p) { _mm_prefetch((const char *)p, _MM_HINT_T1); }
/// The first `count` lanes; all of them when count >= LANES.
VECTOR_INLINE M v_mask(size_t count) { return count >= LANES ? (M)0xffff : (M)((1u << count) - 1); }
VECTOR_INLINE V v_load_masked(M mask, const float *p) { return _mm512_maskz_loadu_ps(mask, p); }
VECTOR_INLINE void v_store_masked(M mask, float *p, V x) { _mm512_mask_storeu_ps(p, mask, x); }
VECTOR_INLINE V v_keep(M mask, V x) { return _mm512_maskz_mov_ps(mask, x); }

VECTOR_INLINE V v_add(V a, V b) { return _mm512_add_ps(a, b); }
VECTOR_INLINE V v_subtract(V a, V b) { return _mm512_sub_ps(a, b); }
VECTOR_INLINE V v_multiply(V a, V b) { return _mm512_mul_ps(a, b); }
VECTOR_INLINE V v_divide(V a, V b) { return _mm512_div_ps(a, b); }
VECTOR_INLINE V v_square_root(V a) { return _mm512_sqrt_ps(a); }
/// a·b + c, a·b - c and c - a·b, rounded once.
VECTOR_INLINE V v_fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
VECTOR_INLINE V v_fms(V a, V b, V c) { return _mm512_fmsub_ps(a, b, c); }
VECTOR_INLINE V v_fnma(V a, V b, V c) { return _mm512_fnmadd_ps(a, b, c); }
/// *a·b + c in one instruction with a broadcasting memory operand. The compiler would load an element that is used
/// twice into a register.
VECTOR_INLINE V v_fma_element(const float *a, V b, V c) {
    __asm__("vfmadd231ps %2%{1to16%}, %1, %0" : "+v"(c) : "v"(b), "m"(*a));
    return c;
}
/// The second operand when either is NaN.
VECTOR_INLINE V v_max(V a, V b) { return _mm512_max_ps(a, b); }
VECTOR_INLINE V v_min(V a, V b) { return _mm512_min_ps(a, b); }
VECTOR_INLINE V v_absolute(V a) { return _mm512_abs_ps(a); }
/// if_negative where x has its sign bit set, otherwise where not.
VECTOR_INLINE V v_by_sign(V x, V if_negative, V otherwise) {
    return _mm512_mask_mov_ps(otherwise, _mm512_movepi32_mask(_mm512_castps_si512(x)), if_negative);
}

/// table[the lowest four bits of each lane].
VECTOR_INLINE V v_lookup(const float table[16], V index) {
    return _mm512_permutexvar_ps(_mm512_castps_si512(index), v_load(table));
}

VECTOR_INLINE V v_round(V x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
/// x·2^n for integer n.
VECTOR_INLINE V v_scale(V x, V n) { return _mm512_scalef_ps(x, n); }

// bf16 in memory: the upper half of a float.
VECTOR_INLINE V v_from_bf16(__m256i halves) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}
VECTOR_INLINE V v_load_bf16(const uint16_t *p) { return v_from_bf16(_mm256_loadu_si256((const __m256i *)p)); }
VECTOR_INLINE V v_load_bf16_masked(M mask, const uint16_t *p) { return v_from_bf16(_mm256_maskz_loadu_epi16(mask, p)); }

/// To the nearest bf16, ties to even; infinities stay, and a NaN stays one.
#ifdef VECTOR_ROUNDS_TO_BF16
VECTOR_INLINE __m256i v_to_bf16(V x) { return (__m256i)_mm512_cvtneps_pbh(x); }
VECTOR_INLINE V v_round_to_bf16(V x) { return v_from_bf16(v_to_bf16(x)); }
#else
VECTOR_INLINE V v_round_to_bf16(V x) {
    const __m512i bits = _mm512_castps_si512(x),
                  odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x00400000));
    const __m512i kept = _mm512_mask_mov_epi32(up, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), quiet);
    return _mm512_castsi512_ps(_mm512_and_si512(kept, _mm512_set1_epi32((int)0xffff0000)));
}
VECTOR_INLINE __m256i v_to_bf16(V x) {
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(v_round_to_bf16(x)), 16));
}
#endif
VECTOR_INLINE void v_store_bf16(uint16_t *p, V x) { _mm256_storeu_si256((__m256i *)p, v_to_bf16(x)); }
VECTOR_INLINE void v_store_bf16_masked(M mask, uint16_t *p, V x) { _mm256_mask_storeu_epi16(p, mask, v_to_bf16(x)); }

// Halves are added to halves: the same tree for every instruction set.
VECTOR_INLINE float v_sum4(__m128 x) {
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps(x, x, 1)));
}
VECTOR_INLINE float v_sum(V x) {
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    return v_sum4(_mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}
VECTOR_INLINE float v_reduce_max(V x) { return _mm512_reduce_max_ps(x); }
/// Σ over lanes of x², added to sum[0 .. 16) in double.
VECTOR_INLINE void v_add_squares(V x, __m512d sum[2]) {
    const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(x)),
                  high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1));
    sum[0] = _mm512_fmadd_pd(low, low, sum[0]);
    sum[1] = _mm512_fmadd_pd(high, high, sum[1]);
}
typedef __m512d D;
VECTOR_INLINE D d_zero(void) { return _mm512_setzero_pd(); }
VECTOR_INLINE D d_add(D a, D b) { return _mm512_add_pd(a, b); }
VECTOR_INLINE void d_store(double *p, D x) { _mm512_storeu_pd(p, x); }

/// Transposes r as a LANES×LANES matrix of rows.
VECTOR_INLINE void v_transpose(V r[LANES]) {
    V t[16];
    // Pairs, then fours, inside each 128-bit quarter …
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
        r[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    // … then whole quarters.
    for (int i = 0; i < 4; ++i) {
        t[i] = _mm512_shuffle_f32x4(r[i], r[4 + i], 0x88);
        t[4 + i] = _mm512_shuffle_f32x4(r[i], r[4 + i], 0xdd);
        t[8 + i] = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0x88);
        t[12 + i] = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0xdd);
    }
    for (int i = 0; i < 4; ++i) {
        r[i] = _mm512_shuffle_f32x4(t[i], t[8 + i], 0x88);
        r[8 + i] = _mm512_shuffle_f32x4(t[i], t[8 + i], 0xdd);
        r[4 + i] = _mm512_shuffle_f32x4(t[4 + i], t[12 + i], 0x88);
        r[12 + i] = _mm512_shuffle_f32x4(t[4 + i], t[12 + i], 0xdd);
    }
}

#endif
