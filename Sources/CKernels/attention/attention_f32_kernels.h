// Attention of one head on the operations of vector_*.h and a register tile the including file has chosen.
//
// Scores are kept transposed, [key, query]: a vector holds one key's scores for a run of queries, so that the softmax needs no sum
// across lanes, and the same buffer serves as either operand of the products that follow. Queries go in blocks of equal size. Rows
// of K, V, Q and dO are first copied side by side: a token's rows lie 3·heads·head_size apart in qkv, often a multiple of 4096
// bytes, where they would fight for the same few cache lines.
#include "cpu/exponential.h"
#include "gemm/register_tile_f32.h"

/// Rows that the next head will read or write. A few are fetched before each tile: a head's rows are short and far apart, and the
/// processor does not foresee them.
enum { worth_fetching = 24 };  // tokens; with fewer, the instructions cost more than they save
struct ahead {
    const float *matrix[8];
    size_t stride[8];
    size_t matrices, rows, width;
    size_t per_tile, done;
};

static void fetch_ahead(struct ahead *a) {
    for (size_t i = 0; i < a->per_tile && a->done < a->matrices * a->rows; ++i, ++a->done) {
        const size_t which = a->done / a->rows;
        const float *const row = a->matrix[which] + a->done % a->rows * a->stride[which];
        for (size_t j = 0; j < a->width; j += 16) _mm_prefetch((const char *)(row + j), _MM_HINT_T1);
    }
}

/// out[m,n] (+)= a·b · factor[m], with a[i·a_row + p·a_step], b[p·ldb + j] readable up to whole vectors of j.
struct product {
    size_t m, n, k;
    const float *a;
    size_t a_row, a_step;
    const float *b;
    size_t ldb;
    float *out;
    size_t ldo;
    const float *factor;  ///< or NULL
    bool accumulate;
    struct ahead *ahead;
};

VECTOR_INLINE void run(const struct product *s, size_t i0, size_t j0, const int ROWS, const int WIDTH, const bool masked) {
    V sum[MR][VECTORS];
    tile_product(ROWS, WIDTH, false, s->k, s->a + i0 * s->a_row, s->a_row, s->a_step, s->b + j0, s->ldb, sum);
    if (s->factor) {
#pragma clang loop unroll(full)
        for (int i = 0; i < ROWS; ++i)
#pragma clang loop unroll(full)
            for (int j = 0; j < WIDTH; ++j) sum[i][j] = v_multiply(sum[i][j], v_set(s->factor[i0 + (size_t)i]));
    }
    const M last = v_mask(s->n - j0 - (size_t)(WIDTH - 1) * LANES);
    float *const out = s->out + i0 * s->ldo + j0;
    if (s->accumulate) {
#pragma clang loop unroll(full)
        for (int i = 0; i < ROWS; ++i)
#pragma clang loop unroll(full)
            for (int j = 0; j < WIDTH; ++j) {
                const float *const old = out + (size_t)i * s->ldo + j * LANES;
                sum[i][j] = v_add(sum[i][j], masked && j == WIDTH - 1 ? v_load_masked(last, old) : v_load(old));
            }
    }
#pragma clang loop unroll(full)
    for (int i = 0; i < ROWS; ++i)
#pragma clang loop unroll(full)
        for (int j = 0; j < WIDTH; ++j) {
            float *const at = out + (size_t)i * s->ldo + j * LANES;
            if (masked && j == WIDTH - 1) v_store_masked(last, at, sum[i][j]);
            else v_store(at, sum[i][j]);
        }
}

static void run_rows(const struct product *s, size_t i, size_t j, size_t rows) {
#define RUN(rows, width, masked) run(s, i, j, rows, width, masked)
    switch (rows) { TILE_CASES(s->n - j, RUN) }
#undef RUN
}

static void multiply(const struct product *s) {
    // Tiles of even height: 32 rows are 11 + 11 + 10, not 14 + 14 + 4.
    const size_t tiles = (s->m + MR - 1) / MR;
    for (size_t tile = 0, i = 0; tile < tiles; ++tile) {
        const size_t end = s->m * (tile + 1) / tiles;
        for (size_t j = 0; j < s->n; j += NR) {
            fetch_ahead(s->ahead);
            run_rows(s, i, j, end - i);
        }
        i = end;
    }
}

static size_t tiles(size_t m, size_t n) { return ((m + MR - 1) / MR) * ((n + NR - 1) / NR); }

