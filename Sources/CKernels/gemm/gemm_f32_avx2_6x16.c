#if defined(__x86_64__)
#define KERNEL(part) gemm_f32_avx2_6x16_##part
#include "gemm/gemm.h"
#include "cpu/vector_avx2.h"

enum { MR = 6, VECTORS = 2, REGISTERS = 16, STEPS = 4 };
#include "gemm/gemm_f32_kernels.h"

const struct gemm_kernels gemm_f32_avx2_6x16 = {
    .mr = MR,
    .nr = NR,
    .k_unit = 1,
    .value_bytes = sizeof(float),
    .k_block = 1024,
    .run_a = 16,
    .run_b = 4,
    .round_a = 4,
    .narrow = 256,
    .fetches_across = true,
    .fetches_shared = true,
    .pack_a = KERNEL(pack_a),
    .pack_b = KERNEL(pack_b),
    .tile = KERNEL(tile),
};
#pragma clang attribute pop
#endif
