#if defined(__x86_64__)
#define KERNEL(part) peak_f32_avx512_##part
#include "peak/peak.h"
#include "cpu/vector_avx512.h"
#include "peak/peak_f32_kernels.h"

const struct peak_kernels peak_f32_avx512 = {2 * LANES * CHAINS, KERNEL(run)};
#pragma clang attribute pop
#endif
