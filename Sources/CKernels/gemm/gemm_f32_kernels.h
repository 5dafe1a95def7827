// The packed-panel kernels on the operations of vector_*.h and a register tile the including file has chosen.
#include "gelu/gelu_f32_vector.h"
#include "gemm/register_tile_f32.h"

static void pack_a(size_t count, size_t k, const float *source, size_t ld, bool across, float *panels) {
    if (!across) {
        for (; count > MR; count -= MR, source += MR * ld, panels += MR * k)
            pack_transposed(MR, MR, MR, k, source, ld, panels);
        pack_transposed(count, MR, MR, k, source, ld, panels);
        return;
    }
    // All panels of one step of k before the next step: rows of the source may lie a multiple of 4096 bytes apart, and what one
    // panel leaves of a line is gone from the cache when the next panel comes.
    const M written = v_mask(MR);
    for (size_t p = 0; p < k; ++p)
        for (size_t i = 0; i < count; i += MR)
            v_store_masked(written, panels + i * k + p * MR, v_load_masked(v_mask(count - i), source + p * ld + i));
}

static void pack_b(size_t count, size_t k, const float *source, size_t ld, bool across, float *panels) {
    const size_t whole = count / NR * NR;
    if (!across) {
        for (size_t j = 0; j < whole; j += LANES)
            pack_transposed(LANES, LANES, NR, k, source + j * ld, ld, panels + j / NR * NR * k + j % NR);
        for (size_t j = whole; j < count; j += NR)
            for (size_t part = 0; part < NR; part += LANES)
                pack_transposed(count > j + part ? count - j - part : 0, LANES, NR, k, source + (j + part) * ld, ld,
                                panels + j * k + part);
        return;
    }
    for (size_t p = 0; p < k; ++p) {
        for (size_t j = 0; j < whole; j += LANES)
            v_store(panels + j / NR * NR * k + p * NR + j % NR, v_load(source + p * ld + j));
        if (whole < count)
            for (size_t part = 0; part < NR; part += LANES)
                v_store(panels + whole * k + p * NR + part,
                        v_load_masked(v_mask(count > whole + part ? count - whole - part : 0), source + p * ld + whole + part));
    }
}

/// Into the second level: in the first, the rows of a matrix whose width is a multiple of 1024 would all fall into one set.
VECTOR_INLINE void prefetch_rows(const int ROWS, const int WIDTH, const float *matrix, size_t ld) {
    if (matrix == NULL) return;
#pragma clang loop unroll(full)
    for (int i = 0; i < ROWS; ++i)
#pragma clang loop unroll(full)
        for (int j = 0; j < WIDTH * LANES; j += 16) _mm_prefetch((const char *)(matrix + (size_t)i * ld + j), _MM_HINT_T1);
}

/// ROWS and WIDTH (vectors of columns, the last perhaps masked) are constants wherever this is inlined.
VECTOR_INLINE void run(const struct gemm_f32_tile *t, const int ROWS, const int WIDTH, const bool masked) {
    V sum[MR][VECTORS];
    // What the epilogue needs is far away and its rows lie pages apart; it comes while the product is worked out.
    prefetch_rows(ROWS, WIDTH, t->c, t->ldc);
    prefetch_rows(ROWS, WIDTH, t->residual, t->ld_residual);
    prefetch_rows(ROWS, WIDTH, t->activation, t->ld_activation);
    tile_product(ROWS, WIDTH, true, t->k, t->a, 1, MR, t->b, NR, sum);
    const M last = v_mask(t->columns - (size_t)(WIDTH - 1) * LANES);
#define LOAD(pointer, j) (masked && (j) == WIDTH - 1 ? v_load_masked(last, (pointer) + (j) * LANES) : v_load((pointer) + (j) * LANES))
#define STORE(pointer, j, value) \
    (masked && (j) == WIDTH - 1 ? v_store_masked(last, (pointer) + (j) * LANES, value) : v_store((pointer) + (j) * LANES, value))
#pragma clang loop unroll(full)
    for (int j = 0; j < WIDTH; ++j) {
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
        if (t->c) {
#pragma clang loop unroll(full)
            for (int i = 0; i < ROWS; ++i) STORE(t->c + i * t->ldc, j, sum[i][j]);
        }
    }
    if (t->activation) {
        // The accumulators rest in memory here, so that the polynomials have the registers; a loop over them, not fifty copies.
        float value[MR * VECTORS * LANES] __attribute__((aligned(64)));
#pragma clang loop unroll(full)
        for (int i = 0; i < ROWS; ++i)
#pragma clang loop unroll(full)
            for (int j = 0; j < WIDTH; ++j) v_store(value + (i * VECTORS + j) * LANES, sum[i][j]);
#pragma clang loop unroll(disable)
        for (int i = 0; i < ROWS; ++i)
#pragma clang loop unroll(full)
            for (int j = 0; j < WIDTH; ++j)
                STORE(t->activation + i * t->ld_activation, j, gelu_f32(v_load(value + (i * VECTORS + j) * LANES)));
    }
#undef LOAD
#undef STORE
}

static void tile(const struct gemm_f32_tile *t) {
#define RUN(rows, width, masked) run(t, rows, width, masked)
    switch (t->rows) { TILE_CASES(t->columns, RUN) }
#undef RUN
}