/// [rows, width] side by side at `target` with rows of `ld` = whole vectors, filled up with zeros.
static void copy_rows(size_t rows, size_t width, const float *source, size_t stride, float *target, size_t ld) {
    for (size_t i = 0; i < rows; ++i, source += stride, target += ld) {
        size_t j = 0;
        for (; j + LANES <= width; j += LANES) v_store(target + j, v_load(source + j));
        if (j < width) v_store(target + j, v_load_masked(v_mask(width - j), source + j));
    }
}

/// target[p·ld + i] = source[i·stride + p], zeros in the last vector of i.
static void transpose_rows(size_t rows, size_t width, const float *source, size_t stride, float *target, size_t ld) {
    for (size_t i = 0; i < rows; i += LANES)
        pack_transposed(rows - i < LANES ? rows - i : LANES, LANES, ld, width, source + i * stride, stride, target + i);
}

static size_t whole_vectors(size_t count) { return (count + LANES - 1) / LANES * LANES; }

/// Queries of one block: as even as whole vectors allow, at most attention_f32_query_block.
static size_t queries_per_block(size_t tokens) {
    const size_t vectors = (tokens + LANES - 1) / LANES, most = attention_f32_query_block / LANES;
    const size_t blocks = (vectors + most - 1) / most;
    return (vectors + blocks - 1) / blocks * LANES;
}

/// Scores [tokens, block] of one vector of queries become exp(scale·(score - greatest)); returns their sum.
static V exponentiate(size_t tokens, size_t block, float scale, float *score, V *greatest) {
    V most = v_load(score), sum = v_zero();
    for (size_t j = 1; j < tokens; ++j) most = v_max(most, v_load(score + j * block));
    const V factor = v_set(scale), offset = v_multiply(most, factor);
    for (size_t j = 0; j < tokens; ++j) {
        const V p = v_exponential(v_fms(v_load(score + j * block), factor, offset));
        v_store(score + j * block, p);
        sum = v_add(sum, p);
    }
    *greatest = offset;
    return sum;
}

static void forward(const struct attention_f32_head *head, float *output, float *log_sum_exp, float *scratch) {
    const size_t tokens = head->tokens, size = head->head_size, ld = whole_vectors(size), block = queries_per_block(tokens);
    float *const k_rows = scratch;                 // [tokens, ld]
    float *const v_rows = k_rows + tokens * ld;    // [tokens, ld]
    float *const q_across = v_rows + tokens * ld;  // [size, block]
    float *const p = q_across + size * block;      // [tokens, block]
    float *const factor = p + tokens * block;      // [block]
    copy_rows(tokens, size, head->k, head->stride, k_rows, ld);
    copy_rows(tokens, size, head->v, head->stride, v_rows, ld);
    struct ahead ahead = {.matrix = {head->k + head->next, head->v + head->next, head->q + head->next, output + head->next_output},
                          .stride = {head->stride, head->stride, head->stride, head->output_stride},
                          .matrices = head->next && tokens >= worth_fetching ? 4 : 0, .rows = tokens, .width = size};
    ahead.per_tile = 4 * tokens / (tiles(tokens, tokens) + tiles(tokens, size)) + 1;
    for (size_t first = 0; first < tokens; first += block) {
        const size_t queries = tokens - first < block ? tokens - first : block;
        transpose_rows(queries, size, head->q + first * head->stride, head->stride, q_across, block);
        multiply(&(struct product){.m = tokens, .n = whole_vectors(queries), .k = size, .a = k_rows, .a_row = ld, .a_step = 1,
                                   .b = q_across, .ldb = block, .out = p, .ldo = block, .ahead = &ahead});
        for (size_t i = 0; i < queries; i += LANES) {
            V greatest;
            const V sum = exponentiate(tokens, block, head->scale, p + i, &greatest);
            v_store(factor + i, v_divide(v_set(1.0f), sum));
            if (log_sum_exp) {
                float sums[LANES], offsets[LANES];
                v_store(sums, sum);
                v_store(offsets, greatest);
                for (size_t lane = 0; lane < LANES && i + lane < queries; ++lane)
                    log_sum_exp[first + i + lane] = offsets[lane] + logf(sums[lane]);
            }
        }
        multiply(&(struct product){.m = queries, .n = size, .k = tokens, .a = p, .a_row = 1, .a_step = block, .b = v_rows,
                                   .ldb = ld, .out = output + first * head->output_stride, .ldo = head->output_stride,
                                   .factor = factor, .ahead = &ahead});
    }
}

