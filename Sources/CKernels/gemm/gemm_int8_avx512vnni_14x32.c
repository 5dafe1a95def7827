#if defined(__x86_64__)
#define KERNEL(part) gemm_int8_avx512vnni_14x32_##part
#include "gemm/gemm.h"
#include "gemm/quantisation.h"
#define VECTOR_TARGET "avx512f,avx512bw,avx512dq,avx512vl,fma,avx512vnni"
#include "cpu/vector_avx512.h"

enum { MR = 14, VECTORS = 2, REGISTERS = 32, STEPS = 1 };

#include "gemm/gemm_int8_vnni.h"
#include "gemm/gemm_int8_kernels.h"

const struct gemm_kernels gemm_int8_avx512vnni_14x32 = {
    .mr = MR,
    .nr = NR,
    .k_unit = UNIT,
    .value_bytes = 1,
    .k_block = gemm_int8_most_k,
    .run_a = 4,
    .run_b = 2,
    .round_a = 1,
    .narrow = 512,
    .pack_a = KERNEL(pack_a),
    .pack_b = KERNEL(pack_b),
    .tile = KERNEL(tile),
    .head_bytes = HEAD_WORDS * sizeof(float),
};
#pragma clang attribute pop
#endif
