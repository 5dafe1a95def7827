// How a row of values becomes whole numbers of 8 bits, the same on every instruction set: what the vector variants
// compute beside their loops is computed here, in float32 and rounded once per operation.
//
// A weight's row (an output channel): value = scale·q, q in [-127, 127], scale = greatest magnitude/127.
// An activation's row (a token): value = scale·(q - zero), q in [0, 255], scale = (highest - lowest)/255, where the
// range holds zero, so that zero is exact. GELU's output, which hardly goes below zero, has twice as many steps that
// way. q = the nearest whole number to value·inverse (+ zero), ties to even, cut to its range. Rows without a magnitude
// of 2⁻¹⁰⁸ in their scale take that as their scale: their inverse stays finite. A row that is not finite has NaN for
// its scale, and so for its results.
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
/// `lowest` <= 0 <= `highest`, of a row's values that are finite; `finite`: whether all are.
static inline struct quantisation quantisation_of_activations(float lowest, float highest, bool finite) {
    if (!finite) return (struct quantisation){NAN, 0, 0};
    // The range itself may overflow.
    return quantisation_from(highest / 255.0f - lowest / 255.0f, lowest);
}
static inline struct quantisation quantisation_of_weights(float lowest, float highest, bool finite) {
    if (!finite) return (struct quantisation){NAN, 0, 0};
    return quantisation_from((highest > -lowest ? highest : -lowest) / 127.0f, 0);
}

/// The whole numbers' sums fit 32 bits up to this depth: 255·127·k < 2³¹.
enum { gemm_int8_max_k = 1 << 16 };
_Static_assert(255ll * 127 * gemm_int8_max_k < 1ll << 31, "a sum may overflow");
#endif
