#if defined(__x86_64__)
#define KERNEL(part) attention_bf16_avx2_##part
#include "attention/attention.h"
#include "cpu/vector_avx2.h"

// Without bf16 multiply-adds the rounded operands are multiplied in float32, which is exact.
enum { MR = 6, VECTORS = 2, REGISTERS = 16, STEPS = 4 };
#define TYPE DMAE_TYPE_BF16
#include "attention/attention_kernels.h"

const struct attention_kernels attention_bf16_avx2 = {KERNEL(forward), KERNEL(backward)};
#pragma clang attribute pop
#endif
