#if defined(__x86_64__)
#include "layernorm/layernorm.h"
#include "cpu/vector_avx512.h"
#include "layernorm/layernorm_f32_kernels.h"

const struct layernorm_f32_kernels layernorm_f32_avx512 = {statistics, apply, backward};
#pragma clang attribute pop
#endif
