#define KERNEL(part) gelu_f32_scalar_##part
#include "gelu/gelu_f32_scalar.h"
#include "gelu/gelu.h"

static void KERNEL(forward)(size_t count, const float *x, float *y) {
    for (size_t i = 0; i < count; ++i) y[i] = gelu_f32_reference(x[i]);
}

static void KERNEL(backward)(size_t count, const float *x, const float *d_y, float *d_x, float *y) {
    for (size_t i = 0; i < count; ++i) {
        const float value = x[i];
        d_x[i] = d_y[i] * gelu_f32_reference_derivative(value);
        if (y) y[i] = gelu_f32_reference(value);
    }
}

const struct gelu_f32_kernels gelu_f32_scalar = {KERNEL(forward), KERNEL(backward)};
