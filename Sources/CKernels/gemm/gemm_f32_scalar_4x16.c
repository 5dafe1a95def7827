#define OPERAND(x) (x)
#include "gemm/gemm_scalar_4x16.h"

const struct gemm_kernels gemm_f32_scalar_4x16 = {MR, NR, 1, sizeof(float), 1024, 4, 2, 1, pack_a, pack_b, tile, 0};
