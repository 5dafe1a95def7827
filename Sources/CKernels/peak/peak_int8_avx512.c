#if defined(__x86_64__)
#define KERNEL(part) peak_int8_avx512_##part
#include "peak/peak.h"
#include "cpu/vector_avx512.h"

// As its products of bytes are done: in 16 bits, two to a lane, and an addition.
enum { CHAINS = 12 };

static void KERNEL(run)(size_t iterations) {
    __m512i sum[CHAINS], one = _mm512_set1_epi32(0x00010001);
    for (int i = 0; i < CHAINS; ++i) sum[i] = _mm512_set1_epi32(i);
    for (size_t round = 0; round < iterations; ++round)
#pragma clang loop unroll(full)
        for (int i = 0; i < CHAINS; ++i) {
            // Otherwise the product, the same in each round, would be worked out once.
            __asm__ volatile("" : "+x"(one));
            sum[i] = _mm512_add_epi32(sum[i], _mm512_madd_epi16(one, one));
        }
    for (int i = 0; i < CHAINS; ++i) __asm__ volatile("" : : "x"(sum[i]));
}

const struct peak_kernels peak_int8_avx512 = {4 * LANES * CHAINS, KERNEL(run)};
#pragma clang attribute pop
#endif
