#if defined(__x86_64__)
#include "layernorm/layernorm.h"
#include "cpu/vector_avx2.h"
#include "layernorm/layernorm_f32_kernels.h"

const struct layernorm_f32_kernels layernorm_f32_avx2 = {statistics, apply, backward};
#pragma clang attribute pop
#endif
