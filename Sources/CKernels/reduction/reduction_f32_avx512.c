#if defined(__x86_64__)
#include "reduction/reduction.h"
#include "cpu/vector_avx512.h"
#include "reduction/reduction_f32_kernels.h"

const struct reduction_f32_kernels reduction_f32_avx512 = {column_sum, sum_of_squares};
#pragma clang attribute pop
#endif
