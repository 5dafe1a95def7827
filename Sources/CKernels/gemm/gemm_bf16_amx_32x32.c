#if defined(__x86_64__)
#define KERNEL(part) gemm_bf16_amx_32x32_##part
#include "gemm/gemm.h"

#include <string.h>
#define VECTOR_TARGET "avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16,amx-tile,amx-bf16"
#define VECTOR_ROUNDS_TO_BF16
#include "cpu/vector_avx512.h"

// A lane is a pair of neighbours in k. An instruction sums the products of the even neighbours over its 32 values of k
// and those of the odd ones separately, and then adds both.
enum { UNIT = 2, PARTS = 1, HEAD_WORDS = 0 };
#define TILE_PRODUCT _tile_dpbf16ps
#include "gemm/amx_tile.h"
enum { K_UNIT = STEP_K };
#include "gemm/bf16_pairs.h"

VECTOR_INLINE void pack_a_rows(const dmae_type type, size_t count, size_t k, const void *source, size_t ld,
                               float *panels) {
    const size_t steps = (k + K_UNIT - 1) / K_UNIT;
    // Eight rows at a time: their lines, which may be a multiple of 4096 bytes apart, stay in the first-level cache.
    enum { together = 8 };
    for (size_t first = 0; first < count; first += together) {
        float *step = panels + first / MR * steps * STEP_A + first % MR * HALF;
        for (size_t p = 0; p < k; p += K_UNIT, step += STEP_A)
            for (size_t i = 0; i < together; ++i)
                v_store(step + i * HALF,
                        first + i < count ? pairs_at(type, k - p, source, (first + i) * ld + p) : v_zero());
    }
}

VECTOR_INLINE void pack_a_transposed(const dmae_type type, size_t count, size_t k, const void *source, size_t ld,
                                     float *panels) {
    const size_t steps = (k + K_UNIT - 1) / K_UNIT;
    for (size_t p = 0; p < k; p += K_UNIT)
        for (size_t first = 0; first < count; first += HALF) {
            V rows[LANES];
            for (size_t q = 0; q < LANES; ++q) {
                const size_t at = p + 2 * q, left = count - first;
                const __m256i low = at < k ? halves_at(type, left, source, at * ld + first) : _mm256_setzero_si256();
                const __m256i high =
                    at + 1 < k ? halves_at(type, left, source, (at + 1) * ld + first) : _mm256_setzero_si256();
                rows[q] = interleaved_pairs(low, high);
            }
            v_transpose(rows);
            float *const step = panels + first / MR * steps * STEP_A + p / K_UNIT * STEP_A + first % MR * HALF;
            for (size_t i = 0; i < LANES; ++i) v_store(step + i * HALF, rows[i]);
        }
}

VECTOR_INLINE void pack_a_of(const dmae_type type, size_t count, size_t k, const void *source, size_t ld,
                             bool transposed, float *panels) {
    if (transposed) pack_a_transposed(type, count, k, source, ld, panels);
    else pack_a_rows(type, count, k, source, ld, panels);
}
static void KERNEL(pack_a)(size_t count, size_t k, dmae_type type, const void *source, size_t ld, bool transposed,
                           void *panels) {
    if (type == DMAE_TYPE_BF16) pack_a_of(DMAE_TYPE_BF16, count, k, source, ld, transposed, panels);
    else pack_a_of(DMAE_TYPE_F32, count, k, source, ld, transposed, panels);
}
static void KERNEL(pack_b)(size_t count, size_t k, dmae_type type, const void *source, size_t ld, bool transposed,
                           void *panels) {
    if (type == DMAE_TYPE_BF16) pack(DMAE_TYPE_BF16, NR, count, k, source, ld, transposed, panels);
    else pack(DMAE_TYPE_F32, NR, count, k, source, ld, transposed, panels);
}

const struct gemm_kernels gemm_bf16_amx_32x32 = {
    .mr = MR,
    .nr = NR,
    .k_unit = K_UNIT,
    .value_bytes = 2,
    .max_kc = 2048,
    .max_chunk_a = 8,
    .max_chunk_b = 8,
    .max_chunk_bytes = 896 << 10,
    .group_a = 1,
    .group_b_bytes = 256 << 10,
    .max_prefetch_width = 512,
    .caches_shared = true,
    .prefetches_shared = true,
    .pack_a = KERNEL(pack_a),
    .pack_b = KERNEL(pack_b),
    .tile = KERNEL(tile),
    .begin = KERNEL(begin),
    .end = KERNEL(end),
};
#pragma clang attribute pop
#endif
