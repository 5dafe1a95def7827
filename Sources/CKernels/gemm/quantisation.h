// How a row becomes 8-bit integers, the same on every instruction set: scales and zeros are computed here, in float32
// and rounded once per operation.
//
// A row of a weight (an output channel): value = scale·q, q in [-127, 127], scale = largest magnitude / 127.
// A row of activations (a token): value = scale·(q - zero), q in [0, 255], scale = (max - min) / 255, where the range
// includes zero, so that zero is exact. GELU's output, which is hardly ever negative, gets twice as many steps that
// way. q = value·inverse (+ zero), rounded to nearest, ties to even, and clamped to its range. A scale is at least
// 2⁻¹⁰⁸, so that its inverse is finite. A row that is not finite has the scale NaN, and so NaN results.
#ifndef DMAE_QUANTISATION_H
#define DMAE_QUANTISATION_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

struct quantisation {
    float scale, inverse;
    int32_t zero;
};

static inline struct quantisation quantisation_from(float scale, float lowest) {
    if (scale < 0x1p-108f) scale = 0x1p-108f;
    const float inverse = 1.0f / scale;
    return (struct quantisation){scale, inverse, (int32_t)rintf(-lowest * inverse)};
}
/// `lowest` <= 0 <= `highest` of the row's finite values; `finite`: whether all are finite.
static inline struct quantisation quantisation_of_activations(float lowest, float highest, bool finite) {
    if (!finite) return (struct quantisation){NAN, 0, 0};
    // The range itself may overflow.
    return quantisation_from(highest / 255.0f - lowest / 255.0f, lowest);
}
static inline struct quantisation quantisation_of_weights(float lowest, float highest, bool finite) {
    if (!finite) return (struct quantisation){NAN, 0, 0};
    return quantisation_from((highest > -lowest ? highest : -lowest) / 127.0f, 0);
}

/// Sums of integers fit 32 bits up to this depth: 255·127·k < 2³¹.
enum { gemm_int8_max_k = 1 << 16 };
_Static_assert(255ll * 127 * gemm_int8_max_k < 1ll << 31, "a sum may overflow");
#endif
