// From a tile of sums to memory: what both kinds of product share. The including file says PRODUCT(ROWS, WIDTH, tile, sum), which fills
// sum[ROWS][WIDTH], and TILE_CASES.
/// Into the second level: in the first, the rows of a matrix whose width is a multiple of 1024 would all fall into one set.
VECTOR_INLINE void prefetch_rows(const int ROWS, const int WIDTH, const float *matrix, size_t ld) {
    if (matrix == NULL) return;
#pragma clang loop unroll(full)
    for (int i = 0; i < ROWS; ++i)
#pragma clang loop unroll(full)
        for (int j = 0; j < WIDTH * LANES; j += 16) _mm_prefetch((const char *)(matrix + (size_t)i * ld + j), _MM_HINT_T1);
}

/// ROWS and WIDTH (vectors of columns, the last perhaps masked) are constants wherever this is inlined.
VECTOR_INLINE void run(const struct gemm_tile *t, const int ROWS, const int WIDTH, const bool masked) {
    V sum[MR][VECTORS];
    // What the epilogue needs is far away and its rows lie pages apart; it comes while the product is worked out.
    prefetch_rows(ROWS, WIDTH, t->c, t->ldc);
    prefetch_rows(ROWS, WIDTH, t->residual, t->ld_residual);
    prefetch_rows(ROWS, WIDTH, t->activation, t->ld_activation);
    PRODUCT(ROWS, WIDTH, t, sum);
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

static void tile(const struct gemm_tile *t) {
#define RUN(rows, width, masked) run(t, rows, width, masked)
    switch (t->rows) { TILE_CASES(t->columns, RUN) }
#undef RUN
}
