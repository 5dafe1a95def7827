#define KERNEL(part) attention_bf16_scalar_##part
#define TYPE DMAE_TYPE_BF16
#define OPERAND(x) float_from_bf16(bf16_from_float(x))
#include "attention/attention_scalar.h"

const struct attention_kernels attention_bf16_scalar = {KERNEL(forward), KERNEL(backward)};
