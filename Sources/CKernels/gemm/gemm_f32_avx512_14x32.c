#if defined(__x86_64__)
#include "gemm/gemm.h"
#include "cpu/vector_avx512.h"

enum { MR = 14, VECTORS = 2, REGISTERS = 32, STEPS = 1 };
#define TILE_CASES TILE_CASES_14
#include "gemm/gemm_f32_kernels.h"

const struct gemm_kernels gemm_f32_avx512_14x32 = {MR, NR, 1, sizeof(float), 1600, 4, 2, 1, pack_a, pack_b, tile, 0};
#pragma clang attribute pop
#endif
