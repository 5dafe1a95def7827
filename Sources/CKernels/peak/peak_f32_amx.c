#if defined(__x86_64__)
#define KERNEL(part) peak_f32_amx_##part
#include "peak/peak.h"
#define VECTOR_TARGET "avx512f,avx512bw,avx512dq,avx512vl,fma,amx-tile,amx-bf16"
#include "cpu/vector_avx512.h"
#define TILE_PRODUCT _tile_dpbf16ps
#include "peak/peak_amx_kernels.h"

// A product of float32 is six of bf16.
static void KERNEL(run_six)(size_t iterations) { KERNEL(run)(6 * iterations); }

const struct peak_kernels peak_f32_amx = {4 * 2 * 16 * 16 * 32, KERNEL(run_six)};
#pragma clang attribute pop
#endif
