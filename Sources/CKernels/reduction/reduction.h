// Contract: column_sum writes (=) Σ over `rows` rows of x[rows, n] to sum[n]; accumulate adds `count` partial rows
// [count, ld] to sum[n] in rising order; sum_of_squares returns Σ x² with every product and sum in double.
#ifndef DMAE_REDUCTION_H
#define DMAE_REDUCTION_H
#include "cpu/variants.h"

struct reduction_f32_kernels {
    void (*column_sum)(size_t rows, size_t n, dmae_type type, const void *x, size_t ldx, float *sum);
    double (*sum_of_squares)(size_t count, const float *x);
};

/// Rows that one partial column sum covers. It fixes the order of the sums, so it is the same for all instruction sets.
enum { reduction_rows = 32 };

/// target[n] += partial[0,:] + partial[1,:] + …, in that order, by all threads.
void reduction_f32_combine(size_t count, size_t n, const float *partial, size_t ld, float *target);
#endif
