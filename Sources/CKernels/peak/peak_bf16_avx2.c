#if defined(__x86_64__)
#define KERNEL(part) peak_bf16_avx2_##part
#include "peak/peak.h"
#include "cpu/vector_avx2.h"
#include "peak/peak_f32_kernels.h"

// bf16 operands are multiplied in float32.
const struct peak_kernels peak_bf16_avx2 = {2 * LANES * CHAINS, KERNEL(run)};
#pragma clang attribute pop
#endif
