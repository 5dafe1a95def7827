#if defined(__x86_64__)
#define KERNEL(part) peak_int8_avx512vnni_##part
#include "peak/peak.h"
#define VECTOR_TARGET "avx512f,avx512bw,avx512dq,avx512vl,fma,avx512vnni"
#include "cpu/vector_avx512.h"

// Chain i starts at i; a round adds four products of 1.
enum { CHAINS = 12 };

static double KERNEL(run)(size_t iterations) {
    __m512i sum[CHAINS];
    for (int i = 0; i < CHAINS; ++i) sum[i] = _mm512_set1_epi32(i);
    const __m512i one = _mm512_set1_epi32(0x01010101);
    for (size_t round = 0; round < iterations; ++round)
#pragma clang loop unroll(full)
        for (int i = 0; i < CHAINS; ++i) sum[i] = _mm512_dpbusd_epi32(sum[i], one, one);
    int32_t values[CHAINS * LANES];
    for (int i = 0; i < CHAINS; ++i) _mm512_storeu_si512(values + i * LANES, sum[i]);
    return peak_sum_i32(values, CHAINS * LANES);
}

const struct peak_kernels peak_int8_avx512vnni = {8 * LANES * CHAINS, KERNEL(run)};
#pragma clang attribute pop
#endif
