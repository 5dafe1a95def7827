#define KERNEL(part) reduction_f32_scalar_##part
#include "cpu/scalar_bf16.h"
#include "reduction/reduction.h"

static void KERNEL(column_sum)(size_t rows, size_t n, dmae_type type, const void *x, size_t ldx, float *sum) {
    for (size_t j = 0; j < n; ++j) sum[j] = 0;
    for (size_t i = 0; i < rows; ++i)
        for (size_t j = 0; j < n; ++j) sum[j] += element_at(type, x, i * ldx + j);
}

static double KERNEL(sum_of_squares)(size_t count, const float *x) {
    double lanes[16] = {0};
    size_t i = 0;
    for (; i + 16 <= count; i += 16)
        for (int lane = 0; lane < 16; ++lane) lanes[lane] += (double)x[i + lane] * (double)x[i + lane];
    for (int lane = 0; i < count; ++i, ++lane) lanes[lane] += (double)x[i] * (double)x[i];
    for (int width = 8; width > 0; width /= 2)
        for (int lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
    return lanes[0];
}

const struct reduction_f32_kernels reduction_f32_scalar = {KERNEL(column_sum), KERNEL(sum_of_squares)};
