#define KERNEL(part) attention_f32_scalar_##part
#define TYPE DMAE_TYPE_F32
#define OPERAND(x) (x)
#include "attention/attention_scalar.h"

const struct attention_kernels attention_f32_scalar = {KERNEL(forward), KERNEL(backward)};
