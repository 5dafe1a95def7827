#if defined(__x86_64__)
#include "gemm/gemm.h"
#include "cpu/vector_avx2.h"

enum { MR = 6, VECTORS = 2, REGISTERS = 16, STEPS = 4 };
#define TILE_CASES TILE_CASES_6
#include "gemm/gemm_f32_kernels.h"

const struct gemm_kernels gemm_f32_avx2_6x16 = {MR, NR, 1, sizeof(float), 1024, 16, 4, 16, pack_a, pack_b, tile, 0};
#pragma clang attribute pop
#endif
