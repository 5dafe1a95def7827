// Contract: `run` does `iterations` rounds of independent multiply-adds held in registers, flops_per_round operations
// each, and returns the sum of all accumulators. A kernel that skips work returns another sum.
#ifndef DMAE_PEAK_H
#define DMAE_PEAK_H
#include "cpu/variants.h"

struct peak_kernels {
    size_t flops_per_round;
    double (*run)(size_t iterations);
};

static inline double peak_sum_f32(const float *values, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; ++i) sum += (double)values[i];
    return sum;
}
static inline double peak_sum_i32(const int32_t *values, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; ++i) sum += (double)values[i];
    return sum;
}
#endif
