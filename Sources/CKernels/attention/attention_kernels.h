// Attention of one head on the operations of vector_*.h, with a register tile and a TYPE in memory that the including
// file chooses.
//
// Scores are stored transposed, [key, query]: a vector holds one key's scores for several queries, so softmax needs no
// reduction across lanes, and the same buffer is an operand of the matmuls that follow. Queries are processed in blocks
// of equal size. Rows of K, V, Q and dO are first copied to contiguous float32: in qkv a token's rows are
// 3·heads·head_size apart, often a multiple of 4096 bytes, and would compete for few cache sets.
#include "attention/fetch_ahead.h"
#include "cpu/exponential.h"
#include "gemm/register_tile_f32.h"

enum { IS_BF16 = TYPE == DMAE_TYPE_BF16 };
#define ELEMENT dmae_type_bytes(TYPE)

static const void *row_at(const void *matrix, size_t row, size_t stride) {
    return (const char *)matrix + row * stride * ELEMENT;
}
static void *row_of(void *matrix, size_t row, size_t stride) { return (char *)matrix + row * stride * ELEMENT; }

VECTOR_INLINE V operand_of(const void *row, size_t j) {
    return IS_BF16 ? v_load_bf16((const uint16_t *)row + j) : v_load((const float *)row + j);
}
VECTOR_INLINE V operand_masked_of(M mask, const void *row, size_t j) {
    return IS_BF16 ? v_load_bf16_masked(mask, (const uint16_t *)row + j) : v_load_masked(mask, (const float *)row + j);
}
/// Rounds a computed operand of a matmul.
VECTOR_INLINE V rounded(V x) { return IS_BF16 ? v_round_to_bf16(x) : x; }

/// out[m,n] (+)= a·b · factor[m]·scale, with a[i·lda + p], or a[p·lda + i] if `transposed`; b[p·ldb + j] is readable up
/// to whole vectors of j.
struct product {
    size_t m, n, k;
    const float *a;
    size_t lda;
    bool transposed;
    const float *b;
    size_t ldb;
    float *out;
    size_t ldo;
    const float *factor; ///< or NULL
    float scale;         ///< zero stands for one
    bool accumulate;
    struct ahead *ahead;
};

