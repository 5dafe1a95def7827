#if defined(__x86_64__)
#define KERNEL(part) gelu_f32_avx2_##part
#include "gelu/gelu.h"
#include "cpu/vector_avx2.h"
#include "gelu/gelu_f32_kernels.h"

const struct gelu_f32_kernels gelu_f32_avx2 = {KERNEL(forward), KERNEL(backward)};
#pragma clang attribute pop
#endif
