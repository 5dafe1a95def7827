#define KERNEL(part) peak_f32_scalar_##part
#include "peak/peak.h"
#include "peak/peak_scalar_kernels.h"

const struct peak_kernels peak_f32_scalar = {2 * CHAINS, KERNEL(run)};
