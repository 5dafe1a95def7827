#ifndef DMAE_GELU_F32_SCALAR_H
#define DMAE_GELU_F32_SCALAR_H
#include <math.h>

// erfc keeps the relative accuracy of the left tail, which 1 + erf loses.
static inline float gelu_f32_cumulative(float x) { return 0.5f * erfcf(x * -0.707106781186547524f); }
static inline float gelu_f32_density(float x) { return 0.398942280401432678f * expf(-0.5f * x * x); }
#endif
