#if defined(__x86_64__)
#define KERNEL(part) gemm_f32_amx_32x32_##part
#include "gemm/gemm.h"

#include <string.h>
#define VECTOR_TARGET "avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16,amx-tile,amx-bf16"
#define VECTOR_ROUNDS_TO_BF16
#include "cpu/vector_avx512.h"

// A float32 is the sum of three bf16, each the remainder so far rounded to nearest: 3·8 bits. Of the nine products of
// parts the six largest are summed. The others, second times third part (twice) and third times third, are at most
// 2^-23 of the product, with uncorrelated signs. Sums of parts round less often than sums of values, so the result is
// more accurate than a chain of multiply-adds. An infinity, or a value that rounds to one, leaves a NaN remainder.
//
// A lane is the pair of p and p + 16 in a step of k. Any pairing serves if A and B share it, and this one needs no
// shuffle.
enum { UNIT = 2, PARTS = 3, HEAD_WORDS = 0 };
#define TILE_PRODUCT _tile_dpbf16ps
#include "gemm/amx_tile.h"
#include "gemm/operand.h"

/// The next part of sixteen values; `rest` becomes the remainder.
VECTOR_INLINE V next_part(V *rest) {
    const __m512i rounded = _mm512_add_epi32(_mm512_castps_si512(*rest), _mm512_set1_epi32(0x8000));
    const V part = _mm512_castsi512_ps(_mm512_and_si512(rounded, _mm512_set1_epi32((int)0xffff0000)));
    *rest = v_subtract(*rest, part);
    return part;
}
/// The upper halves of (low[i], high[i]) as pairs.
VECTOR_INLINE V pairs_of(V low, V high) {
    const __m512i lower = _mm512_srli_epi32(_mm512_castps_si512(low), 16);
    return _mm512_castsi512_ps(_mm512_mask_blend_epi16(0xaaaaaaaa, lower, _mm512_castps_si512(high)));
}

/// Sixteen rows of sixteen float32, `ld` apart.
struct block {
    const float *first;
    size_t ld;
};
enum { BLOCK = LANES * LANES };

/// The same with rows and columns exchanged, in `copy`.
VECTOR_INLINE struct block transpose_block(struct block b, float copy[BLOCK]) {
#pragma clang loop unroll(full)
    for (size_t j = 0; j < LANES; j += 4) {
        __m512 rows[4];
        // Quarters that are read one by one need no shuffle.
        for (size_t i = 0; i < 4; ++i) {
            const float *const at = b.first + i * b.ld + j;
            rows[i] = _mm512_castps128_ps512(_mm_loadu_ps(at));
            rows[i] = _mm512_insertf32x4(rows[i], _mm_loadu_ps(at + 4 * b.ld), 1);
            rows[i] = _mm512_insertf32x4(rows[i], _mm_loadu_ps(at + 8 * b.ld), 2);
            rows[i] = _mm512_insertf32x4(rows[i], _mm_loadu_ps(at + 12 * b.ld), 3);
        }
        const __m512 low = _mm512_unpacklo_ps(rows[0], rows[1]), high = _mm512_unpackhi_ps(rows[0], rows[1]);
        const __m512 next_low = _mm512_unpacklo_ps(rows[2], rows[3]), next_high = _mm512_unpackhi_ps(rows[2], rows[3]);
        v_store(copy + j * LANES, _mm512_shuffle_ps(low, next_low, 0x44));
        v_store(copy + (j + 1) * LANES, _mm512_shuffle_ps(low, next_low, 0xee));
        v_store(copy + (j + 2) * LANES, _mm512_shuffle_ps(high, next_high, 0x44));
        v_store(copy + (j + 3) * LANES, _mm512_shuffle_ps(high, next_high, 0xee));
    }
    return (struct block){copy, LANES};
}

/// The block from `index` on, of which the given rows and columns are there: in memory or, filled up with zeros, in
/// `copy`.
VECTOR_INLINE struct block block_at(const dmae_type type, size_t rows, size_t columns, const void *source, size_t index,
                                    size_t ld, float copy[BLOCK]) {
    if (type == DMAE_TYPE_F32 && rows >= LANES && columns >= LANES)
        return (struct block){(const float *)source + index, ld};
    for (size_t i = 0; i < LANES; ++i)
        v_store(copy + i * LANES, i < rows ? operand_masked(type, v_mask(columns), source, index + i * ld) : v_zero());
    return (struct block){copy, LANES};
}
VECTOR_INLINE size_t rest(size_t all, size_t taken) { return all > taken ? all - taken : 0; }

