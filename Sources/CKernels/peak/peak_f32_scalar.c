#include "peak/peak.h"

static void run(size_t iterations) {
    float sum[48];
    for (int i = 0; i < 48; ++i) sum[i] = (float)i;
    __asm__ volatile("" : : "r"(sum) : "memory"); // as in peak_f32_kernels.h
    for (size_t round = 0; round < iterations; ++round)
        for (int i = 0; i < 48; ++i) sum[i] = sum[i] * 0.5f + 1.0f;
    for (int i = 0; i < 48; ++i) __asm__ volatile("" : : "m"(sum[i]));
}

const struct peak_kernels peak_f32_scalar = {96, run};
// Its products of bf16 are done in float32.
const struct peak_kernels peak_bf16_scalar = {96, run};
