#if defined(__x86_64__)
#include "gelu/gelu.h"
#include "cpu/vector_avx512.h"
#include "gelu/gelu_f32_kernels.h"

const struct gelu_f32_kernels gelu_f32_avx512 = {forward, backward};
#pragma clang attribute pop
#endif
