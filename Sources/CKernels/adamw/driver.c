#include "adamw/adamw.h"
#include "cpu/threads.h"

#include <assert.h>
#include <math.h>

enum { chunk = 8192 };

void dmae_adamw_f32(size_t count, const dmae_adamw_f32_settings *settings, const float *gradient, float *weight,
                    float *first_moment, float *second_moment) {
    assert(settings->step >= 1);
    const double beta1 = settings->beta1, beta2 = settings->beta2, learning_rate = settings->learning_rate;
    const double step_number = (double)settings->step;
    const struct adamw_f32_step step = {
        .gradient_scale = settings->gradient_scale,
        .beta1 = settings->beta1,
        .one_minus_beta1 = (float)(1 - beta1),
        .beta2 = settings->beta2,
        .one_minus_beta2 = (float)(1 - beta2),
        .keep = (float)(1 - learning_rate * (double)settings->weight_decay),
        .step_size = (float)(learning_rate / (1 - pow(beta1, step_number))),
        .inverse_root_correction = (float)(1 / sqrt(1 - pow(beta2, step_number))),
        .epsilon = settings->epsilon,
    };
    const struct adamw_f32_kernels *const kernels = KERNELS(adamw_f32);
    DMAE_PARALLEL_FOR(i, dmae_ceiling(count, chunk), 4, {
        kernels->update(dmae_min(chunk, count - i * chunk), &step, gradient + i * chunk, weight + i * chunk,
                        first_moment + i * chunk, second_moment + i * chunk);
    });
}
