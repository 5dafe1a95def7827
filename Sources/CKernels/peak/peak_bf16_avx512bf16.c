#if defined(__x86_64__)
#define KERNEL(part) peak_bf16_avx512bf16_##part
#include "peak/peak.h"
#define VECTOR_TARGET "avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16"
#include "cpu/vector_avx512.h"

// Chain i starts at i; a round adds two products of 1/2.
enum { CHAINS = 12 };

static double KERNEL(run)(size_t iterations) {
    V sum[CHAINS];
    for (int i = 0; i < CHAINS; ++i) sum[i] = v_set((float)i);
    for (int i = 0; i < CHAINS; ++i) __asm__ volatile("" : "+x"(sum[i])); // as in peak_f32_kernels.h
    const __m512bh half = (__m512bh)_mm512_set1_epi32(0x3f003f00), one = (__m512bh)_mm512_set1_epi32(0x3f803f80);
    for (size_t round = 0; round < iterations; ++round)
#pragma clang loop unroll(full)
        for (int i = 0; i < CHAINS; ++i) sum[i] = _mm512_dpbf16_ps(sum[i], half, one);
    float values[CHAINS * LANES];
    for (int i = 0; i < CHAINS; ++i) v_store(values + i * LANES, sum[i]);
    return peak_sum_f32(values, CHAINS * LANES);
}

const struct peak_kernels peak_bf16_avx512bf16 = {4 * LANES * CHAINS, KERNEL(run)};
#pragma clang attribute pop
#endif
