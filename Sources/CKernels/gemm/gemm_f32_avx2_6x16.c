#if defined(__x86_64__)
#include "gemm/gemm.h"
#include "cpu/vector_avx2.h"

enum { MR = 6, VECTORS = 2, REGISTERS = 16 };
#include "gemm/gemm_f32_kernels.h"

static void tile(const struct gemm_f32_tile *t) {
    switch (t->rows) {
        ROWS_CASE(1) ROWS_CASE(2) ROWS_CASE(3) ROWS_CASE(4) ROWS_CASE(5) ROWS_CASE(6)
    }
}

const struct gemm_f32_kernels gemm_f32_avx2_6x16 = {MR, NR, pack_a, pack_b, tile};
#pragma clang attribute pop
#endif
