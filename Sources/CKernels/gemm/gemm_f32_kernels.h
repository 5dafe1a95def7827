// The packed-panel kernels on the operations of vector_*.h. The including file says MR and VECTORS: a tile is MR rows of VECTORS
// vectors, and lives in registers with one row of B and one element of A beside it.
#include "gelu/gelu_f32_vector.h"

enum { NR = VECTORS * LANES };
_Static_assert(MR * VECTORS + VECTORS + 1 <= REGISTERS, "the tile does not fit the registers");
_Static_assert(MR <= LANES, "packing A transposes one vector of rows at a time");

/// panel[p·unit + i] = source[i·ld + p] for i < count <= LANES, zero from there to `width`; p < k.
VECTOR_INLINE void pack_transposed(size_t count, size_t width, size_t unit, size_t k, const float *source, size_t ld,
                                   float *panel) {
    const M written = v_mask(width);
    for (size_t p = 0; p < k; p += LANES) {
        const size_t depth = k - p < LANES ? k - p : LANES;
        V rows[LANES];
        if (depth == LANES) {
            for (size_t i = 0; i < LANES; ++i) rows[i] = i < count ? v_load(source + i * ld + p) : v_zero();
        } else {
            const M mask = v_mask(depth);
            for (size_t i = 0; i < LANES; ++i) rows[i] = i < count ? v_load_masked(mask, source + i * ld + p) : v_zero();
        }
        v_transpose(rows);
        if (width == LANES && depth == LANES) {
            for (size_t i = 0; i < LANES; ++i) v_store(panel + (p + i) * unit, rows[i]);
        } else {
            for (size_t i = 0; i < depth; ++i) v_store_masked(written, panel + (p + i) * unit, rows[i]);
        }
    }
}

static void pack_a(size_t count, size_t k, const float *source, size_t ld, bool across, float *panel) {
    if (!across) {
        if (count == MR) pack_transposed(MR, MR, MR, k, source, ld, panel);
        else pack_transposed(count, MR, MR, k, source, ld, panel);
        return;
    }
    const M read = v_mask(count), written = v_mask(MR);
    for (size_t p = 0; p < k; ++p) v_store_masked(written, panel + p * MR, v_load_masked(read, source + p * ld));
}

static void pack_b(size_t count, size_t k, const float *source, size_t ld, bool across, float *panel) {
    if (!across) {
        for (size_t j = 0; j < NR; j += LANES) {
            if (count >= j + LANES) pack_transposed(LANES, LANES, NR, k, source + j * ld, ld, panel + j);
            else pack_transposed(count > j ? count - j : 0, LANES, NR, k, source + j * ld, ld, panel + j);
        }
    } else if (count == NR) {
        for (size_t p = 0; p < k; ++p)
            for (size_t j = 0; j < NR; j += LANES) v_store(panel + p * NR + j, v_load(source + p * ld + j));
    } else {
        for (size_t j = 0; j < NR; j += LANES) {
            const M read = v_mask(count > j ? count - j : 0);
            for (size_t p = 0; p < k; ++p) v_store(panel + p * NR + j, v_load_masked(read, source + p * ld + j));
        }
    }
}

/// ROWS and WIDTH (vectors of columns, the last perhaps masked) are constants wherever this is inlined.
VECTOR_INLINE void run(const struct gemm_f32_tile *t, const int ROWS, const int WIDTH, const bool masked) {
    V sum[MR][VECTORS];
#pragma clang loop unroll(full)
    for (int i = 0; i < ROWS; ++i)
#pragma clang loop unroll(full)
        for (int j = 0; j < WIDTH; ++j) sum[i][j] = v_zero();
    const float *a = t->a, *b = t->b;
#pragma clang loop unroll(disable)
    for (size_t p = t->k; p != 0; --p, a += MR, b += NR) {
        V row[VECTORS];
#pragma clang loop unroll(full)
        for (int j = 0; j < WIDTH; ++j) row[j] = v_load(b + j * LANES);
#pragma clang loop unroll(full)
        for (int i = 0; i < ROWS; ++i) {
            const V element = v_set(a[i]);
#pragma clang loop unroll(full)
            for (int j = 0; j < WIDTH; ++j) sum[i][j] = v_fma(element, row[j], sum[i][j]);
        }
    }
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

#define ROWS_CASE(rows)                                      \
    case rows:                                               \
        if (t->columns == NR) run(t, rows, VECTORS, false);  \
        else if (t->columns > LANES) run(t, rows, 2, true);  \
        else run(t, rows, 1, true);                          \
        break;
_Static_assert(VECTORS == 2, "tile() chooses between one and two vectors");
