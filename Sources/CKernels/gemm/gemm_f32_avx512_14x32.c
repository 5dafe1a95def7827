#if defined(__x86_64__)
#define KERNEL(part) gemm_f32_avx512_14x32_##part
#include "gemm/gemm.h"
#include "cpu/vector_avx512.h"

enum { MR = 14, VECTORS = 2, REGISTERS = 32, STEPS = 1 };
#define TILES_PACK_B
#include "gemm/gemm_f32_kernels.h"

const struct gemm_kernels gemm_f32_avx512_14x32 = {
    .mr = MR,
    .nr = NR,
    .k_unit = 1,
    .value_bytes = sizeof(float),
    .k_block = 1600,
    .run_a = 4,
    .run_b = 2,
    .round_a = 1,
    .narrow = 1536,
    .many_shared = 24,
    .packs_in_tiles = true,
    .fetches_across = true,
    .pack_a = KERNEL(pack_a),
    .pack_b = KERNEL(pack_b),
    .tile = KERNEL(tile),
};
#pragma clang attribute pop
#endif
