#if defined(__x86_64__)
#include "gemm/gemm.h"
#include "cpu/vector_avx512.h"

enum { MR = 14, VECTORS = 2, REGISTERS = 32 };
#include "gemm/gemm_f32_kernels.h"

static void tile(const struct gemm_f32_tile *t) {
    switch (t->rows) {
        ROWS_CASE(1) ROWS_CASE(2) ROWS_CASE(3) ROWS_CASE(4) ROWS_CASE(5) ROWS_CASE(6) ROWS_CASE(7)
        ROWS_CASE(8) ROWS_CASE(9) ROWS_CASE(10) ROWS_CASE(11) ROWS_CASE(12) ROWS_CASE(13) ROWS_CASE(14)
    }
}

const struct gemm_f32_kernels gemm_f32_avx512_14x32 = {MR, NR, pack_a, pack_b, tile};
#pragma clang attribute pop
#endif
