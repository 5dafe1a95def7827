#include "cpu/scalar_bf16.h"

#define OPERAND(x) float_from_bf16(bf16_from_float(x))
#include "gemm/gemm_scalar_4x16.h"

const struct gemm_kernels gemm_bf16_scalar_4x16 = {MR, NR, 1, sizeof(float), 1024, 4, 2, 1, pack_a, pack_b, tile, 0};
