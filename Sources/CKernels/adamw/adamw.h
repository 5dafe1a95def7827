// Contract: one AdamW step on `count` elements, with constants that the driver computes:
//   g = gradient·gradient_scale;  m = beta1·m + (1-beta1)·g;  v = beta2·v + (1-beta2)·g²
//   w = w·keep - step_size · m / (sqrt(v)·inverse_root_correction + epsilon)
#ifndef DMAE_ADAMW_H
#define DMAE_ADAMW_H
#include "cpu/variants.h"

struct adamw_f32_step {
    float gradient_scale, beta1, one_minus_beta1, beta2, one_minus_beta2;
    float keep;                    ///< 1 - learning_rate·weight_decay
    float step_size;               ///< learning_rate / (1-beta1^step)
    float inverse_root_correction; ///< 1 / sqrt(1-beta2^step)
    float epsilon;
};

struct adamw_f32_kernels {
    void (*update)(size_t count, const struct adamw_f32_step *step, const float *gradient, float *weight,
                   float *first_moment, float *second_moment);
};
#endif
