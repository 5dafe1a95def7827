// Attention with native bf16, on the operations of vector_avx512.h with AVX512-BF16: everything but the matmuls.
#ifndef DMAE_ATTENTION_BF16_PAIRS_H
#define DMAE_ATTENTION_BF16_PAIRS_H
#include "attention/fetch_ahead.h"

// Scores are stored as in the other variants, [key, query], but in blocks of one tile's width of queries. A lane of 32
// bits is a pair of neighbours in the dimension that is summed over. In memory a row of Q, K, V or dO already is a row
// of pairs, and so is a row of P or dS, [key, query], once it is rounded. Other layouts are
//   transposed   [pair of columns][row]: a vector holds one pair of 16 rows
//   interleaved  [pair of rows][column]: a lane holds two rows' elements of one column
// The rounded P and dS of the whole head stay in the second-level cache for the matmuls that sum over all queries.
enum { BLOCK = 2 * LANES };

/// Indices that take 16-bit elements of two vectors alternately, from `first` on.
VECTOR_INLINE __m512i alternating(int first) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i low = _mm512_add_epi32(lane, _mm512_set1_epi32(first));
    return _mm512_or_si512(low, _mm512_slli_epi32(_mm512_add_epi32(low, _mm512_set1_epi32(32)), 16));
}
/// Stores two rows of 32 elements as two vectors of interleaved pairs.
VECTOR_INLINE void store_interleaved(M left[2], float *interleaved, __m512i first, __m512i second) {
    v_store_masked(left[0], interleaved, _mm512_castsi512_ps(_mm512_permutex2var_epi16(first, alternating(0), second)));
    v_store_masked(left[1], interleaved + LANES,
                   _mm512_castsi512_ps(_mm512_permutex2var_epi16(first, alternating(16), second)));
}
/// The rounded pairs (first[i], second[i]).
VECTOR_INLINE V interleaved_pairs(V first, V second) {
    const __m512i halves = (__m512i)_mm512_cvtne2ps_pbh(second, first);
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i order = _mm512_or_si512(lane, _mm512_slli_epi32(_mm512_add_epi32(lane, _mm512_set1_epi32(16)), 16));
    return _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, halves));
}
VECTOR_INLINE __mmask32 half_mask(size_t count) { return count >= 32 ? 0xffffffffu : (1u << count) - 1; }
VECTOR_INLINE size_t whole_vectors(size_t count) { return (count + LANES - 1) / LANES * LANES; }
VECTOR_INLINE size_t pairs_in(size_t count) { return (count + 1) / 2; }

VECTOR_INLINE const uint16_t *row_at(const void *matrix, size_t row, size_t stride) {
    return (const uint16_t *)matrix + row * stride;
}

/// Copies [rows, width] to rows of `steps` pairs at `contiguous`, and to interleaved pairs with rows of whole vectors
/// at `interleaved`; either may be NULL. Both are padded with zeros.
VECTOR_INLINE void arrange(size_t rows, size_t width, const void *source, size_t stride, size_t steps,
                           float *contiguous, float *interleaved) {
    const size_t ld = whole_vectors(width);
    for (size_t j = 0; j < width; j += 32) {
        const __mmask32 read = half_mask(width - j);
        const M written = v_mask(steps - j / 2);
        M left[2] = {v_mask(ld - j), v_mask(ld - j > LANES ? LANES : 0)};
        for (size_t i = 0; i < rows; i += 2) {
            const __m512i first = _mm512_maskz_loadu_epi16(read, row_at(source, i, stride) + j);
            const __m512i second = i + 1 < rows ? _mm512_maskz_loadu_epi16(read, row_at(source, i + 1, stride) + j)
                                                : _mm512_setzero_si512();
            if (contiguous) {
                v_store_masked(written, contiguous + i * steps + j / 2, _mm512_castsi512_ps(first));
                if (i + 1 < rows)
                    v_store_masked(written, contiguous + (i + 1) * steps + j / 2, _mm512_castsi512_ps(second));
            }
            if (interleaved) store_interleaved(left, interleaved + i / 2 * ld + j, first, second);
        }
    }
}

/// transposed[p·BLOCK + i] = pair p of row i, zero from `rows` to the end of its vector.
VECTOR_INLINE void put_transposed(size_t rows, size_t width, const void *source, size_t stride, float *transposed) {
    for (size_t first = 0; first < rows; first += LANES)
        for (size_t j = 0; j < width; j += 32) {
            const __mmask32 read = half_mask(width - j);
            const size_t depth = pairs_in(width - j) < LANES ? pairs_in(width - j) : LANES;
            V pairs[LANES];
            for (size_t i = 0; i < LANES; ++i)
                pairs[i] =
                    first + i < rows
                        ? _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(read, row_at(source, first + i, stride) + j))
                        : v_zero();
            v_transpose(pairs);
            for (size_t p = 0; p < depth; ++p) v_store(transposed + (j / 2 + p) * BLOCK + first, pairs[p]);
        }
}

