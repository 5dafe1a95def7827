#if defined(__x86_64__)
#define KERNEL(part) attention_bf16_amx_##part
#include "attention/attention.h"

#include <string.h>
#define VECTOR_TARGET "avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16,amx-tile,amx-bf16"
#define VECTOR_ROUNDS_TO_BF16
#include "cpu/vector_avx512.h"
#include "cpu/tiles.h"
#include "attention/attention_bf16_pairs.h"

// As with AVX512-BF16, except that the left operand of a matmul must be rows of pairs. Where the sum runs over keys,
// the transposed product is computed: Oᵀ = Vᵀ·Pᵀ and dQᵀ = Kᵀ·dSᵀ. Depths are multiples of a tile's, padded with zeros;
// rows beyond the last one of a tile hold anything, and so do the results that are not read.
enum { HALF = TILE_SIDE, UNIT = 2 * HALF };

VECTOR_INLINE size_t whole_units(size_t count) { return (count + UNIT - 1) / UNIT * UNIT; }

/// out[m,n] = Σ over `steps` tiles of 16 pairs.
VECTOR_INLINE void tile_product(const int A_TILES, const int B_TILES, size_t steps, const float *a, size_t lda,
                                const float *b, size_t ldb, float *out, size_t ldo) {
    tiles_clear_sums();
    for (; steps != 0; --steps, a += HALF, b += HALF * ldb) {
        _tile_loadd(6, b, ldb * 4);
        _tile_loadd(4, a, lda * 4);
        if (B_TILES == 2) _tile_loadd(7, b + HALF, ldb * 4);
        if (A_TILES == 2) _tile_loadd(5, a + HALF * lda, lda * 4);
        TILES_MULTIPLY(A_TILES, B_TILES, _tile_dpbf16ps);
    }
    tiles_store_sums(A_TILES, B_TILES, out, ldo);
}

/// out[m,n] for at most 32 rows and columns, rounded up to 16: `a` is rows of pairs, `b` interleaved pairs.
static void KERNEL(multiply)(size_t m, size_t n, size_t steps, const float *a, size_t lda, const float *b, size_t ldb,
                             float *out, size_t ldo) {
    if (m > HALF && n > HALF) tile_product(2, 2, steps, a, lda, b, ldb, out, ldo);
    else if (m > HALF) tile_product(2, 1, steps, a, lda, b, ldb, out, ldo);
    else if (n > HALF) tile_product(1, 2, steps, a, lda, b, ldb, out, ldo);
    else tile_product(1, 1, steps, a, lda, b, ldb, out, ldo);
}

VECTOR_INLINE size_t min(size_t a, size_t b) { return a < b ? a : b; }
VECTOR_INLINE void clear(float *from, const float *end) { memset(from, 0, (size_t)(end - from) * sizeof(float)); }

/// rows[column][pair] from interleaved pairs [pair][ld]; `pairs` and ld are whole vectors.
static void KERNEL(transpose_interleaved)(size_t pairs, size_t ld, const float *interleaved, float *rows) {
    for (size_t j = 0; j < ld; j += LANES)
        for (size_t i = 0; i < pairs; i += LANES) {
            V block[LANES];
            for (size_t lane = 0; lane < LANES; ++lane) block[lane] = v_load(interleaved + (i + lane) * ld + j);
            v_transpose(block);
            for (size_t lane = 0; lane < LANES; ++lane) v_store(rows + (j + lane) * pairs + i, block[lane]);
        }
}

/// Stores columns of `sums` [width, BLOCK], times the column's `factor`, as `count` rounded rows.
static void KERNEL(store_columns)(size_t count, size_t width, const float *sums, const float *factor, uint16_t *out,
                                  size_t stride) {
    for (size_t i = 0; i < count; i += LANES) {
        const V by = v_load(factor + i);
        for (size_t j = 0; j < width; j += LANES) {
            V block[LANES];
            for (size_t lane = 0; lane < LANES; ++lane)
                block[lane] = v_multiply(v_load(sums + (j + lane) * BLOCK + i), by);
            v_transpose(block);
            const M mask = v_mask(width - j);
            for (size_t lane = 0; lane < LANES && i + lane < count; ++lane)
                v_store_bf16_masked(mask, out + (i + lane) * stride + j, block[lane]);
        }
    }
}

/// Stores `count` rows of `sums`, times `scale`, rounded.
static void KERNEL(store_rows)(size_t count, size_t width, const float *sums, float scale, uint16_t *out,
                               size_t stride) {
    const V by = v_set(scale);
    for (size_t i = 0; i < count; ++i)
        for (size_t j = 0; j < width; j += LANES)
            v_store_bf16_masked(v_mask(width - j), out + i * stride + j, v_multiply(v_load(sums + i * BLOCK + j), by));
}

