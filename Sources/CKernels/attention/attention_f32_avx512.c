#if defined(__x86_64__)
#include "attention/attention.h"
#include "cpu/vector_avx512.h"

enum { MR = 14, VECTORS = 2, REGISTERS = 32, STEPS = 1 };
#define TILE_CASES TILE_CASES_14
#define TYPE DMAE_TYPE_F32
#include "attention/attention_kernels.h"

const struct attention_kernels attention_f32_avx512 = {forward, backward};
#pragma clang attribute pop
#endif
