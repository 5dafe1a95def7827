#if defined(__x86_64__)
#define KERNEL(part) gemm_int8_amx_32x32_##part
#include "gemm/gemm.h"
#define VECTOR_TARGET "avx512f,avx512bw,avx512dq,avx512vl,fma,avx512vnni,avx512bf16,amx-tile,amx-int8"
#define VECTOR_ROUNDS_TO_BF16
#include "cpu/vector_avx512.h"

enum { VECTORS = 2, PARTS = 1, HEAD_WORDS = 2 };
#include "gemm/gemm_int8_vnni.h"
#define TILE_PRODUCT _tile_dpbusd
#include "gemm/amx_tile.h"
enum { K_UNIT = STEP_K };
#include "gemm/gemm_int8_packing.h"

VECTOR_INLINE void pack_a_of(const dmae_type type, size_t count, size_t k, const void *source, size_t ld,
                             float *panel) {
    const size_t steps = (k + STEP_K - 1) / STEP_K;
    for (size_t first = 0; first < count; first += MR, panel += HEAD_WORDS * MR + steps * STEP_A)
        for (size_t i = 0; i < MR && first + i < count; ++i) {
            const size_t row = (first + i) * ld;
            const struct quantisation q = quantisation_of(type, false, k, source, row);
            panel[i] = q.scale;
            ((int32_t *)panel)[MR + i] = q.zero;
            float *step = panel + HEAD_WORDS * MR + i * HALF;
            for (size_t p = 0; p < k; p += STEP_K, step += STEP_A)
                v_store(step, groups_at(type, false, k - p, source, row + p, q));
        }
}
static void KERNEL(pack_a)(size_t count, size_t k, dmae_type type, const void *source, size_t ld, bool transposed,
                           void *panels) {
    (void)transposed;
    if (type == DMAE_TYPE_BF16) pack_a_of(DMAE_TYPE_BF16, count, k, source, ld, panels);
    else pack_a_of(DMAE_TYPE_F32, count, k, source, ld, panels);
}
static void KERNEL(pack_b)(size_t count, size_t k, dmae_type type, const void *source, size_t ld, bool transposed,
                           void *panels) {
    (void)transposed;
    if (type == DMAE_TYPE_BF16) pack(DMAE_TYPE_BF16, true, NR, count, k, source, ld, panels);
    else pack(DMAE_TYPE_F32, true, NR, count, k, source, ld, panels);
}

const struct gemm_kernels gemm_int8_amx_32x32 = {
    .mr = MR,
    .nr = NR,
    .k_unit = K_UNIT,
    .value_bytes = 1,
    .max_kc = gemm_int8_max_k,
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
    .header_bytes = HEAD_WORDS * sizeof(float),
};
#pragma clang attribute pop
#endif
