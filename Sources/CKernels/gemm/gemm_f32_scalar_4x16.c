#define KERNEL(part) gemm_f32_scalar_4x16_##part
#define OPERAND(x) (x)
#include "gemm/gemm_scalar_4x16.h"

const struct gemm_kernels gemm_f32_scalar_4x16 = {
    .mr = MR,
    .nr = NR,
    .k_unit = 1,
    .value_bytes = sizeof(float),
    .max_kc = 1024,
    .max_chunk_a = 4,
    .max_chunk_b = 2,
    .group_a = 1,
    .pack_a = KERNEL(pack_a),
    .pack_b = KERNEL(pack_b),
    .tile = KERNEL(tile),
};
