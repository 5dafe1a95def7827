#define KERNEL(part) gemm_bf16_scalar_4x16_##part
#include "cpu/scalar_bf16.h"

#define OPERAND(x) float_from_bf16(bf16_from_float(x))
#include "gemm/gemm_scalar_4x16.h"

const struct gemm_kernels gemm_bf16_scalar_4x16 = {
    .mr = MR,
    .nr = NR,
    .k_unit = 1,
    .value_bytes = sizeof(float),
    .max_kc = 1024,
    .max_chunk_a = 4,
    .max_chunk_b = 2,
    .is_emulated = true,
    .group_a = 1,
    .pack_a = KERNEL(pack_a),
    .pack_b = KERNEL(pack_b),
    .tile = KERNEL(tile),
};
