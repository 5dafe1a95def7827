#include "cpu/threads.h"
#include "layernorm/layernorm.h"
#include "reduction/reduction.h"

static void *row_of(dmae_type type, void *tensor, size_t index) {
    return (char *)tensor + index * dmae_type_bytes(type);
}

void dmae_layernorm_f32_forward(size_t rows, size_t width, const float *x, const float *gamma, const float *beta,
                                float epsilon, dmae_type y_type, void *y, float *mean, float *rstd) {
    const struct layernorm_f32_kernels *const kernels = KERNELS(layernorm_f32);
    DMAE_PARALLEL_FOR(r, rows, 16, {
        float row_mean, row_rstd;
        kernels->statistics(width, x + r * width, epsilon, &row_mean, &row_rstd);
        kernels->apply(width, x + r * width, gamma, beta, row_mean, row_rstd, y_type, row_of(y_type, y, r * width));
        if (mean) mean[r] = row_mean;
        if (rstd) rstd[r] = row_rstd;
    });
}

void dmae_layernorm_f32_apply(size_t rows, size_t width, const float *x, const float *gamma, const float *beta,
                              const float *mean, const float *rstd, dmae_type y_type, void *y) {
    const struct layernorm_f32_kernels *const kernels = KERNELS(layernorm_f32);
    DMAE_PARALLEL_FOR(r, rows, 16, {
        kernels->apply(width, x + r * width, gamma, beta, mean[r], rstd[r], y_type, row_of(y_type, y, r * width));
    });
}

size_t dmae_layernorm_f32_backward_workspace(size_t rows, size_t width) {
    return dmae_round_up(dmae_ceiling(rows, reduction_rows) * 2 * width * sizeof(float), 64);
}

void dmae_layernorm_f32_backward(size_t rows, size_t width, const float *x, const float *gamma, const float *mean,
                                 const float *rstd, const float *d_y, bool accumulate, float *d_x, float *d_gamma,
                                 float *d_beta, void *workspace) {
    const struct layernorm_f32_kernels *const kernels = KERNELS(layernorm_f32);
    float *const partial = workspace; // [chunks, 2, width]: d_gamma, d_beta
    const size_t chunks = dmae_ceiling(rows, reduction_rows);
    DMAE_PARALLEL_FOR(i, chunks, 1, {
        const size_t first = i * reduction_rows, at = first * width;
        kernels->backward(dmae_min(reduction_rows, rows - first), width, x + at, gamma, mean + first, rstd + first,
                          d_y + at, accumulate, d_x + at, partial + i * 2 * width, partial + (i * 2 + 1) * width);
    });
    reduction_f32_combine(chunks, width, partial, 2 * width, d_gamma);
    reduction_f32_combine(chunks, width, partial + width, 2 * width, d_beta);
}
