#define KERNEL(part) adamw_f32_scalar_##part
#include "adamw/adamw.h"

#include <math.h>

static void KERNEL(update)(size_t count, const struct adamw_f32_step *step, const float *gradient, float *weight,
                           float *first_moment, float *second_moment) {
    const struct adamw_f32_step s = *step;
    for (size_t i = 0; i < count; ++i) {
        const float g = gradient[i] * s.gradient_scale;
        const float m = s.beta1 * first_moment[i] + s.one_minus_beta1 * g;
        const float v = s.beta2 * second_moment[i] + s.one_minus_beta2 * (g * g);
        first_moment[i] = m;
        second_moment[i] = v;
        weight[i] = weight[i] * s.keep - s.step_size * (m / (sqrtf(v) * s.inverse_root_correction + s.epsilon));
    }
}

const struct adamw_f32_kernels adamw_f32_scalar = {KERNEL(update)};