static void KERNEL(forward)(const struct attention_head *head, void *output, float *log_sum_exp, float *scratch) {
    const size_t tokens = head->tokens, size = head->head_size, ld = whole_vectors(size);
    const size_t depth = whole_units(size) / 2, key_pairs = whole_units(tokens) / 2;
    float *const k_rows = take(&scratch, 2 * key_pairs * depth);
    float *const v_interleaved = take(&scratch, key_pairs * ld), *const v_columns = take(&scratch, ld * key_pairs);
    float *const q_transposed = take(&scratch, depth * BLOCK);
    float *const p = take(&scratch, 2 * key_pairs * BLOCK);
    float *const sums = take(&scratch, ld * BLOCK), *const factor = take(&scratch, BLOCK);
    arrange(tokens, size, head->k, head->kv_stride, depth, k_rows, NULL);
    arrange(tokens, size, head->v, head->kv_stride, depth, NULL, v_interleaved);
    clear(v_interleaved + pairs_in(tokens) * ld, v_interleaved + key_pairs * ld);
    KERNEL(transpose_interleaved)(key_pairs, ld, v_interleaved, v_columns);
    clear(q_transposed + pairs_in(size) * BLOCK, q_transposed + depth * BLOCK);
    struct ahead ahead = next_head(head, size, 2);
    add_ahead(&ahead, head->k, head->next_kv, head->kv_stride, tokens, 2);
    add_ahead(&ahead, head->v, head->next_kv, head->kv_stride, tokens, 2);
    add_ahead(&ahead, head->q, head->next_q, head->q_stride, head->queries, 2);
    add_ahead(&ahead, output, head->next_output, head->output_stride, head->queries, 2);
    spread_ahead(&ahead, key_pairs / HALF * (whole_units(head->queries) / UNIT));
    tiles_begin();
    for (size_t first = 0; first < head->queries; first += BLOCK) {
        const size_t queries = min(head->queries - first, BLOCK);
        put_transposed(queries, size, row_at(head->q, first, head->q_stride), head->q_stride, q_transposed);
        for (size_t i = 0; i < tokens; i += UNIT) {
            fetch_ahead(&ahead);
            KERNEL(multiply)(min(tokens - i, UNIT), queries, depth / HALF, k_rows + i * depth, depth, q_transposed,
                             BLOCK, p + i * BLOCK, BLOCK);
        }
        float *const logs = log_sum_exp ? log_sum_exp + first : NULL;
        if (queries > LANES) exponentiate(2, tokens, queries, head->scale, p, factor, logs);
        else exponentiate(1, tokens, queries, head->scale, p, factor, logs);
        clear(p + pairs_in(tokens) * BLOCK, p + key_pairs * BLOCK);
        for (size_t j = 0; j < size; j += UNIT)
            KERNEL(multiply)(min(size - j, UNIT), queries, key_pairs / HALF, v_columns + j * key_pairs, key_pairs, p,
                             BLOCK, sums + j * BLOCK, BLOCK);
        KERNEL(store_columns)(queries, size, sums, factor, (uint16_t *)output + first * head->output_stride,
                              head->output_stride);
    }
    _tile_release();
}

