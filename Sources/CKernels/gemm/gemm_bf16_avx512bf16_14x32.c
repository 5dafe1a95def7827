#if defined(__x86_64__)
#define KERNEL(part) gemm_bf16_avx512bf16_14x32_##part
#include "gemm/gemm.h"

#include <string.h>
#define VECTOR_TARGET "avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16"
#define VECTOR_ROUNDS_TO_BF16
#include "cpu/vector_avx512.h"
#include "gelu/gelu_f32_vector.h"

enum { MR = 14, VECTORS = 2, REGISTERS = 32, STEPS = 1, K_UNIT = 2 };
#include "gemm/bf16_pairs.h"
#include "gemm/register_tile_f32.h"

static void KERNEL(pack_a)(size_t count, size_t k, dmae_type type, const void *source, size_t ld, bool transposed,
                           void *panels) {
    if (type == DMAE_TYPE_BF16) pack(DMAE_TYPE_BF16, MR, count, k, source, ld, transposed, panels);
    else pack(DMAE_TYPE_F32, MR, count, k, source, ld, transposed, panels);
}
static void KERNEL(pack_b)(size_t count, size_t k, dmae_type type, const void *source, size_t ld, bool transposed,
                           void *panels) {
    if (type == DMAE_TYPE_BF16) pack(DMAE_TYPE_BF16, NR, count, k, source, ld, transposed, panels);
    else pack(DMAE_TYPE_F32, NR, count, k, source, ld, transposed, panels);
}

VECTOR_INLINE void pair_step(const int ROWS, const int WIDTH, const float *a, const float *b, V sum[MR][VECTORS]) {
    __m512bh row[VECTORS];
#pragma clang loop unroll(full)
    for (int j = 0; j < WIDTH * LANES; j += 16) v_prefetch_l1(b + 32 * NR + j);
    v_prefetch_l1(a + 36 * MR);
#pragma clang loop unroll(full)
    for (int j = 0; j < WIDTH; ++j) row[j] = (__m512bh)v_load(b + j * LANES);
#pragma clang loop unroll(full)
    for (int i = 0; i < ROWS; ++i) {
        const __m512bh element = (__m512bh)v_set(a[i]);
#pragma clang loop unroll(full)
        for (int j = 0; j < WIDTH; ++j) sum[i][j] = _mm512_dpbf16_ps(sum[i][j], element, row[j]);
    }
}

VECTOR_INLINE void pair_product(const int ROWS, const int WIDTH, size_t k, const float *a, const float *b,
                                const struct gemm_prefetches *prefetches, V sum[MR][VECTORS]) {
    clear(ROWS, WIDTH, sum);
    PREFETCHING_ROUNDS((k + 1) / 2, prefetches, {
        pair_step(ROWS, WIDTH, a, b, sum);
        a += MR;
        b += NR;
    });
}

/// Packs pair q of a tile's panel of B from a transposed source; `type` is a constant.
VECTOR_INLINE void pack_pair(const dmae_type type, const struct gemm_tile *t, size_t q) {
    const size_t first = 2 * q * t->ld_b_source, second = first + t->ld_b_source,
                 ahead = 2 * PREFETCHED_AHEAD * t->ld_b_source;
    float *const pairs = (float *)t->b + q * NR;
    prefetch_row(type, NR, t->b_source, first + ahead);
    prefetch_row(type, NR, t->b_source, second + ahead);
    if (2 * q + 1 < t->k) pack_step(type, NR, NR, t->b_source, first, true, second, pairs);
    else pack_step(type, NR, NR, t->b_source, first, false, 0, pairs);
}

VECTOR_INLINE void packing_product(const dmae_type type, const struct gemm_tile *t,
                                   const struct gemm_prefetches *prefetches, V sum[MR][VECTORS]) {
    const size_t pairs = (t->k + 1) / 2;
    const float *a = t->a, *b = t->b;
    size_t q = 0;
    while (q < PACKED_AHEAD && q < pairs) pack_pair(type, t, q++);
    clear(MR, VECTORS, sum);
    PREFETCHING_ROUNDS(pairs, prefetches, {
        if (q < pairs) pack_pair(type, t, q++);
        pair_step(MR, VECTORS, a, b, sum);
        a += MR;
        b += NR;
    });
}
#define PACKING_PRODUCT packing_product
#define PRODUCT(ROWS, WIDTH, t, prefetches, sum) pair_product(ROWS, WIDTH, (t)->k, (t)->a, (t)->b, prefetches, sum)
#include "gemm/tile_epilogue.h"

const struct gemm_kernels gemm_bf16_avx512bf16_14x32 = {
    .mr = MR,
    .nr = NR,
    .k_unit = K_UNIT,
    .value_bytes = 2,
    .max_kc = 2048,
    .max_chunk_a = 4,
    .max_chunk_b = 2,
    .group_a = 1,
    .max_prefetch_width = 1536,
    .min_split_panels = 24,
    .tiles_pack_b = true,
    .prefetches_transposed = true,
    .pack_a = KERNEL(pack_a),
    .pack_b = KERNEL(pack_b),
    .tile = KERNEL(tile),
};
#pragma clang attribute pop
#endif
