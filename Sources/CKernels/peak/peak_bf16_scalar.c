#define KERNEL(part) peak_bf16_scalar_##part
#include "peak/peak.h"
#include "peak/peak_scalar_kernels.h"

// bf16 operands are multiplied in float32.
const struct peak_kernels peak_bf16_scalar = {2 * CHAINS, KERNEL(run)};