static void KERNEL(backward)(const struct attention_head *head, const void *output, const float *log_sum_exp,
                             const void *d_output, void *d_q, void *d_k, void *d_v, float *scratch) {
    const size_t tokens = head->tokens, size = head->head_size, ld = whole_vectors(size);
    const size_t q_stride = head->q_stride, kv_stride = head->kv_stride, output_stride = head->output_stride;
    const size_t depth = whole_units(size) / 2, key_pairs = whole_units(tokens) / 2,
                 query_pairs = whole_units(head->queries) / 2;
    float *const k_rows = take(&scratch, 2 * key_pairs * depth), *const v_rows = take(&scratch, 2 * key_pairs * depth);
    float *const k_interleaved = take(&scratch, key_pairs * ld), *const k_columns = take(&scratch, ld * key_pairs);
    float *const q_interleaved = take(&scratch, query_pairs * ld), *const d_interleaved =
                                                                       take(&scratch, query_pairs * ld);
    float *const q_transposed = take(&scratch, depth * BLOCK), *const d_transposed = take(&scratch, depth * BLOCK);
    float *const o_transposed = take(&scratch, depth * BLOCK), *const gradient_interleaved =
                                                                   take(&scratch, key_pairs * BLOCK);
    float *const p_rows = take(&scratch, 2 * key_pairs * query_pairs), *const gradient_rows =
                                                                           take(&scratch, 2 * key_pairs * query_pairs);
    float *const scores = take(&scratch, UNIT * BLOCK), *const d_p = take(&scratch, UNIT * BLOCK);
    float *const sums = take(&scratch, ld * BLOCK);
    float *const offset = take(&scratch, BLOCK), *const delta = take(&scratch, BLOCK),
                 *const scales = take(&scratch, BLOCK);
    arrange(tokens, size, head->k, kv_stride, depth, k_rows, k_interleaved);
    arrange(tokens, size, head->v, kv_stride, depth, v_rows, NULL);
    arrange(head->queries, size, head->q, q_stride, depth, NULL, q_interleaved);
    arrange(head->queries, size, d_output, output_stride, depth, NULL, d_interleaved);
    clear(k_interleaved + pairs_in(tokens) * ld, k_interleaved + key_pairs * ld);
    clear(q_interleaved + pairs_in(head->queries) * ld, q_interleaved + query_pairs * ld);
    clear(d_interleaved + pairs_in(head->queries) * ld, d_interleaved + query_pairs * ld);
    KERNEL(transpose_interleaved)(key_pairs, ld, k_interleaved, k_columns);
    clear(q_transposed + pairs_in(size) * BLOCK, q_transposed + depth * BLOCK);
    clear(d_transposed + pairs_in(size) * BLOCK, d_transposed + depth * BLOCK);
    for (size_t i = 0; i < BLOCK; i += LANES) v_store(scales + i, v_set(head->scale));
    struct ahead ahead = next_head(head, size, 2);
    const void *const of_keys[] = {head->k, head->v, d_k, d_v}, *const of_queries[] = {head->q, d_q, d_output, output};
    for (int i = 0; i < 4; ++i) add_ahead(&ahead, of_keys[i], head->next_kv, kv_stride, tokens, 2);
    for (int i = 0; i < 2; ++i) add_ahead(&ahead, of_queries[i], head->next_q, q_stride, head->queries, 2);
    for (int i = 2; i < 4; ++i) add_ahead(&ahead, of_queries[i], head->next_output, output_stride, head->queries, 2);
    spread_ahead(&ahead, key_pairs / HALF * (query_pairs / HALF));
    tiles_begin();
    for (size_t first = 0; first < head->queries; first += BLOCK) {
        const size_t queries = min(head->queries - first, BLOCK);
        put_transposed(queries, size, row_at(head->q, first, q_stride), q_stride, q_transposed);
        put_transposed(queries, size, row_at(d_output, first, output_stride), output_stride, d_transposed);
        put_transposed(queries, size, row_at(output, first, output_stride), output_stride, o_transposed);
        for (size_t i = 0; i < queries; i += LANES) {
            V sum = v_zero();
            for (size_t step = 0; step < pairs_in(size); ++step)
                sum = _mm512_dpbf16_ps(sum, (__m512bh)v_load(d_transposed + step * BLOCK + i),
                                       (__m512bh)v_load(o_transposed + step * BLOCK + i));
            v_store(delta + i, sum);
            v_store(offset + i, v_multiply(v_load_masked(v_mask(queries - i), log_sum_exp + first + i), v_set(log2_e)));
        }
        for (size_t i = 0; i < tokens; i += UNIT) {
            const size_t rows = min(tokens - i, UNIT);
            fetch_ahead(&ahead);
            KERNEL(multiply)(rows, queries, depth / HALF, k_rows + i * depth, depth, q_transposed, BLOCK, scores,
                             BLOCK);
            KERNEL(multiply)(rows, queries, depth / HALF, v_rows + i * depth, depth, d_transposed, BLOCK, d_p, BLOCK);
            float *const p_at = p_rows + i * query_pairs + first / 2, *const d_at =
                                                                          gradient_rows + i * query_pairs + first / 2;
            float *const transposed = gradient_interleaved + i / 2 * BLOCK;
            if (queries > LANES)
                differentiate(2, rows, head->scale, scores, d_p, offset, delta, p_at, d_at, query_pairs, transposed);
            else differentiate(1, rows, head->scale, scores, d_p, offset, delta, p_at, d_at, query_pairs, transposed);
        }
        clear(gradient_interleaved + pairs_in(tokens) * BLOCK, gradient_interleaved + key_pairs * BLOCK);
        for (size_t j = 0; j < size; j += UNIT)
            KERNEL(multiply)(min(size - j, UNIT), queries, key_pairs / HALF, k_columns + j * key_pairs, key_pairs,
                             gradient_interleaved, BLOCK, sums + j * BLOCK, BLOCK);
        KERNEL(store_columns)(queries, size, sums, scales, (uint16_t *)d_q + first * q_stride, q_stride);
    }
    for (size_t i = 0; i < tokens; i += UNIT)
        for (size_t j = 0; j < size; j += UNIT) {
            const size_t rows = min(tokens - i, UNIT), columns = min(size - j, UNIT), steps = query_pairs / HALF;
            KERNEL(multiply)(rows, columns, steps, gradient_rows + i * query_pairs, query_pairs, q_interleaved + j, ld,
                             scores, BLOCK);
            KERNEL(store_rows)(rows, columns, scores, head->scale, (uint16_t *)d_k + i * kv_stride + j, kv_stride);
            KERNEL(multiply)(rows, columns, steps, p_rows + i * query_pairs, query_pairs, d_interleaved + j, ld, d_p,
                             BLOCK);
            KERNEL(store_rows)(rows, columns, d_p, 1, (uint16_t *)d_v + i * kv_stride + j, kv_stride);
        }
    _tile_release();
}

const struct attention_kernels attention_bf16_amx = {KERNEL(forward), KERNEL(backward)};
#pragma clang attribute pop
#endif