/// The stride of one is a constant where this is inlined, so that addresses need no index register.
VECTOR_INLINE void run(const struct product *s, size_t i0, size_t j0, const int ROWS, const int WIDTH,
                       const bool masked) {
    V sum[MR][VECTORS];
    if (s->transposed) tile_product(ROWS, WIDTH, false, s->k, s->a + i0, 1, s->lda, s->b + j0, s->ldb, NULL, sum);
    else tile_product(ROWS, WIDTH, false, s->k, s->a + i0 * s->lda, s->lda, 1, s->b + j0, s->ldb, NULL, sum);
    if (s->factor) {
#pragma clang loop unroll(full)
        for (int i = 0; i < ROWS; ++i)
#pragma clang loop unroll(full)
            for (int j = 0; j < WIDTH; ++j) sum[i][j] = v_multiply(sum[i][j], v_set(s->factor[i0 + (size_t)i]));
    }
    if (s->scale != 0) {
        const V scale = v_set(s->scale);
#pragma clang loop unroll(full)
        for (int i = 0; i < ROWS; ++i)
#pragma clang loop unroll(full)
            for (int j = 0; j < WIDTH; ++j) sum[i][j] = v_multiply(sum[i][j], scale);
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

static void KERNEL(run_rows)(const struct product *s, size_t i, size_t j, size_t rows) {
#define RUN(rows, width, masked) run(s, i, j, rows, width, masked)
    switch (rows) { TILE_CASES(s->n - j, RUN) }
#undef RUN
}

static void KERNEL(multiply)(const struct product *s) {
    // Tiles of even height: 32 rows are 11 + 11 + 10, not 14 + 14 + 4.
    const size_t tiles = (s->m + MR - 1) / MR;
    for (size_t tile = 0, i = 0; tile < tiles; ++tile) {
        const size_t end = s->m * (tile + 1) / tiles;
        for (size_t j = 0; j < s->n; j += NR) {
            fetch_ahead(s->ahead);
            KERNEL(run_rows)(s, i, j, end - i);
        }
        i = end;
    }
}

static size_t tiles(size_t m, size_t n) { return ((m + MR - 1) / MR) * ((n + NR - 1) / NR); }

/// Copies [rows, width] to contiguous rows of `ld` = whole vectors, padded with zeros.
static void KERNEL(copy_rows)(size_t rows, size_t width, const void *source, size_t stride, float *target, size_t ld) {
    for (size_t i = 0; i < rows; ++i, target += ld) {
        const void *const row = row_at(source, i, stride);
        size_t j = 0;
        for (; j + LANES <= width; j += LANES) v_store(target + j, operand_of(row, j));
        if (j < width) v_store(target + j, operand_masked_of(v_mask(width - j), row, j));
    }
}

/// The reverse, rounding to bf16.
static void KERNEL(store_rows)(size_t rows, size_t width, const float *source, size_t ld, void *target, size_t stride) {
    for (size_t i = 0; i < rows; ++i, source += ld) {
        uint16_t *const row = row_of(target, i, stride);
        size_t j = 0;
        for (; j + LANES <= width; j += LANES) v_store_bf16(row + j, v_load(source + j));
        if (j < width) v_store_bf16_masked(v_mask(width - j), row + j, v_load(source + j));
    }
}

/// target[p·ld + i] = source[i·stride + p], zeros in the last vector of i.
static void KERNEL(transpose_rows)(size_t rows, size_t width, const float *source, size_t stride, float *target,
                                   size_t ld) {
    for (size_t i = 0; i < rows; i += LANES)
        pack_transposing(rows - i < LANES ? rows - i : LANES, LANES, ld, width, source + i * stride, stride,
                         target + i);
}

static size_t whole_vectors(size_t count) { return (count + LANES - 1) / LANES * LANES; }

/// Queries of one block: as equal as whole vectors allow, at most attention_query_block.
static size_t queries_per_block(size_t queries) {
    const size_t vectors = (queries + LANES - 1) / LANES, max = attention_query_block / LANES;
    const size_t blocks = (vectors + max - 1) / max;
    return (vectors + blocks - 1) / blocks * LANES;
}

/// Scores [tokens, block] of one vector of queries become exp(scale·(score - max_score)); returns their sum before any
/// rounding.
static V KERNEL(exponentiate)(size_t tokens, size_t block, float scale, float *score, V *max_score) {
    V max = v_load(score), sum = v_zero();
    for (size_t j = 1; j < tokens; ++j) max = v_max(max, v_load(score + j * block));
    const V factor = v_set(scale), offset = v_multiply(max, factor);
    for (size_t j = 0; j < tokens; ++j) {
        const V p = v_exponential(v_fms(v_load(score + j * block), factor, offset));
        v_store(score + j * block, rounded(p));
        sum = v_add(sum, p);
    }
    *max_score = offset;
    return sum;
}

static void KERNEL(forward)(const struct attention_head *head, void *output, float *log_sum_exp, float *scratch) {
    const size_t tokens = head->tokens, size = head->head_size, ld = whole_vectors(size),
                 block = queries_per_block(head->queries);
    float *const k_rows = scratch;                   // [tokens, ld]
    float *const v_rows = k_rows + tokens * ld;      // [tokens, ld]
    float *const q_rows = v_rows + tokens * ld;      // [block, ld]: Q, then the output in bf16
    float *const q_transposed = q_rows + block * ld; // [size, block]
    float *const p = q_transposed + size * block;    // [tokens, block]
    float *const factor = p + tokens * block;        // [block]
    KERNEL(copy_rows)(tokens, size, head->k, head->kv_stride, k_rows, ld);
    KERNEL(copy_rows)(tokens, size, head->v, head->kv_stride, v_rows, ld);
    struct ahead ahead = next_head(head, size, ELEMENT);
    add_ahead(&ahead, head->k, head->next_kv, head->kv_stride, tokens, ELEMENT);
    add_ahead(&ahead, head->v, head->next_kv, head->kv_stride, tokens, ELEMENT);
    add_ahead(&ahead, head->q, head->next_q, head->q_stride, head->queries, ELEMENT);
    add_ahead(&ahead, output, head->next_output, head->output_stride, head->queries, ELEMENT);
    spread_ahead(&ahead, tiles(tokens, head->queries) + tiles(head->queries, size));
    for (size_t first = 0; first < head->queries; first += block) {
        const size_t queries = head->queries - first < block ? head->queries - first : block;
        KERNEL(copy_rows)(queries, size, row_at(head->q, first, head->q_stride), head->q_stride, q_rows, ld);
        KERNEL(transpose_rows)(queries, size, q_rows, ld, q_transposed, block);
        KERNEL(multiply)(&(struct product){.m = tokens,
                                           .n = whole_vectors(queries),
                                           .k = size,
                                           .a = k_rows,
                                           .lda = ld,
                                           .b = q_transposed,
                                           .ldb = block,
                                           .out = p,
                                           .ldo = block,
                                           .ahead = &ahead});
        for (size_t i = 0; i < queries; i += LANES) {
            V max_score;
            const V sum = KERNEL(exponentiate)(tokens, block, head->scale, p + i, &max_score);
            v_store(factor + i, v_divide(v_set(1.0f), sum));
            if (log_sum_exp) {
                float sums[LANES], offsets[LANES];
                v_store(sums, sum);
                v_store(offsets, max_score);
                for (size_t lane = 0; lane < LANES && i + lane < queries; ++lane)
                    log_sum_exp[first + i + lane] = offsets[lane] + logf(sums[lane]);
            }
        }
        void *const rows = row_of(output, first, head->output_stride);
        KERNEL(multiply)(&(struct product){.m = queries,
                                           .n = size,
                                           .k = tokens,
                                           .a = p,
                                           .lda = block,
                                           .transposed = true,
                                           .b = v_rows,
                                           .ldb = ld,
                                           .out = IS_BF16 ? q_rows : rows,
                                           .ldo = IS_BF16 ? ld : head->output_stride,
                                           .factor = factor,
                                           .ahead = &ahead});
        if (IS_BF16) KERNEL(store_rows)(queries, size, q_rows, ld, rows, head->output_stride);
    }
}

static float dot(size_t count, const float *a, const float *b) {
    V sum = v_zero();
    for (size_t i = 0; i < count; i += LANES) sum = v_fma(v_load(a + i), v_load(b + i), sum);
    return v_sum(sum);
}

static void KERNEL(backward)(const struct attention_head *head, const void *output, const float *log_sum_exp,
                             const void *d_output, void *d_q, void *d_k, void *d_v, float *scratch) {
    const size_t tokens = head->tokens, size = head->head_size, ld = whole_vectors(size),
                 block = queries_per_block(head->queries);
    const size_t q_stride = head->q_stride, kv_stride = head->kv_stride, output_stride = head->output_stride;
    float *const k_rows = scratch; // [tokens, ld], as the next three
    float *const v_rows = k_rows + tokens * ld;
    float *const k_sum = v_rows + tokens * ld; // dK and dV, in bf16 only
    float *const v_sum = k_sum + tokens * ld;
    float *const q_rows = v_sum + tokens * ld;       // [block, ld], as the next two
    float *const d_rows = q_rows + block * ld;       // dO
    float *const o_rows = d_rows + block * ld;       // O, then dQ in bf16
    float *const q_transposed = o_rows + block * ld; // [size, block], as the next
    float *const d_transposed = q_transposed + size * block;
    float *const p = d_transposed + size * block; // [tokens, block], as the next
    float *const d_score = p + tokens * block;
    float *const offset = d_score + tokens * block; // [block]: log_sum_exp
    float *const delta = offset + block;            // [block]: Σ dO∘O
    KERNEL(copy_rows)(tokens, size, head->k, kv_stride, k_rows, ld);
    KERNEL(copy_rows)(tokens, size, head->v, kv_stride, v_rows, ld);
    struct ahead ahead = next_head(head, size, ELEMENT);
    const void *const of_keys[] = {head->k, head->v, d_k, d_v}, *const of_queries[] = {head->q, d_q, d_output, output};
    for (int i = 0; i < 4; ++i) add_ahead(&ahead, of_keys[i], head->next_kv, kv_stride, tokens, ELEMENT);
    for (int i = 0; i < 2; ++i) add_ahead(&ahead, of_queries[i], head->next_q, q_stride, head->queries, ELEMENT);
    for (int i = 2; i < 4; ++i)
        add_ahead(&ahead, of_queries[i], head->next_output, output_stride, head->queries, ELEMENT);
    spread_ahead(&ahead, 2 * tiles(tokens, head->queries) + 3 * tiles(tokens, size));
    for (size_t first = 0; first < head->queries; first += block) {
        const size_t queries = head->queries - first < block ? head->queries - first : block,
                     n = whole_vectors(queries);
        KERNEL(copy_rows)(queries, size, row_at(head->q, first, q_stride), q_stride, q_rows, ld);
        KERNEL(copy_rows)(queries, size, row_at(d_output, first, output_stride), output_stride, d_rows, ld);
        KERNEL(copy_rows)(queries, size, row_at(output, first, output_stride), output_stride, o_rows, ld);
        KERNEL(transpose_rows)(queries, size, q_rows, ld, q_transposed, block);
        KERNEL(transpose_rows)(queries, size, d_rows, ld, d_transposed, block);
        for (size_t i = 0; i < n; ++i) {
            offset[i] = i < queries ? log_sum_exp[first + i] : 0;
            delta[i] = i < queries ? dot(size, d_rows + i * ld, o_rows + i * ld) : 0;
        }
        KERNEL(multiply)(&(struct product){.m = tokens,
                                           .n = n,
                                           .k = size,
                                           .a = k_rows,
                                           .lda = ld,
                                           .b = q_transposed,
                                           .ldb = block,
                                           .out = p,
                                           .ldo = block,
                                           .ahead = &ahead});
        KERNEL(multiply)(&(struct product){.m = tokens,
                                           .n = n,
                                           .k = size,
                                           .a = v_rows,
                                           .lda = ld,
                                           .b = d_transposed,
                                           .ldb = block,
                                           .out = d_score,
                                           .ldo = block,
                                           .ahead = &ahead});
        const V scale = v_set(head->scale);
        for (size_t j = 0; j < tokens; ++j)
            for (size_t i = 0; i < n; i += LANES) {
                float *const at_p = p + j * block + i, *const at_d = d_score + j * block + i;
                const V probability = v_exponential(v_fms(v_load(at_p), scale, v_load(offset + i)));
                v_store(at_p, rounded(probability));
                v_store(at_d, rounded(v_multiply(probability, v_subtract(v_load(at_d), v_load(delta + i)))));
            }
        void *const rows = row_of(d_q, first, q_stride);
        KERNEL(multiply)(&(struct product){.m = queries,
                                           .n = size,
                                           .k = tokens,
                                           .a = d_score,
                                           .lda = block,
                                           .transposed = true,
                                           .b = k_rows,
                                           .ldb = ld,
                                           .out = IS_BF16 ? o_rows : rows,
                                           .ldo = IS_BF16 ? ld : q_stride,
                                           .scale = head->scale,
                                           .ahead = &ahead});
        if (IS_BF16) KERNEL(store_rows)(queries, size, o_rows, ld, rows, q_stride);
        const size_t ldo = IS_BF16 ? ld : kv_stride;
        KERNEL(multiply)(&(struct product){.m = tokens,
                                           .n = size,
                                           .k = queries,
                                           .a = d_score,
                                           .lda = block,
                                           .b = q_rows,
                                           .ldb = ld,
                                           .out = IS_BF16 ? k_sum : d_k,
                                           .ldo = ldo,
                                           .scale = head->scale,
                                           .accumulate = first != 0,
                                           .ahead = &ahead});
        KERNEL(multiply)(&(struct product){.m = tokens,
                                           .n = size,
                                           .k = queries,
                                           .a = p,
                                           .lda = block,
                                           .b = d_rows,
                                           .ldb = ld,
                                           .out = IS_BF16 ? v_sum : d_v,
                                           .ldo = ldo,
                                           .accumulate = first != 0,
                                           .ahead = &ahead});
    }
    if (IS_BF16) {
        KERNEL(store_rows)(tokens, size, k_sum, ld, d_k, kv_stride);
        KERNEL(store_rows)(tokens, size, v_sum, ld, d_v, kv_stride);
    }
}
