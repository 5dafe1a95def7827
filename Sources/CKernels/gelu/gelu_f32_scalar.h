#ifndef DMAE_GELU_F32_SCALAR_H
#define DMAE_GELU_F32_SCALAR_H
#include <math.h>

/// Beyond this, Φ is 0 or 1 and φ is 0 in float32. gelu is its limit there, where ∞·0 would give NaN.
static const float gelu_f32_far = 20;

// erfc keeps the relative accuracy of the left tail, which 1 + erf loses.
static inline float gelu_f32_cumulative(float x) { return 0.5f * erfcf(x * -0.707106781186547524f); }

static inline float gelu_f32_reference(float x) { return x < -gelu_f32_far ? -0.0f : x * gelu_f32_cumulative(x); }

static inline float gelu_f32_reference_derivative(float x) {
    const float density = 0.398942280401432678f * expf(-0.5f * x * x);
    return gelu_f32_cumulative(x) + (fabsf(x) > gelu_f32_far ? 0 : x * density);
}
#endif
