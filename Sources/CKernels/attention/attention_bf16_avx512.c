#if defined(__x86_64__)
#define KERNEL(part) attention_bf16_avx512_##part
#include "attention/attention.h"
#include "cpu/vector_avx512.h"

// Without bf16 multiply-adds the rounded operands are multiplied in float32, which is exact.
enum { MR = 14, VECTORS = 2, REGISTERS = 32, STEPS = 1 };
#define TYPE DMAE_TYPE_BF16
#include "attention/attention_kernels.h"

const struct attention_kernels attention_bf16_avx512 = {KERNEL(forward), KERNEL(backward)};
#pragma clang attribute pop
#endif
