#if defined(__x86_64__)
#define KERNEL(part) adamw_f32_avx512_##part
#include "adamw/adamw.h"
#include "cpu/vector_avx512.h"
#include "adamw/adamw_f32_kernels.h"

const struct adamw_f32_kernels adamw_f32_avx512 = {KERNEL(update)};
#pragma clang attribute pop
#endif
