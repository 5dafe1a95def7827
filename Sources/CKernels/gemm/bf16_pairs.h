// Packs operands as interleaved bf16 pairs, on the operations of vector_avx512.h with AVX512-BF16. The including file
// defines K_UNIT: the depth of a panel is a multiple of it, padded with zeros.
#ifndef DMAE_BF16_PAIRS_H
#define DMAE_BF16_PAIRS_H
#include "gemm/operand.h"

// A lane of 32 bits is a pair of neighbours in k, [panel][k/2][columns or rows], with the earlier one in the lower
// half. Vectors of pairs have the type V, and pointers to them the type float *, though they hold no floats.

/// The pairs of 32 floats in memory order; `low` is the first sixteen.
VECTOR_INLINE V contiguous_pairs(V low, V high) { return _mm512_castsi512_ps((__m512i)_mm512_cvtne2ps_pbh(high, low)); }
/// The pairs (first[i], second[i]).
VECTOR_INLINE V interleaved_pairs(__m256i first, __m256i second) {
    const __m512i low = _mm512_cvtepu16_epi32(first), high = _mm512_cvtepu16_epi32(second);
    return _mm512_castsi512_ps(_mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
}

/// Elements from `index` on, of which `left` exist, of 32 or 16; `type` is a constant wherever these are inlined.
VECTOR_INLINE V pairs_at(const dmae_type type, size_t left, const void *source, size_t index) {
    if (type == DMAE_TYPE_BF16) {
        const __mmask32 mask = left >= 2 * LANES ? 0xffffffffu : (1u << left) - 1;
        return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(mask, (const uint16_t *)source + index));
    }
    const M low = v_mask(left), high = v_mask(left > LANES ? left - LANES : 0);
    const float *const floats = (const float *)source + index;
    return contiguous_pairs(v_load_masked(low, floats), v_load_masked(high, floats + LANES));
}
VECTOR_INLINE __m256i halves_at(const dmae_type type, size_t left, const void *source, size_t index) {
    if (type == DMAE_TYPE_BF16) return _mm256_maskz_loadu_epi16(v_mask(left), (const uint16_t *)source + index);
    return (__m256i)_mm512_cvtneps_pbh(v_load_masked(v_mask(left), (const float *)source + index));
}

/// pairs[q·unit + i] = (source[start + i·ld + 2q], source[start + i·ld + 2q + 1]) for i < count <= LANES, zero from
/// there to `width`; 2q < k.
VECTOR_INLINE void pack_rows(const dmae_type type, size_t count, size_t width, size_t unit, size_t k,
                             const void *source, size_t start, size_t ld, float *pairs) {
    const M written = v_mask(width);
    for (size_t p = 0; p < k; p += 2 * LANES) {
        const size_t left = k - p;
        V rows[LANES];
        if (left >= 2 * LANES && count == width) {
#pragma clang loop unroll(full)
            for (size_t i = 0; i < LANES; ++i)
                rows[i] = i < width ? pairs_at(type, 2 * LANES, source, start + i * ld + p) : v_zero();
            v_transpose(rows);
#pragma clang loop unroll(full)
            for (size_t q = 0; q < LANES; ++q) v_store_masked(written, pairs + (p / 2 + q) * unit, rows[q]);
        } else {
            const size_t depth = left < 2 * LANES ? left : 2 * LANES;
            for (size_t i = 0; i < LANES; ++i)
                rows[i] = i < count ? pairs_at(type, depth, source, start + i * ld + p) : v_zero();
            v_transpose(rows);
            for (size_t q = 0; q < (depth + 1) / 2; ++q) v_store_masked(written, pairs + (p / 2 + q) * unit, rows[q]);
        }
    }
}

VECTOR_INLINE size_t steps_of(size_t k) { return (k + K_UNIT - 1) / K_UNIT * (K_UNIT / 2); }

/// Packs a step of k of a panel from the rows of the source that begin at `first` and `second`, if there is a second.
/// `left` of the panel's values exist.
VECTOR_INLINE void pack_step(const dmae_type type, const size_t unit, size_t left, const void *source, size_t first,
                             const bool has_second, size_t second, float *pairs) {
#pragma clang loop unroll(full)
    for (size_t part = 0; part < unit; part += LANES) {
        const size_t there = left > part ? left - part : 0;
        const __m256i low = halves_at(type, there, source, first + part);
        const __m256i high = has_second ? halves_at(type, there, source, second + part) : _mm256_setzero_si256();
        v_store_masked(v_mask(unit - part), pairs + part, interleaved_pairs(low, high));
    }
}

/// Packs source[p·ld + i]: all panels of a step of k before the next step, as in gemm_f32_kernels.h.
VECTOR_INLINE void pack_pairs_transposed(const dmae_type type, const size_t unit, size_t count, size_t k,
                                         const void *source, size_t ld, float *pairs) {
    const size_t steps = steps_of(k), whole = count / unit * unit;
    for (size_t q = 0; q < (k + 1) / 2; ++q) {
        const size_t first = 2 * q * ld, second = first + ld;
        const bool has_second = 2 * q + 1 < k;
        prefetch_row(type, count, source, first + 64 * ld);
        prefetch_row(type, count, source, second + 64 * ld);
        float *const step = pairs + q * unit;
        if (has_second)
            for (size_t i = 0; i < whole; i += unit)
                pack_step(type, unit, unit, source, first + i, true, second + i, step + i * steps);
        else
            for (size_t i = 0; i < whole; i += unit)
                pack_step(type, unit, unit, source, first + i, false, 0, step + i * steps);
        if (whole < count)
            pack_step(type, unit, count - whole, source, first + whole, has_second, second + whole,
                      step + whole * steps);
    }
}

VECTOR_INLINE void pack(const dmae_type type, const size_t unit, size_t count, size_t k, const void *source, size_t ld,
                        bool transposed, float *pairs) {
    const size_t steps = steps_of(k), there = (k + 1) / 2;
    if (steps != there)
        for (size_t i = 0; i < count; i += unit)
            memset(pairs + i * steps + there * unit, 0, (steps - there) * unit * sizeof(float));
    if (transposed) return pack_pairs_transposed(type, unit, count, k, source, ld, pairs);
    for (size_t first = 0; first < count; first += unit)
        for (size_t part = 0; part < unit; part += LANES) {
            const size_t i = first + part, width = unit - part < LANES ? unit - part : LANES,
                         left = count > i ? count - i : 0;
            pack_rows(type, left < width ? left : width, width, unit, k, source, i * ld, ld,
                      pairs + first * steps + part);
        }
}
#endif
