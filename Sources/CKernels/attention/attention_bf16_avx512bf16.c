#if defined(__x86_64__)
#include "attention/attention.h"
#define VECTOR_TARGET "avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16"
#define VECTOR_ROUNDS_TO_BF16
#include "cpu/vector_avx512.h"
#include "attention/fetch_ahead.h"

enum { MR = 14, VECTORS = 2, REGISTERS = 32, STEPS = 1 };
#include "gemm/register_tile_f32.h"

// Scores are kept as in the other variants, [key, query], but in blocks of one tile's width of queries. A lane of 32 bits is a pair of
// neighbours in the dimension that is summed over. In memory a row of Q, K, V or dO is a row of pairs already, and so is a row of P or
// dS, [key, query], once it is rounded; the other arrangements are
//   across  [pair of columns][row]: a vector holds one pair of 16 rows
//   down    [pair of rows][column]: a lane holds two rows' elements of one column
// P and dS of the whole head wait, rounded, in the second-level cache for the products that sum over all queries.
enum { BLOCK = NR };

/// Lanes of two vectors, taken in turn.
VECTOR_INLINE __m512i alternating(int first) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i low = _mm512_add_epi32(lane, _mm512_set1_epi32(first));
    return _mm512_or_si512(low, _mm512_slli_epi32(_mm512_add_epi32(low, _mm512_set1_epi32(32)), 16));
}
/// Two rows of 32 elements as two vectors of pairs down.
VECTOR_INLINE void store_down(M left[2], float *down, __m512i first, __m512i second) {
    v_store_masked(left[0], down, _mm512_castsi512_ps(_mm512_permutex2var_epi16(first, alternating(0), second)));
    v_store_masked(left[1], down + LANES, _mm512_castsi512_ps(_mm512_permutex2var_epi16(first, alternating(16), second)));
}
/// The rounded pairs (first[i], second[i]).
VECTOR_INLINE V pairs_across(V first, V second) {
    const __m512i halves = (__m512i)_mm512_cvtne2ps_pbh(second, first);
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i order = _mm512_or_si512(lane, _mm512_slli_epi32(_mm512_add_epi32(lane, _mm512_set1_epi32(16)), 16));
    return _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, halves));
}
VECTOR_INLINE __mmask32 half_mask(size_t count) { return count >= 32 ? 0xffffffffu : (1u << count) - 1; }
VECTOR_INLINE size_t whole_vectors(size_t count) { return (count + LANES - 1) / LANES * LANES; }
VECTOR_INLINE size_t pairs_in(size_t count) { return (count + 1) / 2; }

static const uint16_t *row_at(const void *matrix, size_t row, size_t stride) { return (const uint16_t *)matrix + row * stride; }

/// Copies [rows, width] to rows of pairs side by side at `along`, and to pairs down with rows of whole vectors at `down`; either may
/// be NULL. Zeros fill both up.
static void arrange(size_t rows, size_t width, const void *source, size_t stride, float *along, float *down) {
    const size_t steps = pairs_in(width), ld = whole_vectors(width);
    for (size_t j = 0; j < width; j += 32) {
        const __mmask32 read = half_mask(width - j);
        const M written = v_mask(steps - j / 2);
        M left[2] = {v_mask(ld - j), v_mask(ld - j > LANES ? LANES : 0)};
        for (size_t i = 0; i < rows; i += 2) {
            const __m512i first = _mm512_maskz_loadu_epi16(read, row_at(source, i, stride) + j);
            const __m512i second =
                i + 1 < rows ? _mm512_maskz_loadu_epi16(read, row_at(source, i + 1, stride) + j) : _mm512_setzero_si512();
            if (along) {
                v_store_masked(written, along + i * steps + j / 2, _mm512_castsi512_ps(first));
                if (i + 1 < rows) v_store_masked(written, along + (i + 1) * steps + j / 2, _mm512_castsi512_ps(second));
            }
            if (down) store_down(left, down + i / 2 * ld + j, first, second);
        }
    }
}

