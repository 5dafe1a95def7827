#include "cpu/threads.h"
#include "gelu/gelu.h"

enum { chunk = 4096 };

void dmae_gelu_f32_forward(size_t count, const float *x, float *y) {
    const struct gelu_f32_kernels *const kernels = KERNELS(gelu_f32);
    const size_t chunks = dmae_ceiling(count, chunk);
#pragma omp parallel for num_threads(dmae_threads_for(chunks)) schedule(dynamic, 4)
    for (size_t i = 0; i < chunks; ++i)
        kernels->forward(dmae_least(chunk, count - i * chunk), x + i * chunk, y + i * chunk);
}

void dmae_gelu_f32_backward(size_t count, const float *x, const float *d_y, float *d_x, float *y) {
    const struct gelu_f32_kernels *const kernels = KERNELS(gelu_f32);
    const size_t chunks = dmae_ceiling(count, chunk);
#pragma omp parallel for num_threads(dmae_threads_for(chunks)) schedule(dynamic, 4)
    for (size_t i = 0; i < chunks; ++i)
        kernels->backward(dmae_least(chunk, count - i * chunk), x + i * chunk, d_y + i * chunk, d_x + i * chunk,
                          y ? y + i * chunk : NULL);
}
