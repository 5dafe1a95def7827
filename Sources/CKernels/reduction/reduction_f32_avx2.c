#if defined(__x86_64__)
#define KERNEL(part) reduction_f32_avx2_##part
#include "reduction/reduction.h"
#include "cpu/vector_avx2.h"
#include "reduction/reduction_f32_kernels.h"

const struct reduction_f32_kernels reduction_f32_avx2 = {KERNEL(column_sum), KERNEL(sum_of_squares)};
#pragma clang attribute pop
#endif
