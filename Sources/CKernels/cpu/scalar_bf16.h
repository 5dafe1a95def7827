// bf16 in scalar code: the upper half of a float.
#ifndef DMAE_SCALAR_BF16_H
#define DMAE_SCALAR_BF16_H
#include "dmae_kernels.h"

#include <string.h>

/// To the nearest bf16, ties to even; infinities stay, and a NaN stays one.
static inline uint16_t bf16_from_float(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((x == x ? bits + 0x7fff + (bits >> 16 & 1) : bits | 0x00400000) >> 16);
}
static inline float float_from_bf16(uint16_t half) {
    const uint32_t bits = (uint32_t)half << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
/// Element `index` of a tensor of either type.
static inline float element_at(dmae_type type, const void *tensor, size_t index) {
    return type == DMAE_TYPE_BF16 ? float_from_bf16(((const uint16_t *)tensor)[index]) : ((const float *)tensor)[index];
}
static inline void set_element(dmae_type type, void *tensor, size_t index, float value) {
    if (type == DMAE_TYPE_BF16) ((uint16_t *)tensor)[index] = bf16_from_float(value);
    else ((float *)tensor)[index] = value;
}
#endif
