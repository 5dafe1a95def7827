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
    .max_kc = gemm_int8_max_k,
    .max_chunk_a = 4,
    .max_chunk_b = 2,
    .group_a = 1,
    .max_prefetch_width = 512,
    .pack_a = KERNEL(pack_a),
    .pack_b = KERNEL(pack_b),
    .tile = KERNEL(tile),
    .header_bytes = HEAD_WORDS * sizeof(float),
};
#pragma clang attribute pop
#endif
