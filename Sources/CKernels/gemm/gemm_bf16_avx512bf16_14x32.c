#if defined(__x86_64__)
#include "gemm/gemm.h"
#define VECTOR_TARGET "avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16"
#define VECTOR_ROUNDS_TO_BF16
#include "cpu/vector_avx512.h"
#include "gelu/gelu_f32_vector.h"

enum { MR = 14, VECTORS = 2, REGISTERS = 32, STEPS = 1 };
#define TILE_CASES TILE_CASES_14
#include "gemm/register_tile_f32.h"

// A lane of 32 bits is a pair of neighbours in k: [panel][k/2][MR or NR], the earlier one in the lower half.

/// The pairs of 32 floats in memory order; `low` is the first sixteen.
VECTOR_INLINE V pairs_along(V low, V high) { return _mm512_castsi512_ps((__m512i)_mm512_cvtne2ps_pbh(high, low)); }
/// The pairs (first[i], second[i]).
VECTOR_INLINE V pairs_across(__m256i first, __m256i second) {
    const __m512i low = _mm512_cvtepu16_epi32(first), high = _mm512_cvtepu16_epi32(second);
    return _mm512_castsi512_ps(_mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
}

/// Elements from `index` on; `type` is a constant wherever these are inlined. `left` says how many of the 32 or 16 there are.
VECTOR_INLINE V pairs_at(const dmae_type type, size_t left, const void *source, size_t index) {
    if (type == DMAE_TYPE_BF16) {
        const __mmask32 mask = left >= 2 * LANES ? 0xffffffffu : (1u << left) - 1;
        return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(mask, (const uint16_t *)source + index));
    }
    const M low = v_mask(left), high = v_mask(left > LANES ? left - LANES : 0);
    const float *const floats = (const float *)source + index;
    return pairs_along(v_load_masked(low, floats), v_load_masked(high, floats + LANES));
}
VECTOR_INLINE __m256i halves_at(const dmae_type type, size_t left, const void *source, size_t index) {
    if (type == DMAE_TYPE_BF16) return _mm256_maskz_loadu_epi16(v_mask(left), (const uint16_t *)source + index);
    return (__m256i)_mm512_cvtneps_pbh(v_load_masked(v_mask(left), (const float *)source + index));
}

/// pairs[q·unit + i] = (source[start + i·ld + 2q], source[start + i·ld + 2q + 1]) for i < count <= LANES, zero from there to `width`;
/// 2q < k.
VECTOR_INLINE void pack_along(const dmae_type type, size_t count, size_t width, size_t unit, size_t k, const void *source, size_t start,
                              size_t ld, float *pairs) {
    const M written = v_mask(width);
    for (size_t p = 0; p < k; p += 2 * LANES) {
        const size_t left = k - p;
        V rows[LANES];
        if (left >= 2 * LANES && count == width) {
#pragma clang loop unroll(full)
            for (size_t i = 0; i < LANES; ++i) rows[i] = i < width ? pairs_at(type, 2 * LANES, source, start + i * ld + p) : v_zero();
            v_transpose(rows);
#pragma clang loop unroll(full)
            for (size_t q = 0; q < LANES; ++q) v_store_masked(written, pairs + (p / 2 + q) * unit, rows[q]);
        } else {
            const size_t depth = left < 2 * LANES ? left : 2 * LANES;
            for (size_t i = 0; i < LANES; ++i) rows[i] = i < count ? pairs_at(type, depth, source, start + i * ld + p) : v_zero();
            v_transpose(rows);
            for (size_t q = 0; q < (depth + 1) / 2; ++q) v_store_masked(written, pairs + (p / 2 + q) * unit, rows[q]);
        }
    }
}

/// A step of k of a panel: `first` and `second` are where its rows begin, or there is no second; `left` of the panel's values are there.
VECTOR_INLINE void pack_step(const dmae_type type, const size_t unit, size_t left, const void *source, size_t first, const bool has_second,
                             size_t second, float *pairs) {
#pragma clang loop unroll(full)
    for (size_t part = 0; part < unit; part += LANES) {
        const size_t there = left > part ? left - part : 0;
        const __m256i low = halves_at(type, there, source, first + part);
        const __m256i high = has_second ? halves_at(type, there, source, second + part) : _mm256_setzero_si256();
        v_store_masked(v_mask(unit - part), pairs + part, pairs_across(low, high));
    }
}

