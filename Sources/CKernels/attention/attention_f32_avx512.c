#if defined(__x86_64__)
#define KERNEL(part) attention_f32_avx512_##part
#include "attention/attention.h"
#include "cpu/vector_avx512.h"

enum { MR = 14, VECTORS = 2, REGISTERS = 32, STEPS = 1 };
#define TYPE DMAE_TYPE_F32
#include "attention/attention_kernels.h"

const struct attention_kernels attention_f32_avx512 = {KERNEL(forward), KERNEL(backward)};
#pragma clang attribute pop
#endif
