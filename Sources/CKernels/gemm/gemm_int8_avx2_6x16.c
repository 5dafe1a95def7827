#if defined(__x86_64__)
#define KERNEL(part) gemm_int8_avx2_6x16_##part
#include "gemm/gemm.h"
#include "gemm/quantisation.h"
#include "cpu/vector_avx2.h"

enum { MR = 6, VECTORS = 2, REGISTERS = 16, STEPS = 4 };

// AVX2's byte multiply-add saturates at 16 bits. Instead a lane is q - zero of two neighbours in k in 16 bits: exact.
enum { UNIT = 2, HAS_ZERO = 0 };
typedef __m256i I;
VECTOR_INLINE I i_zero(void) { return _mm256_setzero_si256(); }
VECTOR_INLINE I i_set(int32_t x) { return _mm256_set1_epi32(x); }
VECTOR_INLINE I i_load(const float *p) { return _mm256_loadu_si256((const I *)p); }
VECTOR_INLINE V i_float(I x) { return _mm256_cvtepi32_ps(x); }
VECTOR_INLINE I i_multiply_add(I sum, I a, I b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }
VECTOR_INLINE I i_without(I sum, I zero, I column_sum) { return (void)zero, (void)column_sum, sum; }

VECTOR_INLINE V groups(const bool weights, const V x[UNIT], struct quantisation q) {
    const I min = i_set(weights ? -127 : -q.zero), max = i_set(weights ? 127 : 255 - q.zero);
    I whole[UNIT];
    for (int part = 0; part < UNIT; ++part) {
        const I nearest = _mm256_cvtps_epi32(v_multiply(x[part], v_set(q.inverse)));
        whole[part] = _mm256_min_epi32(_mm256_max_epi32(nearest, min), max);
    }
    return _mm256_castsi256_ps(_mm256_permute4x64_epi64(_mm256_packs_epi32(whole[0], whole[1]), 0xd8));
}
VECTOR_INLINE void column_sums(size_t steps, const float *groups, int32_t *sums) {
    (void)steps, (void)groups, (void)sums;
}
#include "gemm/gemm_int8_kernels.h"

const struct gemm_kernels gemm_int8_avx2_6x16 = {
    .mr = MR,
    .nr = NR,
    .k_unit = UNIT,
    .value_bytes = 2,
    .max_kc = gemm_int8_max_k,
    .max_chunk_a = 4,
    .max_chunk_b = 2,
    .is_emulated = true,
    .group_a = 1,
    .max_prefetch_width = 256,
    .pack_a = KERNEL(pack_a),
    .pack_b = KERNEL(pack_b),
    .tile = KERNEL(tile),
    .header_bytes = HEAD_WORDS * sizeof(float),
};
#pragma clang attribute pop
#endif