static float dot(size_t count, const float *a, const float *b) {
    V sum = v_zero();
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) sum = v_fma(v_load(a + i), v_load(b + i), sum);
    if (i < count) {
        const M mask = v_mask(count - i);
        sum = v_fma(v_load_masked(mask, a + i), v_load_masked(mask, b + i), sum);
    }
    return v_sum(sum);
}

static void backward(const struct attention_f32_head *head, const float *output, const float *log_sum_exp, const float *d_output,
                     float *d_q, float *d_k, float *d_v, float *scratch) {
    const size_t tokens = head->tokens, size = head->head_size, ld = whole_vectors(size), block = queries_per_block(tokens);
    const size_t stride = head->stride, output_stride = head->output_stride;
    float *const k_rows = scratch;                  // [tokens, ld], as the next three
    float *const v_rows = k_rows + tokens * ld;
    float *const q_rows = v_rows + tokens * ld;
    float *const d_rows = q_rows + tokens * ld;     // dO
    float *const q_across = d_rows + tokens * ld;   // [size, block], as the next
    float *const d_across = q_across + size * block;
    float *const p = d_across + size * block;       // [tokens, block], as the next
    float *const d_score = p + tokens * block;
    float *const offset = d_score + tokens * block; // [block]: log_sum_exp
    float *const delta = offset + block;            // [block]: Σ dO∘O
    copy_rows(tokens, size, head->k, stride, k_rows, ld);
    copy_rows(tokens, size, head->v, stride, v_rows, ld);
    copy_rows(tokens, size, head->q, stride, q_rows, ld);
    copy_rows(tokens, size, d_output, output_stride, d_rows, ld);
    const size_t next = head->next, next_output = head->next_output;
    struct ahead ahead = {.matrix = {head->k + next, head->v + next, head->q + next, d_output + next_output,
                                     output + next_output, d_q + next, d_k + next, d_v + next},
                          .stride = {stride, stride, stride, output_stride, output_stride, stride, stride, stride},
                          .matrices = next && tokens >= worth_fetching ? 8 : 0, .rows = tokens, .width = size};
    ahead.per_tile = 8 * tokens / (2 * tiles(tokens, tokens) + 3 * tiles(tokens, size)) + 1;
    for (size_t first = 0; first < tokens; first += block) {
        const size_t queries = tokens - first < block ? tokens - first : block, n = whole_vectors(queries);
        transpose_rows(queries, size, q_rows + first * ld, ld, q_across, block);
        transpose_rows(queries, size, d_rows + first * ld, ld, d_across, block);
        for (size_t i = 0; i < n; ++i) {
            offset[i] = i < queries ? log_sum_exp[first + i] : 0;
            delta[i] = i < queries ? dot(size, d_rows + (first + i) * ld, output + (first + i) * output_stride) : 0;
        }
        multiply(&(struct product){.m = tokens, .n = n, .k = size, .a = k_rows, .a_row = ld, .a_step = 1, .b = q_across,
                                   .ldb = block, .out = p, .ldo = block, .ahead = &ahead});
        multiply(&(struct product){.m = tokens, .n = n, .k = size, .a = v_rows, .a_row = ld, .a_step = 1, .b = d_across,
                                   .ldb = block, .out = d_score, .ldo = block, .ahead = &ahead});
        const V scale = v_set(head->scale);
        for (size_t j = 0; j < tokens; ++j)
            for (size_t i = 0; i < n; i += LANES) {
                float *const at_p = p + j * block + i, *const at_d = d_score + j * block + i;
                const V probability = v_exponential(v_fms(v_load(at_p), scale, v_load(offset + i)));
                v_store(at_p, probability);
                v_store(at_d, v_multiply(v_multiply(probability, scale), v_subtract(v_load(at_d), v_load(delta + i))));
            }
        multiply(&(struct product){.m = queries, .n = size, .k = tokens, .a = d_score, .a_row = 1, .a_step = block, .b = k_rows,
                                   .ldb = ld, .out = d_q + first * stride, .ldo = stride, .ahead = &ahead});
        multiply(&(struct product){.m = tokens, .n = size, .k = queries, .a = d_score, .a_row = block, .a_step = 1,
                                   .b = q_rows + first * ld, .ldb = ld, .out = d_k, .ldo = stride, .accumulate = first != 0,
                                   .ahead = &ahead});
        multiply(&(struct product){.m = tokens, .n = size, .k = queries, .a = p, .a_row = block, .a_step = 1,
                                   .b = d_rows + first * ld, .ldb = ld, .out = d_v, .ldo = stride, .accumulate = first != 0,
                                   .ahead = &ahead});
    }
}
