// From a tile's accumulators in registers to memory. The including file defines PRODUCT(ROWS, WIDTH, tile, prefetches,
// sum), which fills sum[ROWS][WIDTH], and, if tiles pack B, PACKING_PRODUCT(type, tile, prefetches, sum).
#include "gemm/tile_finish.h"

VECTOR_INLINE void store_tile(const int ROWS, const int WIDTH, const bool masked, M last, const dmae_type type,
                              const struct gemm_tile *t, V sum[MR][VECTORS]) {
#pragma clang loop unroll(full)
    for (int i = 0; i < ROWS; ++i)
#pragma clang loop unroll(full)
        for (int j = 0; j < WIDTH; ++j)
            store_as(type, masked && j == WIDTH - 1, last, t->c, (size_t)i * t->ldc + (size_t)j * LANES, sum[i][j]);
}

/// Non-temporal stores: a line that is not read soon need not be loaded in order to be written, nor evict others.
VECTOR_INLINE void stream_tile(const int ROWS, const int WIDTH, const struct gemm_tile *t, V sum[MR][VECTORS]) {
#pragma clang loop unroll(full)
    for (int i = 0; i < ROWS; ++i)
#pragma clang loop unroll(full)
        for (int j = 0; j < WIDTH; ++j) v_stream((float *)t->c + (size_t)i * t->ldc + (size_t)j * LANES, sum[i][j]);
}

/// For what needs more registers than the accumulators leave: they are in memory, and this goes over them by rows.
VECTOR_INLINE void finish(const enum gelu gelu, const bool whole, const dmae_type *type, const struct gemm_tile *tile,
                          const float *value) {
    const struct gemm_tile t = *tile;
    for (size_t i = 0; i < t.rows; ++i, value += NR) finish_row(gelu, false, whole, type, &t, i, value);
}
/// One version for nearly every tile, where all matrices have one type and all columns exist, and one for the others.
#define FINISH(name, gelu)                                                                        \
    static void KERNEL(name)(const struct gemm_tile *t, const float *value) {                     \
        static const dmae_type f32 = DMAE_TYPE_F32, bf16 = DMAE_TYPE_BF16;                        \
        const bool are_bf16 = t->activation_type == DMAE_TYPE_BF16, whole = t->columns >= NR;     \
        const bool alike = (t->c == NULL || t->c_type == t->activation_type) &&                   \
                           (t->before_gelu == NULL || t->before_gelu_type == t->activation_type); \
        if (whole && alike && are_bf16) finish(gelu, true, &bf16, t, value);                      \
        else if (whole && alike) finish(gelu, true, &f32, t, value);                              \
        else finish(gelu, false, NULL, t, value);                                                 \
    }
FINISH(finish_forward, gelu_forward)
FINISH(finish_backward, gelu_backward)

/// Rows with factors: everything that is added to the product is added here.
static void KERNEL(finish_with_factors)(const struct gemm_tile *t, const float *value) {
    for (size_t i = 0; i < t->rows; ++i, value += NR) finish_row(gelu_none, true, false, NULL, t, i, value);
}

/// Constants wherever this is inlined: ROWS; WIDTH, vectors of columns, the last `masked` or not; whether the tile
/// `packs` B, and from which type.
VECTOR_INLINE void run(const struct gemm_tile *t, const int ROWS, const int WIDTH, const bool masked, const bool packs,
                       const dmae_type type) {
    V sum[MR][VECTORS];
    // The epilogue's matrices are not in the caches and their rows are pages apart: they are prefetched meanwhile, into
    // the second level, since in the first the rows of a matrix whose width is a multiple of 1024 would share one set.
    struct gemm_prefetches prefetches;
    prefetches.sets = 0;
    const bool streams = !masked && t->stream_c && (uintptr_t)t->c % 64 == 0 && t->ldc % 16 == 0;
    if (!streams) prefetch_rows(&prefetches, ROWS, WIDTH, t->c_type, t->c, t->ldc);
    prefetch_rows(&prefetches, ROWS, WIDTH, DMAE_TYPE_F32, t->residual, t->ld_residual);
    prefetch_rows(&prefetches, ROWS, WIDTH, t->before_gelu_type, t->before_gelu, t->ld_before_gelu);
    if (t->activation != t->before_gelu)
        prefetch_rows(&prefetches, ROWS, WIDTH, t->activation_type, t->activation, t->ld_activation);
    prefetches.lines[prefetches.sets++] = t->prefetch;
#ifdef PACKING_PRODUCT
    if (packs) PACKING_PRODUCT(type, t, &prefetches, sum);
    else PRODUCT(ROWS, WIDTH, t, &prefetches, sum);
#else
    (void)packs, (void)type;
    PRODUCT(ROWS, WIDTH, t, &prefetches, sum);
#endif
    if (streams) {
        stream_tile(ROWS, WIDTH, t, sum);
        return;
    }
    const M last = v_mask(t->columns - (size_t)(WIDTH - 1) * LANES);
#define LOAD(pointer, j)                                                                                          \
    (masked && (j) == WIDTH - 1 ? v_load_masked(last, (pointer) + (j) * LANES) : v_load((pointer) + (j) * LANES))
#pragma clang loop unroll(full)
    for (int j = 0; j < WIDTH; ++j) {
        if (t->row_factor) break;
        if (t->addend) {
#pragma clang loop unroll(full)
            for (int i = 0; i < ROWS; ++i) sum[i][j] = v_add(sum[i][j], LOAD(t->addend + i * t->ld_addend, j));
        }
        if (t->residual) {
#pragma clang loop unroll(full)
            for (int i = 0; i < ROWS; ++i) sum[i][j] = v_add(sum[i][j], LOAD(t->residual + i * t->ld_residual, j));
        }
        if (t->bias) {
            const V bias = LOAD(t->bias, j);
#pragma clang loop unroll(full)
            for (int i = 0; i < ROWS; ++i) sum[i][j] = v_add(sum[i][j], bias);
        }
    }
#undef LOAD
    if (t->activation == NULL && t->before_gelu == NULL && t->row_factor == NULL) {
        if (t->c_type == DMAE_TYPE_BF16) store_tile(ROWS, WIDTH, masked, last, DMAE_TYPE_BF16, t, sum);
        else store_tile(ROWS, WIDTH, masked, last, DMAE_TYPE_F32, t, sum);
        return;
    }
    float value[MR * NR] __attribute__((aligned(64)));
#pragma clang loop unroll(full)
    for (int i = 0; i < ROWS; ++i)
#pragma clang loop unroll(full)
        for (int j = 0; j < WIDTH; ++j) v_store(value + i * NR + j * LANES, sum[i][j]);
    if (t->row_factor) KERNEL(finish_with_factors)(t, value);
    else if (t->before_gelu) KERNEL(finish_backward)(t, value);
    else KERNEL(finish_forward)(t, value);
}

static void KERNEL(tile)(const struct gemm_tile *t) {
#ifdef PACKING_PRODUCT
    if (t->b_source && t->b_source_type == DMAE_TYPE_BF16) return run(t, MR, VECTORS, false, true, DMAE_TYPE_BF16);
    if (t->b_source) return run(t, MR, VECTORS, false, true, DMAE_TYPE_F32);
#endif
#define RUN(rows, width, masked) run(t, rows, width, masked, false, DMAE_TYPE_F32)
    switch (t->rows) { TILE_CASES(t->columns, RUN) }
#undef RUN
}