/// 2^x, to 3e-6 of itself: a minimax fit within 1/2 of an integer. Values below the subnormals become zero.
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

/// Scores [tokens, BLOCK] become exp(scale·(score - max_score)), in the same memory: rounded interleaved pairs,
/// [pair of keys][BLOCK]. factor = 1/sum; log_sum_exp of `count` queries, or NULL.
VECTOR_INLINE void exponentiate(const int WIDTH, size_t tokens, size_t count, float scale, float *scores, float *factor,
                                float *log_sum_exp) {
    V max[2], offset[2], sum[2];
    for (int j = 0; j < WIDTH; ++j) max[j] = v_load(scores + j * LANES);
    for (size_t i = 1; i < tokens; ++i)
        for (int j = 0; j < WIDTH; ++j) max[j] = v_max(max[j], v_load(scores + i * BLOCK + j * LANES));
    const V by = v_set(scale * log2_e);
    for (int j = 0; j < WIDTH; ++j) offset[j] = v_multiply(max[j], by), sum[j] = v_zero();
    for (size_t i = 0; i + 1 < tokens; i += 2)
        for (int j = 0; j < WIDTH; ++j) {
            const float *const at = scores + i * BLOCK + j * LANES;
            const V first = power_of_two(v_fms(v_load(at), by, offset[j]));
            const V second = power_of_two(v_fms(v_load(at + BLOCK), by, offset[j]));
            v_store(scores + i / 2 * BLOCK + j * LANES, interleaved_pairs(first, second));
            sum[j] = v_add(sum[j], v_add(first, second));
        }
    for (int j = 0; j < WIDTH; ++j) {
        if (tokens % 2) {
            const V only = power_of_two(v_fms(v_load(scores + (tokens - 1) * BLOCK + j * LANES), by, offset[j]));
            v_store(scores + tokens / 2 * BLOCK + j * LANES, interleaved_pairs(only, v_zero()));
            sum[j] = v_add(sum[j], only);
        }
        v_store(factor + j * LANES, v_divide(v_set(1.0f), sum[j]));
        const size_t first = (size_t)j * LANES;
        if (log_sum_exp && count > first)
            v_store_masked(v_mask(count - first), log_sum_exp + first,
                           v_fma(offset[j], v_set(ln_2), logarithm(sum[j])));
    }
}

/// Takes scratch memory in whole cache lines.
VECTOR_INLINE float *take(float **scratch, size_t floats) {
    float *const part = *scratch;
    *scratch += whole_vectors(floats);
    return part;
}

/// The scores and dP of `rows` keys become rounded P and dS in rows of `ld` pairs, and dS in interleaved pairs, too.
VECTOR_INLINE void differentiate(const int WIDTH, size_t rows, float scale, const float *scores, const float *d_p,
                                 const float *offset, const float *delta, float *p_rows, float *d_rows, size_t ld,
                                 float *transposed) {
    M all[2] = {0xffff, 0xffff};
    const V by = v_set(scale * log2_e);
    V offsets[2], deltas[2];
    for (int j = 0; j < WIDTH; ++j) offsets[j] = v_load(offset + j * LANES), deltas[j] = v_load(delta + j * LANES);
    for (size_t i = 0; i < rows; i += 2) {
        __m512i gradient[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
#pragma clang loop unroll(full)
        for (size_t half = 0; half < 2; ++half) {
            if (i + half == rows) break;
            const float *const at = scores + (i + half) * BLOCK, *const d_at = d_p + (i + half) * BLOCK;
            V p[2] = {v_zero(), v_zero()}, d[2] = {v_zero(), v_zero()};
            for (int j = 0; j < WIDTH; ++j) {
                p[j] = power_of_two(v_fms(v_load(at + j * LANES), by, offsets[j]));
                d[j] = v_multiply(p[j], v_subtract(v_load(d_at + j * LANES), deltas[j]));
            }
            gradient[half] = (__m512i)_mm512_cvtne2ps_pbh(d[1], d[0]);
            _mm512_storeu_si512(p_rows + (i + half) * ld, (__m512i)_mm512_cvtne2ps_pbh(p[1], p[0]));
            _mm512_storeu_si512(d_rows + (i + half) * ld, gradient[half]);
        }
        store_interleaved(all, transposed + i / 2 * BLOCK, gradient[0], gradient[1]);
    }
}
#endif
