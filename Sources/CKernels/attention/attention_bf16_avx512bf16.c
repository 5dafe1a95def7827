#if defined(__x86_64__)
#define KERNEL(part) attention_bf16_avx512bf16_##part
#include "attention/attention.h"
#define VECTOR_TARGET "avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16"
#define VECTOR_ROUNDS_TO_BF16
#include "cpu/vector_avx512.h"
#include "attention/attention_bf16_pairs.h"

enum { MR = 14, VECTORS = 2, REGISTERS = 32, STEPS = 1 };
#include "gemm/register_tile_f32.h"

/// sum[i][j] = Σ over p < steps, in rising order, of the pairs a[i·a_row + p·a_step] · b[p·b_step + lanes of j].
VECTOR_INLINE void pair_product(const int ROWS, const int WIDTH, size_t steps, const float *a, size_t a_row,
                                size_t a_step, const float *b, size_t b_step, V sum[MR][VECTORS]) {
#pragma clang loop unroll(full)
    for (int i = 0; i < ROWS; ++i)
#pragma clang loop unroll(full)
        for (int j = 0; j < WIDTH; ++j) sum[i][j] = v_zero();
#pragma clang loop unroll(disable)
    for (; steps != 0; --steps, a += a_step, b += b_step) {
        __m512bh row[VECTORS];
#pragma clang loop unroll(full)
        for (int j = 0; j < WIDTH; ++j) row[j] = (__m512bh)v_load(b + j * LANES);
#pragma clang loop unroll(full)
        for (int i = 0; i < ROWS; ++i) {
            const __m512bh element = (__m512bh)v_set(a[(size_t)i * a_row]);
#pragma clang loop unroll(full)
            for (int j = 0; j < WIDTH; ++j) sum[i][j] = _mm512_dpbf16_ps(sum[i][j], element, row[j]);
        }
    }
}

VECTOR_INLINE void run_score(const int ROWS, const int WIDTH, size_t steps, const float *rows, const float *transposed,
                             float *out) {
    V sum[MR][VECTORS];
    pair_product(ROWS, WIDTH, steps, rows, steps, 1, transposed, BLOCK, sum);
#pragma clang loop unroll(full)
    for (int i = 0; i < ROWS; ++i)
#pragma clang loop unroll(full)
        for (int j = 0; j < WIDTH; ++j) v_store(out + i * BLOCK + j * LANES, sum[i][j]);
}
/// out[i·BLOCK + query] = Σ over pairs of row i < count <= MR of keys or values times the transposed operand.
static void KERNEL(score)(size_t count, size_t queries, size_t steps, const float *rows, const float *transposed,
                          float *out) {
#define RUN(rows_, width, masked) run_score(rows_, width, steps, rows, transposed, out)
    switch (count) { TILE_CASES(queries, RUN) }
#undef RUN
}

/// out[m,n] = a·b · factor[m] or scale, rounded.
struct product {
    size_t m, n, steps;
    const float *a;
    size_t a_row; ///< 1: a is interleaved, in steps of BLOCK; otherwise rows of pairs
    const float *b;
    size_t ldb;
    uint16_t *out;
    size_t ldo;
    const float *factor; ///< or NULL: scale
    float scale;
    struct ahead *ahead;
};

VECTOR_INLINE void run(const struct product *s, const bool transposed, size_t i0, size_t j0, const int ROWS,
                       const int WIDTH) {
    V sum[MR][VECTORS];
    if (transposed) pair_product(ROWS, WIDTH, s->steps, s->a + i0, 1, BLOCK, s->b + j0, s->ldb, sum);
    else pair_product(ROWS, WIDTH, s->steps, s->a + i0 * s->a_row, s->a_row, 1, s->b + j0, s->ldb, sum);
    uint16_t *const out = s->out + i0 * s->ldo + j0;
    const M last = v_mask(s->n - j0 - (size_t)(WIDTH - 1) * LANES);
#pragma clang loop unroll(full)
    for (int i = 0; i < ROWS; ++i) {
        const V factor = v_set(s->factor ? s->factor[i0 + (size_t)i] : s->scale);
#pragma clang loop unroll(full)
        for (int j = 0; j < WIDTH; ++j) {
            const V value = v_multiply(sum[i][j], factor);
            if (j == WIDTH - 1) v_store_bf16_masked(last, out + (size_t)i * s->ldo + j * LANES, value);
            else v_store_bf16(out + (size_t)i * s->ldo + j * LANES, value);
        }
    }
}
static void KERNEL(run_rows)(const struct product *s, size_t i, size_t j, size_t rows) {
#define RUN(rows, width, masked) run(s, false, i, j, rows, width)
    switch (rows) { TILE_CASES(s->n - j, RUN) }
#undef RUN
}
static void KERNEL(run_transposed)(const struct product *s, size_t i, size_t j, size_t rows) {
#define RUN(rows, width, masked) run(s, true, i, j, rows, width)
    switch (rows) { TILE_CASES(s->n - j, RUN) }
#undef RUN
}
static size_t tiles(size_t m, size_t n) { return ((m + MR - 1) / MR) * ((n + NR - 1) / NR); }
static void KERNEL(multiply)(const struct product *s) {
    const size_t count = tiles(s->m, 1);
    for (size_t tile = 0, i = 0; tile < count; ++tile) {
        const size_t end = s->m * (tile + 1) / count;
        for (size_t j = 0; j < s->n; j += NR) {
            fetch_ahead(s->ahead);
            if (s->a_row == 1) KERNEL(run_transposed)(s, i, j, end - i);
            else KERNEL(run_rows)(s, i, j, end - i);
        }
        i = end;
    }
}

