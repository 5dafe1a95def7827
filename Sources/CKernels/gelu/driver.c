#include "cpu/threads.h"
#include "gelu/gelu.h"

enum { chunk = 4096 };

void dmae_gelu_f32_forward(size_t count, const float *x, float *y) {
    const struct gelu_f32_kernels *const kernels = KERNELS(gelu_f32);
    DMAE_PARALLEL_FOR(i, dmae_ceiling(count, chunk), 4,
                      { kernels->forward(dmae_min(chunk, count - i * chunk), x + i * chunk, y + i * chunk); });
}

void dmae_gelu_f32_backward(size_t count, const float *x, const float *d_y, float *d_x, float *y) {
    const struct gelu_f32_kernels *const kernels = KERNELS(gelu_f32);
    DMAE_PARALLEL_FOR(i, dmae_ceiling(count, chunk), 4, {
        kernels->backward(dmae_min(chunk, count - i * chunk), x + i * chunk, d_y + i * chunk, d_x + i * chunk,
                          y ? y + i * chunk : NULL);
    });
}
