#if defined(__x86_64__)
#define KERNEL(part) adamw_f32_avx2_##part
#include "adamw/adamw.h"
#include "cpu/vector_avx2.h"
#include "adamw/adamw_f32_kernels.h"

const struct adamw_f32_kernels adamw_f32_avx2 = {KERNEL(update)};
#pragma clang attribute pop
#endif
