// The operations that the other headers of int8 ask for, with AVX512-VNNI.
#ifndef DMAE_GEMM_INT8_VNNI_H
#define DMAE_GEMM_INT8_VNNI_H
#include "gemm/quantisation.h"

// A lane is four neighbours in k. The instruction multiplies unsigned bytes (activations, with their zero) by signed
// ones.
enum { UNIT = 4, HAS_ZERO = 1 };
typedef __m512i I;
VECTOR_INLINE I i_zero(void) { return _mm512_setzero_si512(); }
VECTOR_INLINE I i_set(int32_t x) { return _mm512_set1_epi32(x); }
VECTOR_INLINE I i_load(const float *p) { return _mm512_loadu_si512(p); }
VECTOR_INLINE V i_float(I x) { return _mm512_cvtepi32_ps(x); }
VECTOR_INLINE I i_multiply_add(I sum, I a, I b) { return _mm512_dpbusd_epi32(sum, a, b); }
VECTOR_INLINE I i_without(I sum, I zero, I column_sum) {
    return _mm512_sub_epi32(sum, _mm512_mullo_epi32(zero, column_sum));
}

VECTOR_INLINE V groups(const bool weights, const V x[UNIT], struct quantisation q) {
    const V inverse = v_set(q.inverse);
    const I zero = i_set(q.zero);
    I whole[UNIT];
    for (int part = 0; part < UNIT; ++part) {
        whole[part] = _mm512_cvtps_epi32(v_multiply(x[part], inverse));
        if (!weights) whole[part] = _mm512_add_epi32(whole[part], zero);
    }
    // Packing saturates to the range. It works on quarters of a vector, which are put in order afterwards.
    const I low = _mm512_packs_epi32(whole[0], whole[1]), high = _mm512_packs_epi32(whole[2], whole[3]);
    const I bytes = weights ? _mm512_packs_epi16(low, high) : _mm512_packus_epi16(low, high);
    const I order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_castsi512_ps(_mm512_permutexvar_epi32(order, bytes));
}
VECTOR_INLINE void column_sums(size_t steps, const float *groups, int32_t *sums) {
    for (int j = 0; j < VECTORS; ++j) {
        I sum = i_zero();
        for (size_t step = 0; step < steps; ++step)
            sum = i_multiply_add(sum, i_set(0x01010101), i_load(groups + (step * VECTORS + j) * LANES));
        _mm512_storeu_si512(sums + j * LANES, sum);
    }
}
#endif
