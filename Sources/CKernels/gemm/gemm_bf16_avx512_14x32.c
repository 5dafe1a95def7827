#if defined(__x86_64__)
#define KERNEL(part) gemm_bf16_avx512_14x32_##part
#include "gemm/gemm.h"
#include "cpu/vector_avx512.h"

// Without bf16 multiply-adds the rounded operands are multiplied in float32, which is exact.
#define OPERAND(x) v_round_to_bf16(x)
enum { MR = 14, VECTORS = 2, REGISTERS = 32, STEPS = 1 };
#define TILES_PACK_B
#include "gemm/gemm_f32_kernels.h"

const struct gemm_kernels gemm_bf16_avx512_14x32 = {
    .mr = MR,
    .nr = NR,
    .k_unit = 1,
    .value_bytes = sizeof(float),
    .max_kc = 1024,
    .max_chunk_a = 4,
    .max_chunk_b = 2,
    .is_emulated = true,
    .group_a = 1,
    .max_prefetch_width = 1536,
    .min_split_panels = 24,
    .tiles_pack_b = true,
    .prefetches_transposed = true,
    .pack_a = KERNEL(pack_a),
    .pack_b = KERNEL(pack_b),
    .tile = KERNEL(tile),
};
#pragma clang attribute pop
#endif
