#define KERNEL(part) layernorm_f32_scalar_##part
#include "cpu/scalar_bf16.h"
#include "layernorm/layernorm.h"

#include <math.h>

// Sixteen partial sums: closer to the true sum than one, and vectorisable in any order of additions.
static float KERNEL(lane_sum)(float *lanes) {
    for (int width = 8; width > 0; width /= 2)
        for (int lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
    return lanes[0];
}

static void KERNEL(statistics)(size_t width, const float *x, float epsilon, float *mean, float *rstd) {
    float sums[16] = {0}, squares[16] = {0};
    for (size_t i = 0; i < width; ++i) sums[i % 16] += x[i];
    const float centre = KERNEL(lane_sum)(sums) / (float)width;
    for (size_t i = 0; i < width; ++i) squares[i % 16] += (x[i] - centre) * (x[i] - centre);
    *mean = centre;
    *rstd = 1.0f / sqrtf(KERNEL(lane_sum)(squares) / (float)width + epsilon);
}

static void KERNEL(apply)(size_t width, const float *x, const float *gamma, const float *beta, float mean, float rstd,
                          dmae_type y_type, void *y) {
    for (size_t i = 0; i < width; ++i) set_element(y_type, y, i, (x[i] - mean) * rstd * gamma[i] + beta[i]);
}

static void KERNEL(backward)(size_t rows, size_t width, const float *x, const float *gamma, const float *mean,
                             const float *rstd, const float *d_y, bool accumulate, float *d_x, float *d_gamma,
                             float *d_beta) {
    for (size_t i = 0; i < width; ++i) d_gamma[i] = d_beta[i] = 0;
    for (size_t r = 0; r < rows; ++r, x += width, d_y += width, d_x += width) {
        float sums[16] = {0}, products[16] = {0};
        for (size_t i = 0; i < width; ++i) {
            const float normal = (x[i] - mean[r]) * rstd[r], g = d_y[i] * gamma[i];
            sums[i % 16] += g;
            products[i % 16] += g * normal;
            d_gamma[i] += d_y[i] * normal;
            d_beta[i] += d_y[i];
        }
        const float mean_g = KERNEL(lane_sum)(sums) / (float)width,
                    mean_product = KERNEL(lane_sum)(products) / (float)width;
        for (size_t i = 0; i < width; ++i) {
            const float normal = (x[i] - mean[r]) * rstd[r];
            const float gradient = rstd[r] * (d_y[i] * gamma[i] - mean_g - normal * mean_product);
            d_x[i] = accumulate ? d_x[i] + gradient : gradient;
        }
    }
}

const struct layernorm_f32_kernels layernorm_f32_scalar = {KERNEL(statistics), KERNEL(apply), KERNEL(backward)};
