#if defined(__x86_64__)
#define KERNEL(part) gemm_bf16_avx2_6x16_##part
#include "gemm/gemm.h"
#include "cpu/vector_avx2.h"

// Without bf16 multiply-adds the rounded operands are multiplied in float32, which is exact.
#define OPERAND(x) v_round_to_bf16(x)
enum { MR = 6, VECTORS = 2, REGISTERS = 16, STEPS = 4 };
#include "gemm/gemm_f32_kernels.h"

const struct gemm_kernels gemm_bf16_avx2_6x16 = {
    .mr = MR,
    .nr = NR,
    .k_unit = 1,
    .value_bytes = sizeof(float),
    .max_kc = 1024,
    .max_chunk_a = 16,
    .max_chunk_b = 4,
    .is_emulated = true,
    .group_a = 4,
    .max_prefetch_width = 256,
    .prefetches_transposed = true,
    .prefetches_shared = true,
    .pack_a = KERNEL(pack_a),
    .pack_b = KERNEL(pack_b),
    .tile = KERNEL(tile),
};
#pragma clang attribute pop
#endif
