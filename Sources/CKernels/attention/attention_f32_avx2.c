#if defined(__x86_64__)
#define KERNEL(part) attention_f32_avx2_##part
#include "attention/attention.h"
#include "cpu/vector_avx2.h"

enum { MR = 6, VECTORS = 2, REGISTERS = 16, STEPS = 4 };
#define TYPE DMAE_TYPE_F32
#include "attention/attention_kernels.h"

const struct attention_kernels attention_f32_avx2 = {KERNEL(forward), KERNEL(backward)};
#pragma clang attribute pop
#endif