/// Sixteen rows or columns, from `i` on, of a step of k, in all parts: [row][pair] in a panel of A, [pair][column] in
/// one of B.
VECTOR_INLINE void pack_some(const dmae_type type, const bool is_a, size_t count, size_t k, size_t i, size_t p,
                             const void *source, size_t ld, const bool transposed, float *panels) {
    _Static_assert(MR == NR, "panels of A and B are equally wide");
    const size_t steps = (k + STEP_K - 1) / STEP_K, row_words = is_a ? HALF : NR;
    float *const step = panels + (i / MR * steps + p / STEP_K) * STEP_A + i % MR * (is_a ? HALF : 1);
    float copies[2][BLOCK] __attribute__((aligned(64))), turned[2][BLOCK] __attribute__((aligned(64)));
    struct block halves[2];
#pragma clang loop unroll(full)
    for (size_t half = 0; half < 2; ++half) {
        const size_t at = p + half * LANES, wide = count - i, deep = rest(k, at);
        if (transposed) halves[half] = block_at(type, deep, wide, source, at * ld + i, ld, copies[half]);
        else halves[half] = block_at(type, wide, deep, source, i * ld + at, ld, copies[half]);
        if (transposed == is_a) halves[half] = transpose_block(halves[half], turned[half]);
    }
    for (size_t row = 0; row < LANES; ++row) {
        V low = v_load(halves[0].first + row * halves[0].ld), high = v_load(halves[1].first + row * halves[1].ld);
        float *const target = step + row * row_words;
        for (size_t part = 0; part + 1 < PARTS; ++part) {
            const V low_part = next_part(&low), high_part = next_part(&high);
            v_store(target + part * PART_A, pairs_of(low_part, high_part));
        }
        v_store(target + (PARTS - 1) * PART_A, pairs_of(low, high)); // which the last part holds whole
    }
}

VECTOR_INLINE void pack_parts(const dmae_type type, const bool is_a, size_t count, size_t k, const void *source,
                              size_t ld, const bool transposed, float *panels) {
    if (!transposed) {
        for (size_t i = 0; i < count; i += HALF)
            for (size_t p = 0; p < k; p += STEP_K) pack_some(type, is_a, count, k, i, p, source, ld, false, panels);
        return;
    }
    for (size_t p = 0; p < k; p += STEP_K) {
        for (size_t row = p + STEP_K; row < p + 2 * STEP_K && row < k; ++row)
            prefetch_row(type, count, source, row * ld);
        for (size_t i = 0; i < count; i += HALF) pack_some(type, is_a, count, k, i, p, source, ld, true, panels);
    }
}

#define PACK(name, is_a)                                                                                             \
    static void KERNEL(name)(size_t count, size_t k, dmae_type type, const void *source, size_t ld, bool transposed, \
                             void *panels) {                                                                         \
        if (type == DMAE_TYPE_BF16 && transposed)                                                                    \
            pack_parts(DMAE_TYPE_BF16, is_a, count, k, source, ld, true, panels);                                    \
        else if (type == DMAE_TYPE_BF16) pack_parts(DMAE_TYPE_BF16, is_a, count, k, source, ld, false, panels);      \
        else if (transposed) pack_parts(DMAE_TYPE_F32, is_a, count, k, source, ld, true, panels);                    \
        else pack_parts(DMAE_TYPE_F32, is_a, count, k, source, ld, false, panels);                                   \
    }
PACK(pack_a, true)
PACK(pack_b, false)

const struct gemm_kernels gemm_f32_amx_32x32 = {
    .mr = MR,
    .nr = NR,
    .k_unit = STEP_K,
    .value_bytes = PARTS * 2,
    .max_kc = 768,
    .max_chunk_a = 8,
    .max_chunk_b = 8,
    .max_chunk_bytes = 1200 << 10,
    .group_a = 1,
    .group_b_bytes = 256 << 10,
    .max_prefetch_width = 512,
    .caches_shared = true,
    .contiguous_b = true,
    .pack_a = KERNEL(pack_a),
    .pack_b = KERNEL(pack_b),
    .tile = KERNEL(tile),
    .begin = KERNEL(begin),
    .end = KERNEL(end),
};
#pragma clang attribute pop
#endif
