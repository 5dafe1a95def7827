#if defined(__x86_64__)
#define KERNEL(part) layernorm_f32_avx2_##part
#include "layernorm/layernorm.h"
#include "cpu/vector_avx2.h"
#include "layernorm/layernorm_f32_kernels.h"

const struct layernorm_f32_kernels layernorm_f32_avx2 = {KERNEL(statistics), KERNEL(apply), KERNEL(backward)};
#pragma clang attribute pop
#endif
