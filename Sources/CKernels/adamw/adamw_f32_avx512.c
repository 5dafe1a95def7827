#if defined(__x86_64__)
#include "adamw/adamw.h"
#include "cpu/vector_avx512.h"
#include "adamw/adamw_f32_kernels.h"

const struct adamw_f32_kernels adamw_f32_avx512 = {update};
#pragma clang attribute pop
#endif
