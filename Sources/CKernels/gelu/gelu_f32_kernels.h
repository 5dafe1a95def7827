#include "gelu/gelu_f32_vector.h"

static void KERNEL(forward)(size_t count, const float *x, float *y) {
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) v_store(y + i, gelu_f32(v_load(x + i)));
    if (i < count) {
        const M mask = v_mask(count - i);
        v_store_masked(mask, y + i, gelu_f32(v_load_masked(mask, x + i)));
    }
}

static void KERNEL(backward)(size_t count, const float *x, const float *d_y, float *d_x, float *y) {
    for (size_t i = 0; i < count; i += LANES) {
        const M mask = v_mask(count - i);
        const V value = v_load_masked(mask, x + i);
        v_store_masked(mask, d_x + i, v_multiply(v_load_masked(mask, d_y + i), gelu_f32_derivative(value)));
        if (y) v_store_masked(mask, y + i, gelu_f32(value));
    }
}
