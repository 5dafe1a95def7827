#if defined(__x86_64__)
#include "peak/peak.h"
#include "cpu/vector_avx2.h"
#include "peak/peak_f32_kernels.h"

const struct peak_kernels peak_f32_avx2 = {2 * LANES * CHAINS, run};
// Its products of bf16 are done in float32.
const struct peak_kernels peak_bf16_avx2 = {2 * LANES * CHAINS, run};
#pragma clang attribute pop
#endif
