#define KERNEL(part) peak_int8_scalar_##part
#include "peak/peak.h"

// Chain i starts at i; a round adds i².
enum { CHAINS = 48 };

static double KERNEL(run)(size_t iterations) {
    int32_t sum[CHAINS];
    int16_t factor[CHAINS];
    for (int i = 0; i < CHAINS; ++i) sum[i] = factor[i] = (int16_t)i;
    for (size_t round = 0; round < iterations; ++round) {
        // Otherwise the products, the same in each round, would be computed once.
        __asm__ volatile("" : : "r"(factor) : "memory");
        for (int i = 0; i < CHAINS; ++i) sum[i] = (int32_t)((uint32_t)sum[i] + (uint32_t)(factor[i] * factor[i]));
    }
    for (int i = 0; i < CHAINS; ++i) __asm__ volatile("" : : "m"(sum[i])); // in registers until here
    return peak_sum_i32(sum, CHAINS);
}

const struct peak_kernels peak_int8_scalar = {2 * CHAINS, KERNEL(run)};