static void KERNEL(forward)(const struct attention_head *head, void *output, float *log_sum_exp, float *scratch) {
    const size_t tokens = head->tokens, size = head->head_size, steps = pairs_in(size), ld = whole_vectors(size);
    float *const k_rows = take(&scratch, tokens * steps);
    float *const v_interleaved = take(&scratch, pairs_in(tokens) * ld);
    float *const q_transposed = take(&scratch, steps * BLOCK);
    float *const p = take(&scratch, tokens * BLOCK);
    float *const factor = take(&scratch, BLOCK);
    arrange(tokens, size, head->k, head->kv_stride, steps, k_rows, NULL);
    arrange(tokens, size, head->v, head->kv_stride, steps, NULL, v_interleaved);
    struct ahead ahead = next_head(head, size, 2);
    add_ahead(&ahead, head->k, head->next_kv, head->kv_stride, tokens, 2);
    add_ahead(&ahead, head->v, head->next_kv, head->kv_stride, tokens, 2);
    add_ahead(&ahead, head->q, head->next_q, head->q_stride, head->queries, 2);
    add_ahead(&ahead, output, head->next_output, head->output_stride, head->queries, 2);
    spread_ahead(&ahead, tiles(tokens, head->queries) + tiles(head->queries, size));
    for (size_t first = 0; first < head->queries; first += BLOCK) {
        const size_t queries = head->queries - first < BLOCK ? head->queries - first : BLOCK, count = tiles(tokens, 1);
        put_transposed(queries, size, row_at(head->q, first, head->q_stride), head->q_stride, q_transposed);
        for (size_t tile = 0, i = 0; tile < count; ++tile) {
            const size_t end = tokens * (tile + 1) / count;
            fetch_ahead(&ahead);
            KERNEL(score)(end - i, queries, steps, k_rows + i * steps, q_transposed, p + i * BLOCK);
            i = end;
        }
        float *const logs = log_sum_exp ? log_sum_exp + first : NULL;
        if (queries > LANES) exponentiate(2, tokens, queries, head->scale, p, factor, logs);
        else exponentiate(1, tokens, queries, head->scale, p, factor, logs);
        KERNEL(multiply)(&(struct product){.m = queries,
                                           .n = size,
                                           .steps = pairs_in(tokens),
                                           .a = p,
                                           .a_row = 1,
                                           .b = v_interleaved,
                                           .ldb = ld,
                                           .out = (uint16_t *)output + first * head->output_stride,
                                           .ldo = head->output_stride,
                                           .factor = factor,
                                           .ahead = &ahead});
    }
}

