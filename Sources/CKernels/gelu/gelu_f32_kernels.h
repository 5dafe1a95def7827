#include "gelu/gelu_f32_vector.h"

static void forward(size_t count, const float *x, float *y) {
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) v_store(y + i, gelu_f32(v_load(x + i)));
    if (i < count) {
        const M mask = v_mask(count - i);
        v_store_masked(mask, y + i, gelu_f32(v_load_masked(mask, x + i)));
    }
}

VECTOR_INLINE V derivative(V x, V d_y, V *y) {
    V density;
    const V cumulative = gelu_f32_cumulative(x, &density);
    *y = v_multiply(x, cumulative);
    return v_multiply(d_y, v_fma(x, density, cumulative));
}

static void backward(size_t count, const float *x, const float *d_y, float *d_x, float *y) {
    size_t i = 0;
    V value;
    for (; i + LANES <= count; i += LANES) {
        v_store(d_x + i, derivative(v_load(x + i), v_load(d_y + i), &value));
        if (y) v_store(y + i, value);
    }
    if (i < count) {
        const M mask = v_mask(count - i);
        v_store_masked(mask, d_x + i, derivative(v_load_masked(mask, x + i), v_load_masked(mask, d_y + i), &value));
        if (y) v_store_masked(mask, y + i, value);
    }
}