/// across[p·BLOCK + i] = pair p of row i, zero from `rows` to the end of its vector.
static void put_across(size_t rows, size_t width, const void *source, size_t stride, float *across) {
    for (size_t first = 0; first < rows; first += LANES)
        for (size_t j = 0; j < width; j += 32) {
            const __mmask32 read = half_mask(width - j);
            const size_t depth = pairs_in(width - j) < LANES ? pairs_in(width - j) : LANES;
            V pairs[LANES];
            for (size_t i = 0; i < LANES; ++i)
                pairs[i] = first + i < rows
                               ? _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(read, row_at(source, first + i, stride) + j))
                               : v_zero();
            v_transpose(pairs);
            for (size_t p = 0; p < depth; ++p) v_store(across + (j / 2 + p) * BLOCK + first, pairs[p]);
        }
}

/// sum[i][j] = Σ over p < steps, in rising order, of the pairs a[i·a_row + p·a_step] · b[p·b_step + lanes of j].
VECTOR_INLINE void pair_product(const int ROWS, const int WIDTH, size_t steps, const float *a, size_t a_row, size_t a_step,
                                const float *b, size_t b_step, V sum[MR][VECTORS]) {
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

VECTOR_INLINE void run_score(const int ROWS, const int WIDTH, size_t steps, const float *rows, const float *across, float *out) {
    V sum[MR][VECTORS];
    pair_product(ROWS, WIDTH, steps, rows, steps, 1, across, BLOCK, sum);
#pragma clang loop unroll(full)
    for (int i = 0; i < ROWS; ++i)
#pragma clang loop unroll(full)
        for (int j = 0; j < WIDTH; ++j) v_store(out + i * BLOCK + j * LANES, sum[i][j]);
}
/// out[i·BLOCK + query] = Σ over pairs of a key's or value's row i < count <= MR and of what is across.
static void score(size_t count, size_t queries, size_t steps, const float *rows, const float *across, float *out) {
#define RUN(rows_, width, masked) run_score(rows_, width, steps, rows, across, out)
    switch (count) { TILE_CASES_14(queries, RUN) }
#undef RUN
}

/// out[m,n] = a·b · factor[m] or scale, rounded.
struct product {
    size_t m, n, steps;
    const float *a;
    size_t a_row;  ///< 1: a is across, in steps of BLOCK; otherwise rows of pairs
    const float *b;
    size_t ldb;
    uint16_t *out;
    size_t ldo;
    const float *factor;  ///< or NULL: scale
    float scale;
    struct ahead *ahead;
};

VECTOR_INLINE void run(const struct product *s, const bool across, size_t i0, size_t j0, const int ROWS, const int WIDTH) {
    V sum[MR][VECTORS];
    if (across) pair_product(ROWS, WIDTH, s->steps, s->a + i0, 1, BLOCK, s->b + j0, s->ldb, sum);
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
static void run_rows(const struct product *s, size_t i, size_t j, size_t rows) {
#define RUN(rows, width, masked) run(s, false, i, j, rows, width)
    switch (rows) { TILE_CASES_14(s->n - j, RUN) }
#undef RUN
}
static void run_across(const struct product *s, size_t i, size_t j, size_t rows) {
#define RUN(rows, width, masked) run(s, true, i, j, rows, width)
    switch (rows) { TILE_CASES_14(s->n - j, RUN) }
#undef RUN
}
static size_t tiles(size_t m, size_t n) { return ((m + MR - 1) / MR) * ((n + NR - 1) / NR); }
static void multiply(const struct product *s) {
    const size_t count = tiles(s->m, 1);
    for (size_t tile = 0, i = 0; tile < count; ++tile) {
        const size_t end = s->m * (tile + 1) / count;
        for (size_t j = 0; j < s->n; j += NR) {
            fetch_ahead(s->ahead);
            if (s->a_row == 1) run_across(s, i, j, end - i);
            else run_rows(s, i, j, end - i);
        }
        i = end;
    }
}

/// 2^x, to 3e-6 of itself: a minimax fit on half a unit to either side of a whole number. What is below the subnormals is zero.
VECTOR_INLINE V power_of_two(V x) {
    const V n = v_round(x), r = v_subtract(x, n);
    V p = v_set(0.009582853009444068f);
    p = v_fma(p, r, v_set(0.055906427267398834f));
    p = v_fma(p, r, v_set(0.24024098628957657f));
    p = v_fma(p, r, v_set(0.6931241930760839f));
    p = v_fma(p, r, v_set(1.0f));
    return v_scale(p, n);
}
/// ln x for x >= 1, to 1e-7: x = 2^n·m with m within a third of 1, ln m = 2·artanh((m - 1)/(m + 1)) by its series.
VECTOR_INLINE V logarithm(V x) {
    V m = _mm512_getmant_ps(x, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_zero), n = _mm512_getexp_ps(x);
    const __mmask16 high = _mm512_cmp_ps_mask(m, v_set(1.3333334f), _CMP_GT_OQ);
    m = _mm512_mask_mul_ps(m, high, m, v_set(0.5f));
    n = _mm512_mask_add_ps(n, high, n, v_set(1.0f));
    const V s = v_divide(v_subtract(m, v_set(1.0f)), v_add(m, v_set(1.0f))), square = v_multiply(s, s);
    V p = v_set(2.0f / 9);
    p = v_fma(p, square, v_set(2.0f / 7));
    p = v_fma(p, square, v_set(2.0f / 5));
    p = v_fma(p, square, v_set(2.0f / 3));
    p = v_fma(p, square, v_set(2.0f));
    return v_fma(n, v_set(0.69314718056f), v_multiply(p, s));
}
static const float log2_e = 1.44269504088896341f, ln_2 = 0.69314718055994531f;

/// Scores [tokens, BLOCK] become exp(scale·(score - greatest)), in the same memory: pairs across, [pair of keys][BLOCK], rounded.
/// factor = 1/sum; log_sum_exp of `count` queries, or NULL.
VECTOR_INLINE void exponentiate(const int WIDTH, size_t tokens, size_t count, float scale, float *scores, float *factor,
                                float *log_sum_exp) {
    V most[VECTORS], offset[VECTORS], sum[VECTORS];
    for (int j = 0; j < WIDTH; ++j) most[j] = v_load(scores + j * LANES);
    for (size_t i = 1; i < tokens; ++i)
        for (int j = 0; j < WIDTH; ++j) most[j] = v_max(most[j], v_load(scores + i * BLOCK + j * LANES));
    const V by = v_set(scale * log2_e);
    for (int j = 0; j < WIDTH; ++j) offset[j] = v_multiply(most[j], by), sum[j] = v_zero();
    for (size_t i = 0; i + 1 < tokens; i += 2)
        for (int j = 0; j < WIDTH; ++j) {
            const float *const at = scores + i * BLOCK + j * LANES;
            const V first = power_of_two(v_fms(v_load(at), by, offset[j]));
            const V second = power_of_two(v_fms(v_load(at + BLOCK), by, offset[j]));
            v_store(scores + i / 2 * BLOCK + j * LANES, pairs_across(first, second));
            sum[j] = v_add(sum[j], v_add(first, second));
        }
    for (int j = 0; j < WIDTH; ++j) {
        if (tokens % 2) {
            const V only = power_of_two(v_fms(v_load(scores + (tokens - 1) * BLOCK + j * LANES), by, offset[j]));
            v_store(scores + tokens / 2 * BLOCK + j * LANES, pairs_across(only, v_zero()));
            sum[j] = v_add(sum[j], only);
        }
        v_store(factor + j * LANES, v_divide(v_set(1.0f), sum[j]));
        const size_t first = (size_t)j * LANES;
        if (log_sum_exp && count > first)
            v_store_masked(v_mask(count - first), log_sum_exp + first, v_fma(offset[j], v_set(ln_2), logarithm(sum[j])));
    }
}

/// Hands out scratch memory in whole cache lines.
static float *take(float **scratch, size_t floats) {
    float *const part = *scratch;
    *scratch += whole_vectors(floats);
    return part;
}

static void forward(const struct attention_head *head, void *output, float *log_sum_exp, float *scratch) {
    const size_t tokens = head->tokens, size = head->head_size, steps = pairs_in(size), ld = whole_vectors(size);
    float *const k_rows = take(&scratch, tokens * steps);
    float *const v_down = take(&scratch, pairs_in(tokens) * ld);
    float *const q_across = take(&scratch, steps * BLOCK);
    float *const p = take(&scratch, tokens * BLOCK);
    float *const factor = take(&scratch, BLOCK);
    arrange(tokens, size, head->k, head->kv_stride, k_rows, NULL);
    arrange(tokens, size, head->v, head->kv_stride, NULL, v_down);
    struct ahead ahead = next_head(head, size, 2);
    add_ahead(&ahead, head->k, head->next_kv, head->kv_stride, tokens, 2);
    add_ahead(&ahead, head->v, head->next_kv, head->kv_stride, tokens, 2);
    add_ahead(&ahead, head->q, head->next_q, head->q_stride, head->queries, 2);
    add_ahead(&ahead, output, head->next_output, head->output_stride, head->queries, 2);
    spread_ahead(&ahead, tiles(tokens, head->queries) + tiles(head->queries, size));
    for (size_t first = 0; first < head->queries; first += BLOCK) {
        const size_t queries = head->queries - first < BLOCK ? head->queries - first : BLOCK, count = tiles(tokens, 1);
        put_across(queries, size, row_at(head->q, first, head->q_stride), head->q_stride, q_across);
        for (size_t tile = 0, i = 0; tile < count; ++tile) {
            const size_t end = tokens * (tile + 1) / count;
            fetch_ahead(&ahead);
            score(end - i, queries, steps, k_rows + i * steps, q_across, p + i * BLOCK);
            i = end;
        }
        float *const logs = log_sum_exp ? log_sum_exp + first : NULL;
        if (queries > LANES) exponentiate(2, tokens, queries, head->scale, p, factor, logs);
        else exponentiate(1, tokens, queries, head->scale, p, factor, logs);
        multiply(&(struct product){.m = queries, .n = size, .steps = pairs_in(tokens), .a = p, .a_row = 1, .b = v_down, .ldb = ld,
                                   .out = (uint16_t *)output + first * head->output_stride, .ldo = head->output_stride,
                                   .factor = factor, .ahead = &ahead});
    }
}

/// `rows` keys' scores and dP become P and dS, rounded: along rows of `ld` pairs, and dS across too.
VECTOR_INLINE void differentiate(const int WIDTH, size_t rows, float scale, const float *scores, const float *d_p, const float *offset,
                                 const float *delta, float *p_rows, float *d_rows, size_t ld, float *across) {
    M all[2] = {0xffff, 0xffff};
    const V by = v_set(scale * log2_e);
    V offsets[VECTORS], deltas[VECTORS];
    for (int j = 0; j < WIDTH; ++j) offsets[j] = v_load(offset + j * LANES), deltas[j] = v_load(delta + j * LANES);
    for (size_t i = 0; i < rows; i += 2) {
        __m512i gradient[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
#pragma clang loop unroll(full)
        for (size_t half = 0; half < 2; ++half) {
            if (i + half == rows) break;
            const float *const at = scores + (i + half) * BLOCK, *const d_at = d_p + (i + half) * BLOCK;
            V p[VECTORS] = {v_zero(), v_zero()}, d[VECTORS] = {v_zero(), v_zero()};
            for (int j = 0; j < WIDTH; ++j) {
                p[j] = power_of_two(v_fms(v_load(at + j * LANES), by, offsets[j]));
                d[j] = v_multiply(p[j], v_subtract(v_load(d_at + j * LANES), deltas[j]));
            }
            gradient[half] = (__m512i)_mm512_cvtne2ps_pbh(d[1], d[0]);
            _mm512_storeu_si512(p_rows + (i + half) * ld, (__m512i)_mm512_cvtne2ps_pbh(p[1], p[0]));
            _mm512_storeu_si512(d_rows + (i + half) * ld, gradient[half]);
        }
        store_down(all, across + i / 2 * BLOCK, gradient[0], gradient[1]);
    }
}

static void backward(const struct attention_head *head, const void *output, const float *log_sum_exp, const void *d_output, void *d_q,
                     void *d_k, void *d_v, float *scratch) {
    const size_t tokens = head->tokens, size = head->head_size, steps = pairs_in(size), ld = whole_vectors(size);
    const size_t q_stride = head->q_stride, kv_stride = head->kv_stride, output_stride = head->output_stride;
    const size_t key_pairs = pairs_in(tokens), query_pairs = pairs_in(head->queries);
    const size_t rows_ld = (head->queries + BLOCK - 1) / BLOCK * BLOCK / 2;
    float *const k_rows = take(&scratch, tokens * steps), *const v_rows = take(&scratch, tokens * steps);
    float *const k_down = take(&scratch, key_pairs * ld);
    float *const q_down = take(&scratch, query_pairs * ld), *const d_down = take(&scratch, query_pairs * ld);
    float *const q_across = take(&scratch, steps * BLOCK), *const d_across = take(&scratch, steps * BLOCK);
    float *const o_across = take(&scratch, steps * BLOCK), *const gradient_across = take(&scratch, key_pairs * BLOCK);
    float *const p_rows = take(&scratch, tokens * rows_ld), *const gradient_rows = take(&scratch, tokens * rows_ld);
    float *const scores = take(&scratch, MR * BLOCK), *const d_p = take(&scratch, MR * BLOCK);
    float *const offset = take(&scratch, BLOCK), *const delta = take(&scratch, BLOCK);
    arrange(tokens, size, head->k, kv_stride, k_rows, k_down);
    arrange(tokens, size, head->v, kv_stride, v_rows, NULL);
    arrange(head->queries, size, head->q, q_stride, NULL, q_down);
    arrange(head->queries, size, d_output, output_stride, NULL, d_down);
    struct ahead ahead = next_head(head, size, 2);
    const void *const of_keys[] = {head->k, head->v, d_k, d_v}, *const of_queries[] = {head->q, d_q, d_output, output};
    for (int i = 0; i < 4; ++i) add_ahead(&ahead, of_keys[i], head->next_kv, kv_stride, tokens, 2);
    for (int i = 0; i < 2; ++i) add_ahead(&ahead, of_queries[i], head->next_q, q_stride, head->queries, 2);
    for (int i = 2; i < 4; ++i) add_ahead(&ahead, of_queries[i], head->next_output, output_stride, head->queries, 2);
    const size_t count = (key_pairs + MR / 2 - 1) / (MR / 2);
    spread_ahead(&ahead, count * ((head->queries + BLOCK - 1) / BLOCK) + 3 * tiles(tokens, size));
    for (size_t first = 0; first < head->queries; first += BLOCK) {
        const size_t queries = head->queries - first < BLOCK ? head->queries - first : BLOCK;
        put_across(queries, size, row_at(head->q, first, q_stride), q_stride, q_across);
        put_across(queries, size, row_at(d_output, first, output_stride), output_stride, d_across);
        put_across(queries, size, row_at(output, first, output_stride), output_stride, o_across);
        for (size_t i = 0; i < queries; i += LANES) {
            V sum = v_zero();
            for (size_t step = 0; step < steps; ++step)
                sum = _mm512_dpbf16_ps(sum, (__m512bh)v_load(d_across + step * BLOCK + i), (__m512bh)v_load(o_across + step * BLOCK + i));
            v_store(delta + i, sum);
            v_store(offset + i, v_multiply(v_load_masked(v_mask(queries - i), log_sum_exp + first + i), v_set(log2_e)));
        }
        for (size_t tile = 0, i = 0; tile < count; ++tile) {
            const size_t after = 2 * (key_pairs * (tile + 1) / count), end = after < tokens ? after : tokens, rows = end - i;
            fetch_ahead(&ahead);
            score(rows, queries, steps, k_rows + i * steps, q_across, scores);
            score(rows, queries, steps, v_rows + i * steps, d_across, d_p);
            float *const p_at = p_rows + i * rows_ld + first / 2, *const d_at = gradient_rows + i * rows_ld + first / 2;
            float *const across = gradient_across + i / 2 * BLOCK;
            if (queries > LANES) differentiate(2, rows, head->scale, scores, d_p, offset, delta, p_at, d_at, rows_ld, across);
            else differentiate(1, rows, head->scale, scores, d_p, offset, delta, p_at, d_at, rows_ld, across);
            i = end;
        }
        multiply(&(struct product){.m = queries, .n = size, .steps = key_pairs, .a = gradient_across, .a_row = 1, .b = k_down,
                                   .ldb = ld, .out = (uint16_t *)d_q + first * q_stride, .ldo = q_stride, .scale = head->scale,
                                   .ahead = &ahead});
    }
    multiply(&(struct product){.m = tokens, .n = size, .steps = query_pairs, .a = gradient_rows, .a_row = rows_ld, .b = q_down,
                               .ldb = ld, .out = d_k, .ldo = kv_stride, .scale = head->scale, .ahead = &ahead});
    multiply(&(struct product){.m = tokens, .n = size, .steps = query_pairs, .a = p_rows, .a_row = rows_ld, .b = d_down, .ldb = ld,
                               .out = d_v, .ldo = kv_stride, .scale = 1, .ahead = &ahead});
}

const struct attention_kernels attention_bf16_avx512bf16 = {forward, backward};
#pragma clang attribute pop
#endif