/// The same from source[p·ld + i]: all panels of a step of k before the next, as in gemm_f32.
VECTOR_INLINE void pack_across(const dmae_type type, const size_t unit, size_t count, size_t k, const void *source, size_t ld,
                               float *pairs) {
    const size_t steps = (k + 1) / 2, whole = count / unit * unit;
    for (size_t q = 0; q < steps; ++q) {
        const size_t first = 2 * q * ld, second = first + ld;
        const bool has_second = 2 * q + 1 < k;
        prefetch_row(type, count, source, first + 64 * ld);
        prefetch_row(type, count, source, second + 64 * ld);
        float *const step = pairs + q * unit;
        if (has_second)
            for (size_t i = 0; i < whole; i += unit) pack_step(type, unit, unit, source, first + i, true, second + i, step + i * steps);
        else
            for (size_t i = 0; i < whole; i += unit) pack_step(type, unit, unit, source, first + i, false, 0, step + i * steps);
        if (whole < count)
            pack_step(type, unit, count - whole, source, first + whole, has_second, second + whole, step + whole * steps);
    }
}

VECTOR_INLINE void pack(const dmae_type type, const size_t unit, size_t count, size_t k, const void *source, size_t ld, bool across,
                        float *pairs) {
    if (across) return pack_across(type, unit, count, k, source, ld, pairs);
    const size_t steps = (k + 1) / 2;
    for (size_t first = 0; first < count; first += unit)
        for (size_t part = 0; part < unit; part += LANES) {
            const size_t i = first + part, width = unit - part < LANES ? unit - part : LANES, left = count > i ? count - i : 0;
            pack_along(type, left < width ? left : width, width, unit, k, source, i * ld, ld, pairs + first * steps + part);
        }
}
static void pack_a(size_t count, size_t k, dmae_type type, const void *source, size_t ld, bool across, void *panels) {
    if (type == DMAE_TYPE_BF16) pack(DMAE_TYPE_BF16, MR, count, k, source, ld, across, panels);
    else pack(DMAE_TYPE_F32, MR, count, k, source, ld, across, panels);
}
static void pack_b(size_t count, size_t k, dmae_type type, const void *source, size_t ld, bool across, void *panels) {
    if (type == DMAE_TYPE_BF16) pack(DMAE_TYPE_BF16, NR, count, k, source, ld, across, panels);
    else pack(DMAE_TYPE_F32, NR, count, k, source, ld, across, panels);
}

VECTOR_INLINE void pair_step(const int ROWS, const int WIDTH, const float *a, const float *b, V sum[MR][VECTORS]) {
    __m512bh row[VECTORS];
#pragma clang loop unroll(full)
    for (int j = 0; j < WIDTH * LANES; j += 16) _mm_prefetch((const char *)(b + 32 * NR + j), _MM_HINT_T0);
    _mm_prefetch((const char *)(a + 36 * MR), _MM_HINT_T0);
#pragma clang loop unroll(full)
    for (int j = 0; j < WIDTH; ++j) row[j] = (__m512bh)v_load(b + j * LANES);
#pragma clang loop unroll(full)
    for (int i = 0; i < ROWS; ++i) {
        const __m512bh element = (__m512bh)v_set(a[i]);
#pragma clang loop unroll(full)
        for (int j = 0; j < WIDTH; ++j) sum[i][j] = _mm512_dpbf16_ps(sum[i][j], element, row[j]);
    }
}

VECTOR_INLINE void pair_product(const int ROWS, const int WIDTH, size_t k, const float *a, const float *b,
                                const struct gemm_fetched *fetched, V sum[MR][VECTORS]) {
#pragma clang loop unroll(full)
    for (int i = 0; i < ROWS; ++i)
#pragma clang loop unroll(full)
        for (int j = 0; j < WIDTH; ++j) sum[i][j] = v_zero();
    FETCHING_ROUNDS((k + 1) / 2, fetched, {
        pair_step(ROWS, WIDTH, a, b, sum);
        a += MR;
        b += NR;
    });
}
#define PRODUCT(ROWS, WIDTH, t, fetched, sum) pair_product(ROWS, WIDTH, (t)->k, (t)->a, (t)->b, fetched, sum)
#include "gemm/tile_epilogue.h"

const struct gemm_kernels gemm_bf16_avx512bf16_14x32 = {
    .mr = MR, .nr = NR, .k_unit = 2, .value_bytes = 2,
    .k_block = 2048, .run_a = 4, .run_b = 2, .round_a = 1, .narrow = 512,
    .pack_a = pack_a, .pack_b = pack_b, .tile = tile,
};
#pragma clang attribute pop
#endif
