#if defined(__x86_64__)
#define KERNEL(part) peak_int8_amx_##part
#include "peak/peak.h"
#define VECTOR_TARGET "avx512f,avx512bw,avx512dq,avx512vl,fma,amx-tile,amx-int8"
#include "cpu/vector_avx512.h"
#define TILE_PRODUCT _tile_dpbusd
#define SUM peak_sum_i32(sums, 4 * TILE_SIDE * TILE_SIDE)
#include "peak/peak_amx_kernels.h"

const struct peak_kernels peak_int8_amx = {4 * 2 * 16 * 16 * 64, KERNEL(run)};
#pragma clang attribute pop
#endif