static void KERNEL(backward)(const struct attention_head *head, const void *output, const float *log_sum_exp,
                             const void *d_output, void *d_q, void *d_k, void *d_v, float *scratch) {
    const size_t tokens = head->tokens, size = head->head_size, steps = pairs_in(size), ld = whole_vectors(size);
    const size_t q_stride = head->q_stride, kv_stride = head->kv_stride, output_stride = head->output_stride;
    const size_t key_pairs = pairs_in(tokens), query_pairs = pairs_in(head->queries);
    const size_t rows_ld = (head->queries + BLOCK - 1) / BLOCK * BLOCK / 2;
    float *const k_rows = take(&scratch, tokens * steps), *const v_rows = take(&scratch, tokens * steps);
    float *const k_interleaved = take(&scratch, key_pairs * ld);
    float *const q_interleaved = take(&scratch, query_pairs * ld), *const d_interleaved =
                                                                       take(&scratch, query_pairs * ld);
    float *const q_transposed = take(&scratch, steps * BLOCK), *const d_transposed = take(&scratch, steps * BLOCK);
    float *const o_transposed = take(&scratch, steps * BLOCK), *const gradient_interleaved =
                                                                   take(&scratch, key_pairs * BLOCK);
    float *const p_rows = take(&scratch, tokens * rows_ld), *const gradient_rows = take(&scratch, tokens * rows_ld);
    float *const scores = take(&scratch, MR * BLOCK), *const d_p = take(&scratch, MR * BLOCK);
    float *const offset = take(&scratch, BLOCK), *const delta = take(&scratch, BLOCK);
    arrange(tokens, size, head->k, kv_stride, steps, k_rows, k_interleaved);
    arrange(tokens, size, head->v, kv_stride, steps, v_rows, NULL);
    arrange(head->queries, size, head->q, q_stride, steps, NULL, q_interleaved);
    arrange(head->queries, size, d_output, output_stride, steps, NULL, d_interleaved);
    struct ahead ahead = next_head(head, size, 2);
    const void *const of_keys[] = {head->k, head->v, d_k, d_v}, *const of_queries[] = {head->q, d_q, d_output, output};
    for (int i = 0; i < 4; ++i) add_ahead(&ahead, of_keys[i], head->next_kv, kv_stride, tokens, 2);
    for (int i = 0; i < 2; ++i) add_ahead(&ahead, of_queries[i], head->next_q, q_stride, head->queries, 2);
    for (int i = 2; i < 4; ++i) add_ahead(&ahead, of_queries[i], head->next_output, output_stride, head->queries, 2);
    const size_t count = (key_pairs + MR / 2 - 1) / (MR / 2);
    spread_ahead(&ahead, count * ((head->queries + BLOCK - 1) / BLOCK) + 3 * tiles(tokens, size));
    for (size_t first = 0; first < head->queries; first += BLOCK) {
        const size_t queries = head->queries - first < BLOCK ? head->queries - first : BLOCK;
        put_transposed(queries, size, row_at(head->q, first, q_stride), q_stride, q_transposed);
        put_transposed(queries, size, row_at(d_output, first, output_stride), output_stride, d_transposed);
        put_transposed(queries, size, row_at(output, first, output_stride), output_stride, o_transposed);
        for (size_t i = 0; i < queries; i += LANES) {
            V sum = v_zero();
            for (size_t step = 0; step < steps; ++step)
                sum = _mm512_dpbf16_ps(sum, (__m512bh)v_load(d_transposed + step * BLOCK + i),
                                       (__m512bh)v_load(o_transposed + step * BLOCK + i));
            v_store(delta + i, sum);
            v_store(offset + i, v_multiply(v_load_masked(v_mask(queries - i), log_sum_exp + first + i), v_set(log2_e)));
        }
        for (size_t tile = 0, i = 0; tile < count; ++tile) {
            const size_t after = 2 * (key_pairs * (tile + 1) / count), end = after < tokens ? after : tokens,
                         rows = end - i;
            fetch_ahead(&ahead);
            KERNEL(score)(rows, queries, steps, k_rows + i * steps, q_transposed, scores);
            KERNEL(score)(rows, queries, steps, v_rows + i * steps, d_transposed, d_p);
            float *const p_at = p_rows + i * rows_ld + first / 2, *const d_at = gradient_rows + i * rows_ld + first / 2;
            float *const transposed = gradient_interleaved + i / 2 * BLOCK;
            if (queries > LANES)
                differentiate(2, rows, head->scale, scores, d_p, offset, delta, p_at, d_at, rows_ld, transposed);
            else differentiate(1, rows, head->scale, scores, d_p, offset, delta, p_at, d_at, rows_ld, transposed);
            i = end;
        }
        KERNEL(multiply)(&(struct product){.m = queries,
                                           .n = size,
                                           .steps = key_pairs,
                                           .a = gradient_interleaved,
                                           .a_row = 1,
                                           .b = k_interleaved,
                                           .ldb = ld,
                                           .out = (uint16_t *)d_q + first * q_stride,
                                           .ldo = q_stride,
                                           .scale = head->scale,
                                           .ahead = &ahead});
    }
    KERNEL(multiply)(&(struct product){.m = tokens,
                                       .n = size,
                                       .steps = query_pairs,
                                       .a = gradient_rows,
                                       .a_row = rows_ld,
                                       .b = q_interleaved,
                                       .ldb = ld,
                                       .out = d_k,
                                       .ldo = kv_stride,
                                       .scale = head->scale,
                                       .ahead = &ahead});
    KERNEL(multiply)(&(struct product){.m = tokens,
                                       .n = size,
                                       .steps = query_pairs,
                                       .a = p_rows,
                                       .a_row = rows_ld,
                                       .b = d_interleaved,
                                       .ldb = ld,
                                       .out = d_v,
                                       .ldo = kv_stride,
                                       .scale = 1,
                                       .ahead = &ahead});
}

const struct attention_kernels attention_bf16_avx512bf16 = {KERNEL(forward), KERNEL(backward)};
#pragma clang attribute pop
#endif
