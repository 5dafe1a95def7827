#if defined(__x86_64__)
#include "peak/peak.h"
#include "cpu/vector_avx2.h"
#include "peak/peak_f32_kernels.h"

const struct peak_f32_kernels peak_f32_avx2 = {2 * LANES * CHAINS, run};
#pragma clang attribute pop
#endif
