#if defined(__x86_64__)
#define KERNEL(part) peak_int8_avx512_##part
#include "peak/peak.h"
#include "cpu/vector_avx512.h"

// The int8 kernels of this set multiply 16-bit integers, two to a lane, and add. Chain i starts at i; a round adds 2.
enum { CHAINS = 12 };

static double KERNEL(run)(size_t iterations) {
    __m512i sum[CHAINS], one = _mm512_set1_epi32(0x00010001);
    for (int i = 0; i < CHAINS; ++i) sum[i] = _mm512_set1_epi32(i);
    for (size_t round = 0; round < iterations; ++round)
#pragma clang loop unroll(full)
        for (int i = 0; i < CHAINS; ++i) {
            // Otherwise the product, the same in each round, would be computed once.
            __asm__ volatile("" : "+x"(one));
            sum[i] = _mm512_add_epi32(sum[i], _mm512_madd_epi16(one, one));
        }
    int32_t values[CHAINS * LANES];
    for (int i = 0; i < CHAINS; ++i) _mm512_storeu_si512(values + i * LANES, sum[i]);
    return peak_sum_i32(values, CHAINS * LANES);
}

const struct peak_kernels peak_int8_avx512 = {4 * LANES * CHAINS, KERNEL(run)};
#pragma clang attribute pop
#endif
