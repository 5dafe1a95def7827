// gelu(x) = x·Φ(x), Φ(x) = erfc(-x/√2)/2; gelu'(x) = Φ(x) + x·φ(x), φ(x) = exp(-x²/2)/√(2π).
// Contract: any count and alignment; y may be x; d_x may be d_y; y of the backward pass may be NULL. NaN stays NaN; at
// the infinities there are the limits, 0 and x of the function, 0 and 1 of the derivative.
#ifndef DMAE_GELU_H
#define DMAE_GELU_H
#include "cpu/variants.h"

struct gelu_f32_kernels {
    void (*forward)(size_t count, const float *x, float *y);
    void (*backward)(size_t count, const float *x, const float *d_y, float *d_x, float *y);
};
#endif
