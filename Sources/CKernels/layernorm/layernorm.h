// y = (x - mean)·rstd·gamma + beta, rowwise; with x̂ = (x - mean)·rstd and g = d_y·gamma,
// d_x = rstd·(g - mean(g) - x̂·mean(g·x̂)), d_gamma = Σ d_y·x̂, d_beta = Σ d_y.
// Contract: rows are contiguous (ld = width). `statistics` is two passes: mean, then the mean of squared deviations.
// `apply` is the only code that writes y, so that the forward pass and its recomputation agree to the bit. `backward`
// writes (=) d_gamma and d_beta of its rows alone; d_x is += when accumulate and may be d_y when not.
#ifndef DMAE_LAYERNORM_H
#define DMAE_LAYERNORM_H
#include "cpu/variants.h"

struct layernorm_f32_kernels {
    void (*statistics)(size_t width, const float *x, float epsilon, float *mean, float *rstd);
    void (*apply)(size_t width, const float *x, const float *gamma, const float *beta, float mean, float rstd,
                  dmae_type y_type, void *y);
    void (*backward)(size_t rows, size_t width, const float *x, const float *gamma, const float *mean,
                     const float *rstd, const float *d_y, bool accumulate, float *d_x, float *d_gamma, float *d_beta);
};
#endif
