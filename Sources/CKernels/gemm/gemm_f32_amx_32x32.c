#if defined(__x86_64__)
#include "gemm/gemm.h"

#include <string.h>
#define VECTOR_TARGET "avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16,amx-tile,amx-bf16"
#define VECTOR_ROUNDS_TO_BF16
#include "cpu/vector_avx512.h"

// A float32 is the sum of three bf16, each the rest before it rounded to nearest: 3·8 bits. Of the nine products of parts the six largest
// are summed. Left out are a second part times a third, twice, and a third times a third: 2^-23 of the product at most, and with signs that
// know nothing of one another. Sums of parts round less often than sums of values, so the whole is nearer to the truth than a chain of
// multiply-adds. An infinity, and what a bf16 rounds to one, leaves a rest that is not a number.
enum { UNIT = 2, PARTS = 3, HEAD_WORDS = 0 };
#define TILE_PRODUCT _tile_dpbf16ps
#include "gemm/amx_tile.h"
enum { K_UNIT = STEP_K };
#include "gemm/bf16_pairs.h"

/// The next part of pairs along k, 32 floats in memory order; `low` and `high` become the rest.
VECTOR_INLINE V part_along(V *low, V *high) {
    const V pairs = pairs_along(*low, *high);
    *low = v_subtract(*low, low_of(_mm512_castps_si512(pairs)));
    *high = v_subtract(*high, high_of(_mm512_castps_si512(pairs)));
    return pairs;
}
/// The next part of the pairs (first[i], second[i]).
VECTOR_INLINE V part_across(V *first, V *second) {
    const __m256i upper = v_to_bf16(*first), lower = v_to_bf16(*second);
    *first = v_subtract(*first, v_from_bf16(upper));
    *second = v_subtract(*second, v_from_bf16(lower));
    return pairs_across(upper, lower);
}

/// 16 elements from `index` on, of which `left` are there.
VECTOR_INLINE V some(const dmae_type type, size_t left, const void *source, size_t index) {
    return operand_masked(type, v_mask(left), source, index);
}
VECTOR_INLINE size_t rest(size_t all, size_t taken) { return all > taken ? all - taken : 0; }

/// Sixteen rows along k, of which `count` are there, from p on, as rows of pairs: rows[part][row].
VECTOR_INLINE void rows_along(const dmae_type type, size_t count, size_t k, size_t p, const void *source, size_t ld,
                              V rows[PARTS][LANES]) {
    for (size_t i = 0; i < LANES; ++i) {
        V low = v_zero(), high = v_zero();
        if (i < count) {
            low = some(type, k - p, source, i * ld + p);
            high = some(type, rest(k, p + LANES), source, i * ld + p + LANES);
        }
        for (size_t part = 0; part < PARTS; ++part) rows[part][i] = part_along(&low, &high);
    }
}
/// Sixteen columns, of which `count` are there, from row p down, as pairs of rows: rows[part][pair].
VECTOR_INLINE void rows_across(const dmae_type type, size_t count, size_t k, size_t p, const void *source, size_t ld,
                               V rows[PARTS][LANES]) {
    for (size_t q = 0; q < LANES; ++q) {
        const size_t at = p + 2 * q;
        V first = at < k ? some(type, count, source, at * ld) : v_zero();
        V second = at + 1 < k ? some(type, count, source, (at + 1) * ld) : v_zero();
        for (size_t part = 0; part < PARTS; ++part) rows[part][q] = part_across(&first, &second);
    }
}

static const void *element(const dmae_type type, const void *source, size_t index) {
    return (const char *)source + index * bytes_of(type);
}

/// Sixteen rows or columns, from `i` on, of a step of k, in all parts: [row][pair] in a panel of A, [pair][column] in one of B.
VECTOR_INLINE void pack_some(const dmae_type type, const bool is_a, size_t count, size_t k, size_t i, size_t p, const void *source,
                             size_t ld, const bool across, float *panels) {
    _Static_assert(MR == NR, "panels of A and B are equally wide");
    const size_t steps = (k + STEP_K - 1) / STEP_K, row_words = is_a ? HALF : NR;
    float *const step = panels + (i / MR * steps + p / STEP_K) * STEP_A + i % MR * (is_a ? HALF : 1);
    V rows[PARTS][LANES];
    if (across) rows_across(type, count - i, k, p, element(type, source, i), ld, rows);
    else rows_along(type, count - i, k, p, element(type, source, i * ld), ld, rows);
    for (size_t part = 0; part < PARTS; ++part) {
        if (across == is_a) v_transpose(rows[part]);
        for (size_t row = 0; row < LANES; ++row) v_store(step + part * PART_A + row * row_words, rows[part][row]);
    }
}

VECTOR_INLINE void pack_parts(const dmae_type type, const bool is_a, size_t count, size_t k, const void *source, size_t ld,
                              const bool across, float *panels) {
    if (!across) {
        for (size_t i = 0; i < count; i += HALF)
            for (size_t p = 0; p < k; p += STEP_K) pack_some(type, is_a, count, k, i, p, source, ld, false, panels);
        return;
    }
    for (size_t p = 0; p < k; p += STEP_K) {
        for (size_t row = p + STEP_K; row < p + 2 * STEP_K && row < k; ++row) prefetch_row(type, count, source, row * ld);
        for (size_t i = 0; i < count; i += HALF) pack_some(type, is_a, count, k, i, p, source, ld, true, panels);
    }
}

#define PACK(name, is_a)                                                                                                 \
    static void name(size_t count, size_t k, dmae_type type, const void *source, size_t ld, bool across, void *panels) { \
        if (type == DMAE_TYPE_BF16 && across) pack_parts(DMAE_TYPE_BF16, is_a, count, k, source, ld, true, panels);      \
        else if (type == DMAE_TYPE_BF16) pack_parts(DMAE_TYPE_BF16, is_a, count, k, source, ld, false, panels);          \
        else if (across) pack_parts(DMAE_TYPE_F32, is_a, count, k, source, ld, true, panels);                            \
        else pack_parts(DMAE_TYPE_F32, is_a, count, k, source, ld, false, panels);                                       \
    }
PACK(pack_a, true)
PACK(pack_b, false)

const struct gemm_kernels gemm_f32_amx_32x32 = {
    .mr = MR, .nr = NR, .k_unit = K_UNIT, .value_bytes = PARTS * 2,
    .k_block = 1024, .run_a = 4, .run_b = 4, .run_bytes = 896 << 10, .round_a = 1, .round_b_bytes = 256 << 10,
    .narrow = 512, .keeps_shared = true, .fetches_shared = true,
    .plain_b = true, .pack_a = pack_a, .pack_b = pack_b, .tile = tile, .begin = begin, .end = end,
};
#pragma clang attribute pop
#endif
