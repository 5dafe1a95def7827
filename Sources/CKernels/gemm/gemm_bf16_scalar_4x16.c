#include <stdint.h>
#include <string.h>

/// To the nearest bf16, ties to even; infinities and NaNs stay what they are.
static float round_to_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (x == x) bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
    memcpy(&x, &bits, sizeof x);
    return x;
}
#define OPERAND(x) round_to_bf16(x)
#include "gemm/gemm_scalar_4x16.h"

const struct gemm_kernels gemm_bf16_scalar_4x16 = {MR, NR, 1, sizeof(float), pack_a, pack_b, tile};
